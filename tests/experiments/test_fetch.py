"""Where data sets come from: checked files, the cache, servers and packages that stand in for the network."""

import gzip
import hashlib
import http.server
import io
import pwd
import sys
import tarfile
import threading
import types
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from dialogues import dialogue, write_pairs

from w2s_lib.experiments import fetch, tasks
from w2s_lib.experiments.sweep_store import digest
from w2s_lib.experiments.tasks import load_images, load_task, prompt

read_images = load_images.__wrapped__  # anew at each call


def test_the_cache_is_where_it_is_told_to_be(monkeypatch, tmp_path):
    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "a"))
    assert fetch.cache_folder() == tmp_path / "a" and fetch.cache_folder(tmp_path) == tmp_path
    monkeypatch.delenv("W2S_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch.cache_folder() == tmp_path / ".cache" / "w2s"


def test_without_a_home_the_message_says_what_to_set(monkeypatch):
    def unknown(user):
        raise KeyError(user)

    monkeypatch.delenv("W2S_CACHE", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(RuntimeError, match="set W2S_CACHE"):
        fetch.cache_folder()


def test_preference_pairs_from_the_hub(tmp_path, monkeypatch):
    """A stand-in with 22 single-turn pairs and others: cut 6 : 8 : 8, as 3,000 : 4,000 : 4,000."""
    monkeypatch.delenv("W2S_DATA", raising=False)
    pairs = [(dialogue(str(i), "chosen"), dialogue(str(i), "rejected")) for i in range(22)]
    longer = [(a + dialogue("more", "so"), b) for a, b in pairs[:9]]
    (tmp_path / "helpful-base").mkdir()
    write_pairs(tmp_path / "helpful-base/train.jsonl.gz", pairs[:15] + longer)
    write_pairs(tmp_path / "helpful-base/test.jsonl.gz", pairs[15:])
    asked = []

    def download(repository, name, repo_type):
        asked.append((repository, repo_type))
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    task = load_task("preference_pairs")
    assert set(asked) == {("Anthropic/hh-rlhf", "dataset")}
    assert dict(Counter(task.part.tolist())) == {"gold": 8, "transfer": 8, "test": 6}
    assert len({prompt(pair) for pair in task.content}) == 22
    assert digest(load_task("preference_pairs")) == digest(task)

    def unreachable(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(OSError, match=r"preference_pairs: .*no route.*W2S_DATA/hh_rlhf_helpful"):
        load_task("preference_pairs")


def test_bad_pairs_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("W2S_DATA", str(tmp_path))
    folder = tmp_path / "hh_rlhf_helpful"
    folder.mkdir()
    for name in fetch.PREFERENCE_FILES.values():
        write_pairs(folder / name, [(dialogue(q, "yes"), dialogue(q, "no")) for q in "abcd"])
    with (folder / "test.jsonl").open("a") as file:
        file.write('\n{"chosen": "only"}')
    with pytest.raises(ValueError, match=r"test.jsonl, line 5: .*rejected"):
        load_task("preference_pairs")
    (folder / "test.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.jsonl is missing"):
        load_task("preference_pairs")


def test_fetched_reviews_are_checked(tmp_path, monkeypatch):
    """A stand-in for pip that writes a source distribution: the good one is kept, a wrong one refused."""
    monkeypatch.delenv("W2S_DATA", raising=False)
    monkeypatch.setenv("W2S_CACHE", str(tmp_path))
    files = {
        "movieReviewSnippets_GroundTruth.txt": "1\t0.5\tGood .\r\n2\t-1\tBad .\r\n3\t0.5\tGood .\r\n",
        "movieReviewSnippets_anonDataRatings.txt": "1\t.5\t0\t[1, 0]\r\n2\t-1\t0\t[-1, -1]\r\n3\t.5\t0\t[1, 0]",
    }
    other = {  # with byte-order marks, and in another order
        "nytEditorialSnippets_GroundTruth.txt": "\ufeff1_1\t2\tYes .\r\n1_2\t-1\tNo .",
        "nytEditorialSnippets_anonDataRatings.txt": "\ufeff1_2\t-1\t0\t[-1, -1]\r\n1_1\t2\t0\t[2, 2]",
    }

    def archive(members):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return out.getvalue()

    inner = archive({f"hutto_ICWSM_2014/{name}": content.encode() for name, content in (files | other).items()})
    outer = archive({"vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz": inner})
    calls = []

    def pip(command, **kwargs):
        calls.append(command)
        Path(command[command.index("-d") + 1], "vaderSentiment-3.3.2.tar.gz").write_bytes(outer)
        return types.SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(fetch.subprocess, "run", pip)
    with pytest.raises(ValueError, match=r"vaderSentiment-3\.3\.2\.tar\.gz: is damaged"):
        fetch.read_reviews()
    assert not list(tmp_path.iterdir())
    sums = [{name: hashlib.sha256(text.encode()).hexdigest() for name, text in x.items()} for x in (files, other)]
    monkeypatch.setattr(fetch, "REVIEWS_SHA256", hashlib.sha256(outer).hexdigest())
    monkeypatch.setattr(fetch, "REVIEWS_FILES", dict(zip(("film_reviews", "nyt_editorials"), sums)))
    reviews = fetch.read_reviews()
    assert reviews.texts == ("Good .", "Bad .") and reviews.mean.tolist() == [0.5, -1] and reviews.repeated == 1
    assert [ratings.tolist() for ratings in reviews.ratings] == [[1, 0], [-1, -1]]
    fetch.read_reviews()
    assert len(calls) == 2 and calls[0][:4] == [sys.executable, "-m", "pip", "download"], "the cache was not used"
    damaged = tmp_path / "movie" / "movieReviewSnippets_GroundTruth.txt"
    damaged.write_text("1\t0.5")
    with pytest.warns(UserWarning, match="GroundTruth.txt: is damaged"):
        fetch.read_reviews()
    assert len(calls) == 3 and damaged.read_bytes() == files[damaged.name].encode()
    editorials = fetch.read_reviews("nyt_editorials")
    assert editorials.texts == ("Yes .", "No .") and editorials.mean.tolist() == [2, -1]
    assert len(list((tmp_path / "nyt").iterdir())) == 2 and len(calls) == 4
    with pytest.raises(ValueError, match=r"^name: is 'tweets'; must be one of film_reviews, amazon_reviews"):
        fetch.read_reviews("tweets")

    damaged.unlink()
    monkeypatch.setattr(
        fetch.subprocess, "run", lambda *a, **k: types.SimpleNamespace(returncode=1, stderr="no network")
    )
    with pytest.raises(OSError, match=r"film_reviews: .*no network.*W2S_DATA/movie"):
        fetch.read_reviews()


@pytest.mark.parametrize("ratings", ["1\t1\t0\t[1]\r\n3\t1\t0\t[1]", "1\t1\t0\t[1]\r\n1\t1\t0\t[1]", "1\t1\t0\t[1]"])
def test_texts_without_their_ratings_are_refused(monkeypatch, ratings):
    texts = "1\t1\tGood .\r\n2\t1\tFine ."
    monkeypatch.setattr(fetch, "_review_files", lambda name: [texts.encode(), ratings.encode()])
    with pytest.raises(ValueError, match=r"^film_reviews: texts and ratings do not match: \['2'"):
        fetch.read_reviews()


@pytest.fixture
def tiny_fashion(tmp_path, monkeypatch):
    """The address of a server with a Fashion-MNIST of 30 images; the loader believes in its checksums."""
    rng = np.random.default_rng(0)
    folder, sums = tmp_path / "served", {}
    folder.mkdir()
    for name, count in zip(fetch.FASHION_FILES, (20, 20, 10, 10)):
        body = rng.integers(0, 256, (count, 784)) if "images" in name else np.arange(count) % 2
        content = gzip.compress(bytes(16 if "images" in name else 8) + body.astype(np.uint8).tobytes())
        (folder / name).write_bytes(content)
        sums[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.delenv("W2S_DATA", raising=False)
    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "DEBIAN_FASHION", tmp_path / "none")
    monkeypatch.setattr(fetch, "FASHION_FILES", sums)
    monkeypatch.setattr(tasks, "FASHION_KEPT", 10)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()  # seconds until it stops
        monkeypatch.setattr(fetch, "FASHION_URL", f"http://127.0.0.1:{server.server_port}/")
        yield server
        server.shutdown()


def test_fashion_is_fetched_once_and_checked(tiny_fashion, tmp_path, monkeypatch):
    images = read_images("fashion")
    assert images.pixels.shape == (10, 784) and np.bincount(images.labels).tolist() == [5, 5]
    monkeypatch.setattr(fetch, "FASHION_URL", "http://127.0.0.1:9/")
    np.testing.assert_array_equal(read_images("fashion").pixels, images.pixels)
    (tmp_path / "given").mkdir()
    (tmp_path / "cache" / "fashion-mnist").rename(tmp_path / "given" / "fashion-mnist")
    with pytest.raises(OSError, match=r"fashion: .* cannot be fetched .*W2S_DATA/fashion-mnist"):
        read_images("fashion")
    monkeypatch.setenv("W2S_DATA", str(tmp_path / "given"))
    np.testing.assert_array_equal(read_images("fashion").pixels, images.pixels)
    next((tmp_path / "given" / "fashion-mnist").iterdir()).write_bytes(b"something else")
    with pytest.raises(ValueError, match="is damaged"):
        read_images("fashion")


def test_a_wrong_download_is_refused(tiny_fashion, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "FASHION_FILES", dict.fromkeys(fetch.FASHION_FILES, "0" * 64))
    with pytest.raises(ValueError, match="hash"):
        read_images("fashion")
    assert not list(tmp_path.glob("cache/**/*.gz"))


@pytest.mark.parametrize(
    ("module", "extra", "name"), [("pooch", "data", "fashion"), ("huggingface_hub", "text", "preference_pairs")]
)
def test_a_missing_package_names_the_extra(monkeypatch, tmp_path, module, extra, name):
    monkeypatch.delenv("W2S_DATA", raising=False)
    monkeypatch.setattr(fetch, "DEBIAN_FASHION", tmp_path / "none")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{name} .*{module}: pip install 'w2s_lib\[{extra}\]'"):
        read_images(name) if name == "fashion" else load_task(name)
