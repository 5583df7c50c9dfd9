"""Where and how to compute: device, number type, chunks of models, threads."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

import torch

from .._checks import require


@dataclass(frozen=True)
class Compute:
    """Where and how to compute; no field changes what is computed beyond rounding."""

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    threads: int = 1  # chunks at a time, each on one core; 1 leaves torch's own threads as they are
    memory: float = 2e9  # bytes that the chunks in work may take, shared data and results not counted
    chunk: int | None = None  # models a chunk; None: activations of about 4 MB on a CPU, what memory allows on a GPU
    progress: bool = False  # a tqdm bar over all steps of all chunks

    def check(self):
        """Raise ValueError if the device is absent."""
        kind = torch.device(self.device).type
        there = kind == "cpu" or (kind == "cuda" and torch.cuda.is_available())
        require(there, "device", f"{self.device} is not available here; use 'cpu'")
        require(self.threads >= 1, "threads", "must be at least 1")
        require(self.threads == 1 or kind == "cpu", "threads", "are for the CPU; a GPU trains all models as one chunk")

    def chunks(self, models, bytes_per_model, active_bytes):
        """Slices of the models; a model needs `bytes_per_model`, of which `active_bytes` are touched in each step."""
        most = max(1, int(self.memory / self.threads / bytes_per_model))
        size = self.chunk or (most if str(self.device) != "cpu" else max(1, round(4e6 / active_bytes)))
        size = min(size, most, -(-models // self.threads))
        return [slice(i, min(i + size, models)) for i in range(0, models, size)]


EXACT = Compute(dtype=torch.float64)


@contextmanager
def one_core_each(threads):
    """Several chunks at a time: one core each, instead of all cores for one product."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else before)
        yield
    finally:
        torch.set_num_threads(before)
