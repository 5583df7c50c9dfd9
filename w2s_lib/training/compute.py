"""Where and how to compute: device, number type, chunks of models, threads."""

from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from threading import Event
from typing import Any

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
    chunk: int | None = None  # models a chunk at most; None: what the cache of a CPU, the memory of a GPU holds
    progress: bool = False  # a tqdm bar over all steps of all chunks

    def __post_init__(self) -> None:
        gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        there = str(self.device) in ("cpu", "cpu:0", *gpus, *(["cuda"] if gpus else []))
        require(there, "device", f"{self.device!r} is not here; use 'cpu', or 'cuda' where there is a GPU")
        known = self.dtype in (torch.float32, torch.float64)
        require(known, "dtype", f"{self.dtype} is too coarse to add examples; use torch.float32 or torch.float64")
        require(self.threads == 1 or (self.threads > 1 and self.on_cpu), "threads", "must be 1 on a GPU, >= 1 on a CPU")
        require(self.memory is None or self.memory > 0, "memory", "must be a number of bytes > 0")
        require(self.chunk is None or self.chunk >= 1, "chunk", "must be a number of models >= 1")

    @property
    def on_cpu(self) -> bool:
        """Whether the device is the CPU, by whatever name."""
        return torch.device(self.device).type == "cpu"

    def chunks(self, models: int, bytes_per_model: float, active_bytes: float) -> list[slice]:
        """Slices of the models, as many as `threads` at least, with sizes that differ by one at most.

        A model takes `bytes_per_model` in training, of which its activations are `active_bytes`.
        """
        free = 2e9 if self.on_cpu else 0.8 * torch.cuda.mem_get_info(self.device)[0]  # the rest for temporaries
        most = (self.memory or free) / self.threads / bytes_per_model
        size = min(most, self.chunk or (CACHE / active_bytes if self.on_cpu else most))
        count = max(self.threads, int(np.ceil(models / max(1, int(size)))))
        edges = np.linspace(0, models, min(count, models) + 1).astype(int).tolist()
        return [slice(i, j) for i, j in pairwise(edges)]

    def map(self, work: Callable[[slice, Event], Any], chunks: list[slice]) -> list:
        """[work(chunk, stop), ...], `threads` at a time, each on one core; `stop` is set when one of them fails."""
        stop = Event()
        if self.threads == 1:
            return [work(chunk, stop) for chunk in chunks]
        before = torch.get_num_threads()
        torch.set_num_threads(1)  # instead of all cores for one product
        with ThreadPoolExecutor(self.threads) as pool:
            try:
                results = [pool.submit(work, chunk, stop) for chunk in chunks]
                wait(results, return_when=FIRST_EXCEPTION)
            finally:
                stop.set()
                torch.set_num_threads(before)
        return [result.result() for result in results]


EXACT = Compute(dtype=torch.float64)
