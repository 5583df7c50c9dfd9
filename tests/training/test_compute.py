"""Where and how to compute: what there is not is named; chunks are balanced and fit the memory."""

import time

import numpy as np
import pytest
import torch

from w2s_lib.training import Compute


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"device": "gpu"}, "use 'cpu', or 'cuda'"),
        ({"device": "cuda:7"}, "use 'cpu', or 'cuda'"),
        ({"device": "meta"}, "use 'cpu', or 'cuda'"),
        ({"dtype": torch.bfloat16}, r"use torch\.float32 or torch\.float64"),
        ({"dtype": torch.float16}, r"use torch\.float32 or torch\.float64"),
        ({"threads": 0}, ">= 1"),
        ({"memory": 0}, "bytes"),
        ({"chunk": 0}, "models"),
    ],
)
def test_bad_settings_are_named_when_they_are_made(change, remedy):
    with pytest.raises(ValueError, match=rf"^{next(iter(change))}: .*{remedy}"):
        Compute(**change)


def test_a_gpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match=r"^device: 'cuda' is not here"):
        Compute(device="cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert not Compute(device="cuda").on_cpu
    with pytest.raises(ValueError, match=r"^threads: must be 1 on a GPU"):
        Compute(device="cuda:0", threads=2)


@pytest.mark.parametrize("compute", [Compute(), Compute(threads=2), Compute(chunk=7), Compute(chunk=4000)])
def test_chunks_are_balanced_and_hold_every_model(compute):
    for models in (1, 2, 33, 100, 4096):
        chunks = compute.chunks(models, 3e4, 1e4)
        sizes = [c.stop - c.start for c in chunks]
        assert [i for c in chunks for i in range(models)[c]] == list(range(models))
        assert max(sizes) - min(sizes) <= 1


def test_memory_and_settings_bound_the_chunks():
    def largest(models, bytes_per_model=3e4, active=1e4, **settings):
        return max(c.stop - c.start for c in Compute(**settings).chunks(models, bytes_per_model, active))

    assert largest(100, memory=1e6) == 25  # 33 fit: four chunks
    assert largest(100, memory=1e6, threads=2) == 15  # half as much for each
    assert largest(4096, chunk=3996, active=1) == 2048  # not 3,996 and 100
    assert largest(4, threads=2) == 2
    assert largest(5, memory=1) == 1
    assert largest(70, chunk=35) == 35
    assert Compute(device="cpu:0").chunks(900, 3e4, 1e4) == Compute().chunks(900, 3e4, 1e4)
    assert len(Compute().chunks(900, 3e4, 1e4)) > 1  # what stays in the cache


def test_a_gpu_takes_what_its_free_memory_holds(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10e9, 80e9))
    compute = Compute(device="cuda")
    assert len(compute.chunks(4096, 1e6, 1e6)) == 1
    assert len(compute.chunks(4096, 4e6, 1e6)) == 3  # 16 GB in 8 of the 10 that are free
    assert len(Compute(device="cuda", memory=1e9).chunks(4096, 1e6, 1e6)) == 5


def test_a_chunk_that_fails_ends_the_others():
    def work(chunk, stop):
        if chunk.start == 3:
            raise ArithmeticError("of chunk 3")
        until = time.monotonic() + 60
        while not stop.is_set() and time.monotonic() < until:
            time.sleep(0.01)

    compute, before, began = Compute(threads=2, chunk=1), torch.get_num_threads(), time.monotonic()
    with pytest.raises(ArithmeticError, match="of chunk 3"):
        compute.map(work, [slice(2, 3), slice(3, 4)])
    assert time.monotonic() - began < 30 and torch.get_num_threads() == before
    assert compute.map(lambda chunk, stop: chunk.start, [slice(i, i + 1) for i in range(9)]) == list(np.arange(9))
