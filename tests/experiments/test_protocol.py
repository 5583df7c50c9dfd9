"""The protocol: who may see which labels, what its settings may be, and what it must not depend on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_protocol import SMALL

from w2s_lib.experiments.protocol import run, teachers_and_students
from w2s_lib.experiments.protocol.data_split import load_features, split_data
from w2s_lib.training import Compute

NOT_TEST = ("choice_", "weak_", "true_", "temperature", "cace_c")  # arrays that no test label may touch


def with_labels(monkeypatch, change):
    """Let `load_features` return the task with its labels changed."""
    before = load_features

    def changed(*names):
        task, *X = before(*names)
        return replace(task, labels=change(task)), *X

    monkeypatch.setattr(teachers_and_students, "load_features", changed)


def test_test_labels_reach_no_choice(result, monkeypatch):
    def shuffled(task):
        y, test = task.labels.copy(), np.flatnonzero(task.part == "test")
        y[test] = np.random.default_rng(0).permutation(y[test])
        return y

    with_labels(monkeypatch, shuffled)
    other = run(SMALL)
    names = [k for k in result if k.startswith(NOT_TEST)]
    assert len(names) > 20
    for name in names:
        np.testing.assert_array_equal(other[name], result[name], err_msg=name)
    assert not np.array_equal(other["acc"], result["acc"])


def test_true_labels_of_validation_inputs_reach_only_the_rules_that_say_so(result, monkeypatch):
    def shuffled(task):
        y, rng = task.labels.copy(), np.random.default_rng(1)
        splits = [split_data(task, SMALL, seed) for seed in range(3)]
        learnt = np.concatenate([x for split in splits for x in (split.gold, split.transfer)])
        only = np.setdiff1d(np.concatenate([split.validation for split in splits]), learnt)
        y[only] = rng.integers(0, 10, len(only))
        assert len(only) > 100
        return y

    with_labels(monkeypatch, shuffled)
    other = run(SMALL)
    for name, x in result.items():
        if "oracle" in name or "few" in name or "tstar_" in name or name.startswith(("true_", "ideal_", "pgr_")):
            continue
        np.testing.assert_array_equal(other[name], x, err_msg=name)
    assert not np.array_equal(other["true_ce"], result["true_ce"])


def test_a_run_depends_on_its_own_seeds_alone(result):
    alone = run(replace(SMALL, first_split=2, splits=1))
    for name in ("acc", "ce", "misfit", "weak_ce", "tstar", "teacher_acc"):
        np.testing.assert_allclose(alone[name][..., 0], result[name][..., 2], rtol=2e-3, atol=2e-3, err_msg=name)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"losses": ("RCE",)}, "losses"),
        ({"losses": ("CE", "MSE")}, "losses"),
        ({"validation": 100}, "validation"),
        ({"confidence": 0.0}, "confidence"),
        ({"noise": 1.0}, "noise"),
        ({"l2s": (1e-1, 1e-3)}, "l2s"),
        ({"l2s": ()}, "l2s"),
        ({"stages": (0, 5)}, "stages"),
        ({"stages": (5, 2)}, "stages"),
        ({"splits": 0}, "splits"),
        ({"width": -1}, "width"),
        ({"teacher_prior_precision": 0.0}, "teacher_prior_precision"),
    ],
)
def test_settings_are_checked_on_construction(change, named):
    with pytest.raises(ValueError, match=f"^{named}: "):
        replace(SMALL, **change)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"transfer": 5000}, "config"), ({"student": "minilm:6"}, "name"), ({"data": "cifar"}, "name")],
)
def test_settings_that_the_data_do_not_allow_are_named(change, named):
    with pytest.raises(ValueError, match=named):
        run(replace(SMALL, **change))


def test_compute_changes_nothing_beyond_rounding(result):
    config = replace(SMALL, losses=("CE",), splits=1)
    single, double = run(config), run(config, Compute(dtype=torch.float64, threads=2))
    assert not np.array_equal(single["ce"], double["ce"])
    for name in ("acc", "ce", "gain", "misfit", "weak_ce"):
        # not the ceiling: of one-hot labels some gradients are zero but for rounding, which Adam makes steps of
        np.testing.assert_allclose(double[name][0], single[name][0], rtol=1e-6, err_msg=name)


def test_the_global_state_of_chance_is_neither_read_nor_changed():
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        found.append(run(replace(SMALL, splits=1))["ce"])
        torch.testing.assert_close(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(seed)))
    np.testing.assert_array_equal(*found)
