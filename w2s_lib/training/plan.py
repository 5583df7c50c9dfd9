"""The settings of a training, checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from .._checks import require
from .network import Network
from .optimisers import SGD, Adam


@dataclass(frozen=True)
class Plan:
    """What `train` takes, for a number of models on so many inputs."""

    network: Network
    inputs: int
    steps: int
    loss: Callable
    optimizer: Adam | SGD
    batch: int | None  # examples a step; None: all
    order: int | None  # seed of the batches; None: each model's own
    snapshots: tuple[int, ...]  # steps
    lr: Tensor  # (models,)
    l2: Tensor  # (models,)
    seeds: np.ndarray  # (models,)

    def __post_init__(self) -> None:
        models, batch = len(self.lr), self.batch
        require(self.steps >= 1, "steps", "must be at least 1")
        require((self.lr > 0).all(), "lr", "must be positive")
        listed = self.seeds.ndim == 1 and len(self.seeds) == models and self.seeds.min() >= 0
        require(listed, "seeds", f"must be a list of numbers >= 0, one for each of {models} models")
        fits = batch is None or 1 <= batch <= self.inputs
        require(fits, "batch", f"must lie between 1 and the number of inputs, {self.inputs}")
        require(self.order is None or self.order >= 0, "order", "must be a number >= 0, or None")
        shared = batch is None or self.order is not None or not getattr(self.loss, "counts_models", False)
        require(shared, "order", "is None, but this loss needs batches that all models share: pass a number")
        there = all(0 <= t <= self.steps for t in self.snapshots)
        require(there, "snapshots", f"steps must lie in 0..{self.steps}")

    def __len__(self) -> int:
        return len(self.lr)

    def __getitem__(self, rows: slice) -> Plan:
        return replace(self, lr=self.lr[rows], l2=self.l2[rows], seeds=self.seeds[rows])
