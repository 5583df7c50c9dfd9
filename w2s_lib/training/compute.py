"""Where and how to compute: device, number type, chunks of models, threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from .._checks import require

CACHE = 3e6  # bytes of activations of a chunk on a CPU: near the fastest for full batches and for small ones


@dataclass(frozen=True)
class Compute:
    """Where and how to compute; no field changes what is computed beyond rounding. ValueError for what is not there."""

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    threads: int = 1  # chunks at a time, each on one core; 1 leaves torch's own threads as they are
    memory: float | None = None  # bytes for the chunks in work, without data and results; None: 2e9, or the GPU's free
    chunk: int | None = (
        None  # models a chunk at most; None: what stays in the cache of a CPU, what memory of a GPU holds
    )
    progress: bool = False  # a tqdm bar over all steps of all chunks

    def __post_init__(self) -> None:
        require(self._there(), "device", f"{self.device!r} is not available here; use 'cpu', or 'cuda' with a GPU")
        known = self.dtype in (torch.float32, torch.float64)
        require(
            known, "dtype", f"{self.dtype} is too coarse for sums over examples; use torch.float32 or torch.float64"
        )
        require(self.threads >= 1, "threads", "must be at least 1")
        alone = self.threads == 1 or self.kind == "cpu"
        require(alone, "threads", "are for the CPU; a GPU trains its models as one chunk: use 1")
        require(self.memory is None or self.memory > 0, "memory", "must be a positive number of bytes, or None")
        require(self.chunk is None or self.chunk >= 1, "chunk", "must be at least one model, or None")

    def _there(self) -> bool:
        try:
            device = torch.device(self.device)
        except RuntimeError:  # no name that torch knows
            return False
        here = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < here)

    @property
    def kind(self) -> str:
        """The type of the device, "cpu" or "cuda"."""
        return torch.device(self.device).type

    def budget(self) -> float:
        """Bytes that the chunks in work may take."""
        if self.memory is not None:
            return self.memory
        return 2e9 if self.kind == "cpu" else 0.8 * torch.cuda.mem_get_info(self.device)[0]  # the rest for temporaries

    def chunks(self, models: int, bytes_per_model: float, active_bytes: float) -> list[slice]:
        """Slices of the models whose sizes differ by one at most, no fewer than `threads` where there are models.

        bytes_per_model : what a model in training takes
        active_bytes    : what it touches in each step
        """
        most = self.budget() / self.threads / bytes_per_model
        wanted = self.chunk or (CACHE / active_bytes if self.kind == "cpu" else most)
        count = max(self.threads, int(np.ceil(models / max(1, int(min(most, wanted))))))
        edges = np.linspace(0, models, min(count, models) + 1).astype(int)
        return [slice(int(i), int(j)) for i, j in pairwise(edges)]


EXACT = Compute(dtype=torch.float64)


@contextmanager
def one_core_each(threads: int) -> Iterator[None]:
    """Several chunks at a time: one core each, instead of all cores for one product."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else before)
        yield
    finally:
        torch.set_num_threads(before)
