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
    """The settings of a training of `models` models on `inputs` inputs; what `train` takes, checked."""

    network: Network
    models: int
    inputs: int
    steps: int
    loss: Callable
    optimizer: Adam | SGD
    lr: Tensor  # (models,)
    l2: Tensor  # (models,)
    seeds: np.ndarray  # (models,), of the initial weights, and of the batches where order is None
    batch: int | None = None  # examples a step; None: all
    order: int | None = 0
    snapshots: tuple[int, ...] = ()  # steps

    def __post_init__(self) -> None:
        n, most = self.inputs, self.steps
        require(most >= 1, "steps", "must be at least 1")
        require((self.lr > 0).all(), "lr", "must be positive")
        fits = self.batch is None or 1 <= self.batch <= n
        require(fits, "batch", f"must lie between 1 and the number of inputs, {n}")
        require(self.order is None or self.order >= 0, "order", "must be a number >= 0, or None")
        shared = self.batch is None or self.order is not None or not getattr(self.loss, "counts_models", False)
        require(shared, "order", "is None, but this loss needs batches that all models share: pass a number")
        require(len(self.seeds) == self.models, "seeds", f"are {len(self.seeds)}, there are {self.models} models")
        require(all(0 <= t <= most for t in self.snapshots), "snapshots", f"steps must lie in 0..{most}")

    def of(self, rows: slice) -> Plan:
        """The plan of the models `rows`."""
        part = {name: getattr(self, name)[rows] for name in ("lr", "l2", "seeds")}
        return replace(self, models=rows.stop - rows.start, **part)
