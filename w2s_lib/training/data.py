"""What a stack of models is trained on: inputs, labels and example weights, checked; batches of them."""

from __future__ import annotations

import numpy as np
import torch

from .._checks import check_labels, require
from ..losses import Loss, Squared
from .network import inputs


class Data:
    """Inputs, labels and example weights of a stack of models, checked; `name` goes before the argument's in errors."""

    def __init__(
        self, X, targets, weights, mask, models, compute, per_model=(), simplex=True, allow_empty=False, name=""
    ):
        compute.check()
        self.X = inputs(X, torch.empty(0, dtype=compute.dtype, device=compute.device), name + "X")
        Q, w, mask = (None if x is None else torch.as_tensor(x).cpu() for x in (targets, weights, mask))
        n, shape = self.X.shape[-2], "(inputs, classes) or (models, inputs, classes)"
        require(
            Q.ndim in (2, 3), name + "targets", f"need shape {shape}, got {tuple(Q.shape)}; one_hot makes it of labels"
        )
        require(Q.is_floating_point(), name + "targets", f"are of type {Q.dtype}; convert them to floating point")
        Q = Q if Q.ndim == 3 else Q[None]
        require(Q.shape[1] == n, name + "targets", f"have {Q.shape[1]} inputs, X has {n}")
        for what, x in (("weights", w), ("mask", mask)):
            require(x is None or x.ndim == 2, name + what, "need two axes, the first for the models")
        require(mask is None or ((mask == 0) | (mask == 1)).all(), name + "mask", "must be 0 or 1")
        counts = [len(x) for x in (Q, w, mask, self.X if self.X.ndim == 3 else None, *per_model) if x is not None]
        E = max(counts) if models is None else models
        require(len(Q) in (1, E), name + "targets", f"are for {len(Q)} models, there are {E}")
        require(self.X.ndim == 2 or len(self.X) == E, name + "X", f"has the inputs of {len(self.X)} models, not {E}")
        require(mask is None or mask.shape == (E, self.X.shape[-1]), name + "mask", f"need {(E, self.X.shape[-1])}")
        used = torch.ones(len(Q), n, dtype=torch.bool)
        if w is not None:
            require(w.shape == (E, n), name + "weights", f"need shape {(E, n)}, got {tuple(w.shape)}")
            good = torch.isfinite(w).all() and (w >= 0).all() and (w.sum(1) > 0).all()
            require(good, name + "weights", "must be finite and >= 0, with at least one example a model")
            used = w > 0 if len(Q) == E else (w > 0).any(0, keepdim=True)
        rows = Q[used]  # the labels of examples that no model uses may be anything
        require(torch.isfinite(rows).all(), name + "targets", "hold NaN or infinity")
        if simplex:
            check_labels(rows, name=name + "targets")
            known = torch.where(used[:, :, None], Q, 0)
            mass = known.sum(1) if w is None else (w.to(known)[:, None] @ known)[:, 0]
            empty = [] if allow_empty else (mass == 0).nonzero().tolist()
            cases = "model {} has no example of class {}".format(*empty[0]) if empty else ""
            remedy = f"({len(empty)} such cases); draw stratified samples, or pass allow_empty=True"
            require(not empty, name + "targets", f"{cases} {remedy}")
        self.targets, self.weights, self.mask, self.models = Q, w, mask, E

    def of(self, rows):
        """X, labels (models or 1, classes, inputs) and weights (models, inputs) or None of the models `rows`."""
        X = self.X if self.X.ndim == 2 else self.X[rows]
        Q = (self.targets if len(self.targets) == 1 else self.targets[rows]).to(X).mT.contiguous()
        if self.weights is None:
            return X, Q, None
        w = self.weights[rows].to(X)
        return X, torch.where((w > 0)[:, None], Q, 1 / Q.shape[1]), w

    def own_rows(self, rows):
        """The same; where all models use fewer than half of the inputs, X is (models, rows, features), their own."""
        X, Q, w = self.of(rows)
        most = len(X) if w is None or X.ndim == 3 else int((w > 0).sum(1).max())
        if most >= X.shape[-2] / 2 or w is None or X.ndim == 3:
            return X, Q, w
        own = (w > 0).to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]  # padded with weights of 0
        return X[own], take(Q, own), w.gather(1, own)


def take(x, rows):
    """Examples `rows`, (inputs,) or (models, inputs), of x (models or 1, k, inputs)."""
    if rows.ndim == 1:
        return x[..., rows]
    return x.expand(len(rows), -1, -1).gather(2, rows[:, None].expand(-1, x.shape[1], -1))


def endless_batches(n, batch, seeds, order, device):
    """Batches without end: one permutation of the inputs behind the other, cut into pieces of `batch`."""
    keys = [[order, 0]] if order is not None else [[seed, 1] for seed in seeds]
    streams = [np.random.default_rng(key) for key in keys]
    left = np.empty((len(streams), 0), dtype=np.int64)
    while True:
        while batch and left.shape[1] < batch:
            left = np.concatenate([left, np.stack([rng.permutation(n) for rng in streams])], 1)
        rows, left = left[:, :batch], left[:, batch:]
        yield torch.as_tensor(rows[0] if order is not None else rows, device=device) if batch else None


def on_simplex(loss):
    """Whether labels must be distributions: not for the squared loss, and a user's own may take anything."""
    return isinstance(loss, Loss) and not isinstance(loss, Squared)
