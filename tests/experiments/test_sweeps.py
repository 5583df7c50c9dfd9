"""The committed tables are what the protocol gives: a slice that the commit chooses is computed again."""

import hashlib
import os
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from browser import ROOT

from w2s_lib.experiments import sweeps as evidence
from w2s_lib.experiments.fetch import cache_folder
from w2s_lib.experiments.protocol import run

TABLES = sorted((ROOT / "book" / "_data" / "evidence").glob("*.npz"))
# MiniLM on 22,000 dialogues takes a quarter of an hour on two cores; on the reviews two minutes
SLOW = {"hh"}
tables = pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)


def lot(name, size):
    """A number below `size` that nobody chose: from the hash of HEAD, or of the tables where there is no git."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return int(hashlib.sha256(f"{git.stdout} {name}".encode()).hexdigest(), 16) % size


def encoded(name):
    """Whether the features of the encoder are at hand: as many shards as `make evidence` leaves."""
    return len(list(cache_folder().glob("minilm-*.npz"))) >= 11 + 22 if name in SLOW else True


def test_the_tables_are_there():
    assert [path.stem for path in TABLES] == ["hh", "mnist", "movie"]


@tables
def test_a_table_is_complete_and_says_where_it_comes_from(path):
    table = evidence.read(path)
    assert set(table.configs) == set(evidence.settings(path.stem))
    assert {"data", "code", "commit", "machine", "python", "torch", "date", "test_inputs"} <= table.provenance.keys()
    for config, result in zip(table.configs, table.results):
        assert result["acc"].shape == (len(config.losses) + 1, len(config.path), len(config.runs))
        for (
            name,
            x,
        ) in result.items():  # no luck at all, as where two rules choose the same, has infinite degrees of freedom
            x = x[..., :2] if name.startswith(evidence.CROSSED) else x
            assert x.dtype.kind != "f" or np.isfinite(x).all(), f"{config}: {name}"


@tables
def test_the_ledger_balances_in_every_cell(path):
    for result in evidence.read(path).results:
        gain, misfit = result["gain"].mean(2), result["misfit"].mean(2)
        assert (abs(gain - misfit + result["residual"]) <= 3e-4 * (abs(gain) + misfit + 1)).all()


@tables
def test_a_slice_is_computed_again(path):
    name, table = path.stem, evidence.read(path)
    if not encoded(name) and not os.environ.get("W2S_SLICE"):
        pytest.skip(f"{name}: encoding its dialogues takes a quarter of an hour; set W2S_SLICE=1 to have it done")
    usual = [i for i, config in enumerate(table.configs) if config.teachers == 1 and config.width <= 1024]
    i = usual[lot(f"{name} cell", len(usual))]
    config = table.configs[i]
    split, loss = lot(f"{name} split", config.splits), 1 + lot(f"{name} loss", len(config.losses) - 1)
    again = run(replace(config, splits=1, first_split=split, losses=("CE", config.losses[loss])))
    for key, tolerance in (("acc", 0.01), ("ce_cal", 0.01), ("misfit", 0.02), ("gain", 0.02)):
        for row, where in ((0, 0), (1, loss), (2, -1)):
            then, now = table.results[i][key][where, :, split], again[key][row, :, 0]
            message = f"{config}\nsplit {split}, {(*config.losses, 'ceiling')[where]}, {key}"
            np.testing.assert_allclose(now, then, atol=tolerance * max(1, abs(then).max()), err_msg=message)
    assert abs(again["teacher_acc"][0] - table.results[i]["teacher_acc"][split]) < 0.003
