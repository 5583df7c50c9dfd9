"""What a table keeps, and the committed tables are what the protocol gives: a slice is computed again."""

import hashlib
import os
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from browser import ROOT
from small_protocol import SMALL

from w2s_lib.experiments import evidence
from w2s_lib.experiments.evidence import tables as tables_module
from w2s_lib.experiments.fetch import cache_folder
from w2s_lib.experiments.protocol import run
from w2s_lib.intervals import sign
from w2s_lib.training import Compute

TABLES = sorted((ROOT / "book" / "_data" / "evidence").glob("*.npz"))
# MiniLM on 22,000 dialogues takes a quarter of an hour on two cores; on the reviews two minutes
SLOW = {"preference_pairs"}
tables = pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)


def test_a_table_is_read_as_it_was_written(tmp_path, result):
    kept = evidence.condense(result)
    for name in evidence.PER_RUN:
        np.testing.assert_allclose(kept[name], result[name], rtol=3e-4)
    provenance = {"test_inputs": 718}
    table = evidence.Table("digits", (SMALL,), (kept,), provenance)
    evidence.write(table, tmp_path / "a.npz")
    back = evidence.read(tmp_path / "a.npz")
    assert back.configs == (SMALL,) and back.provenance == provenance
    assert kept.keys() == back.results[0].keys()
    for name, x in kept.items():
        np.testing.assert_array_equal(back.results[0][name], x)
    few = evidence.at_rule(kept, "acc", "few_50")
    assert few[1, 2] == kept["acc"][1, result["choice_few_50"][1, 2], 2]
    mean = evidence.mean_over_runs(few[1])
    assert mean.value == pytest.approx(few[1].mean()) and mean.se == pytest.approx(few[1].std(ddof=1) / 3**0.5)
    with pytest.raises(KeyError, match="width"):
        back.at(width=7)
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged"):
        evidence.read(tmp_path / "b.npz")
    with pytest.raises(FileNotFoundError, match="make evidence"):
        evidence.read(tmp_path / "c.npz")


def test_where_it_is_computed_is_no_part_of_a_cell_s_name(tmp_path, monkeypatch):
    used, double = [], Compute(dtype=torch.float64)
    stores = [evidence.store("digits", tmp_path, compute) for compute in (Compute(), double)]
    assert stores[0].path(SMALL) == stores[1].path(SMALL)

    def record(config, compute):
        used.append(compute)
        return {"acc": np.zeros((2, 3, 2))}

    monkeypatch.setattr(tables_module, "run", record)
    evidence.sweep("digits", tmp_path, size="tiny", progress=False, compute=double)
    assert used == [double] * 4


def test_numbers_of_each_run_and_signs(result):
    small = evidence.condense(result)
    for loss in (0, 1, 8):
        at = (loss, result["choice_weak"][loss], np.arange(3))
        np.testing.assert_allclose(
            evidence.per_run(small, "residual", loss), result["residual"][at], rtol=2e-3, atol=5e-3
        )
        expected = result["acc"][at] - result["teacher_acc"]
        np.testing.assert_allclose(evidence.per_run(small, "acc_gain", loss), expected, atol=2e-3)
        expected = result["teacher_ce"] - result["ce_cal"][at]
        np.testing.assert_allclose(evidence.per_run(small, "cal_gain", loss), expected, rtol=2e-3, atol=5e-3)
        points = list(result["choice_weak"][loss])
        assert points.count(evidence.modal_point(small, loss)) == max(map(points.count, points))
    up = evidence.mean_over_runs([1.0, 1.1, 1.2, 1.3])
    assert sign(up) == 1 and sign(evidence.mean_over_runs([-1.0, -1.1, -1.2])) == -1
    assert sign(evidence.mean_over_runs([-1.0, 1.1, 0.2])) == 0
    wide = evidence.mean_over_runs([0.5, 0.7, 0.9, 1.4])
    assert sign(wide) == 1 and sign(wide, comparisons=100) == 0
    with pytest.raises(ValueError, match="comparisons"):
        sign(up, comparisons=0)


# ---------------------------------------------------------------------------------------------- the committed tables


def lot(name, size):
    """A number below `size` that nobody chose: from the hash of HEAD, or of the tables where there is no git."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return int(hashlib.sha256(f"{git.stdout} {name}".encode()).hexdigest(), 16) % size


def encoded(name):
    """Whether the features of the encoder are at hand: as many shards as `make evidence` leaves."""
    return len(list(cache_folder().glob("minilm-*.npz"))) >= 11 + 22 if name in SLOW else True


def test_the_tables_are_there():
    assert [path.stem for path in TABLES] == ["film_reviews", "mnist", "preference_pairs"]


@tables
def test_a_table_is_complete_and_says_where_it_comes_from(path):
    table = evidence.read(path)
    assert set(table.configs) == set(evidence.settings(path.stem))
    assert {"data", "code", "commit", "machine", "python", "torch", "date", "test_inputs"} <= table.provenance.keys()
    for config, result in zip(table.configs, table.results):
        assert result["acc"].shape == (len(config.losses) + 1, len(config.path), len(config.runs))
        for name, x in result.items():
            # no luck at all, as where two rules choose the same, has infinite degrees of freedom
            x = x[..., :2] if name.startswith(evidence.ESTIMATED) else x
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


def test_a_value_and_its_error_are_not_averaged_where_there_are_two_runs():
    runs = np.arange(12.0).reshape(2, 3, 2)
    kept = evidence.condense({"acc": runs, "ce": runs, "bias": runs, "variance": runs, "beta_ce": runs})
    assert kept["ce"].shape == (2, 3)
    for name in ("acc", "bias", "variance", "beta_ce"):
        np.testing.assert_array_equal(kept[name], runs)
