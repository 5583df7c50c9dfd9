"""A loss for each block of a stack's models, so that a grid over losses is one batch too."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from .._checks import require
from ..losses import Loss


@dataclass(frozen=True)
class PerModel(Loss):
    """A loss for each block of a stack's models: the first counts[0] have losses[0], the next counts[1] losses[1], ...

    So a grid over losses is one batch too. It counts models: train the stack as one chunk, on all inputs or on batches
    in an order that all models share. A chunk is all of the stack if `Compute` has no smaller `chunk`, one thread, and
    `memory` for all.
    Raises ValueError for another number of models.
    """

    counts_models = True  # it needs the whole stack, and batches that all models share
    losses: tuple[Loss, ...]
    counts: tuple[int, ...]

    def __post_init__(self):
        require(len(self.losses) == len(self.counts) > 0, "counts", "need one number of models for each loss")
        require(min(self.counts) > 0, "counts", "must be positive")

    def _blocks(self, models):
        """(loss, its models, its part of the labels), ..."""
        total, m, k, blocks = sum(self.counts), 0, 0, []
        remedy = f"train them as one chunk, with Compute(chunk={total}, threads=1, memory=the bytes that all need)"
        require(models == total, "counts", f"make {total}, the stack (or its chunk) has {models} models; {remedy}")
        for loss, count in zip(self.losses, self.counts):
            blocks.append((loss, slice(m, m + count), slice(k, k + _parts(loss))))
            m, k = m + count, k + _parts(loss)
        return blocks

    def prepare(self, q, axis=-1, used=None):
        q = q.expand(sum(self.counts), -1, -1) if len(q) == 1 else q
        used = [used] * len(self.losses) if used is None else [used[rows] for _, rows, _ in self._blocks(len(q))]
        parts = [loss.prepare(q[rows], axis, u) for (loss, rows, _), u in zip(self._blocks(len(q)), used)]
        return tuple(label for labels in parts for label in labels)

    def step_value(self, z, labels, axis):
        return torch.cat([loss.step_value(z[rows], labels[k], axis) for loss, rows, k in self._blocks(len(z))])

    def step_gradient(self, z, labels, axis, step=None):
        blocks = self._blocks(len(z))
        return torch.cat([loss.step_gradient(z[rows], labels[k], axis, step) for loss, rows, k in blocks])

    def one_logit_gradient(self, z, labels, step=None):
        blocks = self._blocks(len(z))
        return torch.cat([loss.one_logit_gradient(z[rows], labels[k], step) for loss, rows, k in blocks])


@lru_cache
def _parts(loss):
    """How many tensors a loss prepares."""
    return len(loss.prepare(torch.full((1, 2, 1), 0.5), -2))
