"""What a stack of models is trained on: inputs, labels and example weights, checked; batches of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .._checks import Array, check_labels, require
from .compute import Compute
from .network import as_inputs


@dataclass(frozen=True)
class Data:
    """What `check_data` lets through; the inputs are on the device, the rest is on the CPU."""

    X: Tensor  # (inputs, features), shared; or (models, inputs, features)
    targets: Tensor  # (models, inputs, classes), a view where the models share them
    weights: Tensor | None  # (models, inputs)
    mask: Tensor | None  # (models, features), 0 or 1

    def part(self, rows: slice, compact: bool = False) -> tuple[Tensor, Tensor, Tensor | None]:
        """X, labels (models, classes, inputs) and weights (models, inputs) or None of the models `rows`.

        compact : where all models use fewer than half of the inputs, X is (models, inputs, features), those they use
        """
        X = self.X if self.X.ndim == 2 else self.X[rows]
        Q = self.targets[rows].to(X).mT.contiguous()
        if self.weights is None:
            return X, Q, None
        used, w = self.weights[rows] > 0, self.weights[rows].to(X)
        Q, most = torch.where(used[:, None].to(X.device), Q, 1 / Q.shape[1]), int(used.sum(1).max())
        if not compact or X.ndim == 3 or most >= len(X) / 2:
            return X, Q, w
        first = used.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most].to(X.device)
        return X[first], take(Q, first), w.gather(1, first)  # padded with weights of 0


def check_data(
    X: Array,
    targets: Array,
    weights: Array | None,
    mask: Array | None,
    compute: Compute,
    counts: Sequence[int],
    simplex: bool = True,
    allow_empty: bool = False,
) -> Data:
    """Data of a stack of models; ValueError that names the argument. `counts` are lengths of arguments not given here.

    simplex : the labels must be probabilities; allow_empty : as in `train`
    """
    X = as_inputs(X, torch.empty(0, dtype=compute.dtype, device=compute.device), "X")
    Q, (w, mask) = _as_targets(targets), (None if x is None else torch.as_tensor(x).cpu() for x in (weights, mask))
    n, d = X.shape[-2:]
    for name, x in (("weights", w), ("mask", mask)):
        require(x is None or x.ndim == 2, name, "need two axes, the first for the models")
    E = max(len(Q), len(X) if X.ndim == 3 else 1, *(len(x) for x in (w, mask) if x is not None), *counts)
    require(len(Q) in (1, E), "targets", f"are for {len(Q)} models, there are {E}")
    require(X.ndim == 2 or len(X) == E, "X", f"has the inputs of {len(X)} models, there are {E}")
    require(Q.shape[1] == n, "targets", f"have {Q.shape[1]} inputs, X has {n} (integers are class labels)")
    if mask is not None:
        require(mask.shape == (E, d), "mask", f"need shape {(E, d)}, got {tuple(mask.shape)}")
        require(((mask == 0) | (mask == 1)).all(), "mask", "must be 0 or 1")
    if w is not None:
        require(w.shape == (E, n), "weights", f"need shape {(E, n)}, got {tuple(w.shape)}")
        good = torch.isfinite(w).all() and (w >= 0).all() and (w.sum(1) > 0).all()
        require(good, "weights", "must be finite and >= 0, with at least one example a model")
    _check_used_targets(Q, w, simplex, allow_empty)
    return Data(X, Q.expand(E, -1, -1), w, mask)


def _as_targets(targets: Array) -> Tensor:
    """Labels (models or 1, inputs, classes); integers are class labels and become one-hot."""
    Q = torch.as_tensor(targets).cpu()
    real = Q.is_floating_point()
    good = Q.numel() and Q.ndim in ((2, 3) if real else (1, 2)) and (real or (Q >= 0).all())
    remedy = "integers are class labels 0, 1, 2, ..., (inputs,) or (models, inputs); real numbers have a last axis more"
    require(good, "targets", f"{remedy}, the classes; got {tuple(Q.shape)} of {Q.dtype}")
    Q = Q if real else torch.nn.functional.one_hot(Q.long()).float()
    return Q if Q.ndim == 3 else Q[None]


def _check_used_targets(Q: Tensor, w: Tensor | None, simplex: bool, allow_empty: bool) -> None:
    """ValueError for bad labels of examples that a model uses; the labels of others may be anything."""
    Q = Q if w is None else Q.expand(len(w), -1, -1)
    known = Q if w is None else Q[w > 0]
    require(torch.isfinite(known).all(), "targets", "hold NaN or infinity")
    if simplex:
        check_labels(known, name="targets")
    if simplex and not allow_empty:
        mass = Q.sum(1) if w is None else (w.to(Q)[:, None] @ torch.where((w > 0)[:, :, None], Q, 0))[:, 0]
        empty = (mass == 0).nonzero().tolist()  # [[model, class], ...]
        case = "model {} has no example of class {}".format(*empty[0]) if empty else ""
        remedy = f"({len(empty)} such cases); draw stratified samples, or pass allow_empty=True"
        require(not empty, "targets", f"{case} {remedy}")


def epochs(n: int, batch: int, keys: Sequence[Sequence[int]]) -> Iterator[Tensor]:
    """Blocks of n // batch batches without end, (batches, keys, batch), each key a stream of random numbers.

    A stream is one permutation of the inputs behind the other, cut into pieces of `batch`.
    """
    streams, count = [np.random.default_rng(key) for key in keys], n // batch
    left = np.empty((len(streams), 0), dtype=np.int64)
    while True:
        while left.shape[1] < count * batch:
            left = np.concatenate([left, np.stack([rng.permutation(n) for rng in streams])], 1)
        block, left = np.split(left, [count * batch], axis=1)
        yield torch.as_tensor(block.reshape(len(streams), count, batch).swapaxes(0, 1))


def take(x: Tensor, rows: Tensor) -> Tensor:
    """Examples `rows` (..., models or 1, batch) of x (models, k, inputs): (..., models, k, batch), or 1 if x has 1."""
    x = x.expand(*rows.shape[:-2], *x.shape)
    if x.shape[-1] == 1:
        return x.contiguous()
    return x.gather(-1, rows[..., None, :].expand(*x.shape[:-1], -1))  # thrice as fast as an index on the last axis


def take_inputs(X: Tensor, rows: Tensor) -> Tensor:
    """Inputs `rows` (models or 1, batch) of X (inputs, features) or (models, inputs, features)."""
    if X.ndim == 2:
        return X.index_select(0, rows[0]) if len(rows) == 1 else X[rows]
    return X.gather(1, rows[:, :, None].expand(len(X), -1, X.shape[2]))
