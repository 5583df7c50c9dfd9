"""The protocol: who may see which labels, and what its numbers mean."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from w2s_lib import KL, SQUARED
from w2s_lib.experiments import teachers_and_students
from w2s_lib.experiments.curves import _scores, blend_weight, tune_cace
from w2s_lib.experiments.data_split import load_features, split_data
from w2s_lib.experiments.estimates import BETAS
from w2s_lib.experiments.protocol import Protocol, run
from w2s_lib.experiments.rules import choose_points
from w2s_lib.experiments.tasks import Task, load_task
from w2s_lib.experiments.teachers_and_students import QUANTILES, fit_teachers
from w2s_lib.gain import best_blend
from w2s_lib.intervals import nested_components
from w2s_lib.training import Compute

SMALL = Protocol("digits", teacher="left", gold=60, transfer=200, validation=200, width=24, steps=12, stages=(2, 5),
                 l2s=(1e-3, 1e-1), lr=0.05, splits=3)  # fmt: skip
NOT_TEST = ("choice_", "weak_", "true_", "temperature", "cace_c")  # arrays that no test label may touch


@pytest.fixture(scope="module")
def result():
    return run(SMALL)


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


def test_parts_are_disjoint_and_published_splits_are_kept():
    task = load_task("digits")
    for seed in range(3):
        split = split_data(task, SMALL, seed)
        parts = [split.gold, split.transfer, split.validation, np.flatnonzero(task.part == "test")]
        assert [len(p) for p in parts[:3]] == [60, 200, 200]
        assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts))
    part = np.repeat(["gold", "transfer", "test"], [100, 500, 50]).astype("U8")
    split = split_data(Task("published", 2, np.arange(650) % 2, part, None), SMALL, 0)
    for places, name in ((split.gold, "gold"), (split.transfer, "transfer"), (split.validation, "transfer")):
        assert (part[places] == name).all()


def test_the_ledger_balances_for_every_loss_at_every_point(result):
    terms = abs(result["misfit"]) + abs(result["residual"]) + result["teacher_ce"]
    assert (abs(result["gain"] - result["misfit"] + result["residual"]) < 1e-9 * terms).all()
    assert (abs(result["gain"] - result["teacher_ce"] + result["ce"]) < 1e-5).all()
    assert result["acc"].shape == (9, 4, 3)


def test_risk_is_bias_and_variance(result):
    total = result["bias"][..., 0] + result["variance"][..., 0]
    np.testing.assert_allclose(total, result["ce"].mean(-1), rtol=1e-5)


def test_scores_by_other_means():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(2, 300, 4)), rng.integers(0, 4, 300)
    found = _scores(y, z)
    for m in range(2):
        p = KL.mean(z[m])
        assert found["acc"][m] == pytest.approx(accuracy_score(y, p.argmax(1)))
        assert found["ce"][m] == pytest.approx(log_loss(y, p))
        assert found["brier"][m] == pytest.approx(np.mean(((p - np.eye(4)[y]) ** 2).sum(1)))
        assert found["entropy"][m] == pytest.approx(np.mean(-(p * np.log(p)).sum(1)))
        rows = np.array_split(np.argsort(p.max(1)), 15)
        gaps = [abs((p[b].max(1) - (p[b].argmax(1) == y[b])).mean()) * len(b) for b in rows]
        assert found["ece"][m] == pytest.approx(sum(gaps) / 300)


def test_squared_blend_weight_is_the_library_s():
    rng = np.random.default_rng(0)
    w, s = (KL.mean(rng.normal(size=(200, 3))) for _ in range(2))
    y = np.eye(3)[rng.integers(0, 3, 200)]
    assert blend_weight(s[None], w, y)[0] == pytest.approx(best_blend(y, w, s, SQUARED).weight.value, abs=1e-8)


def test_rules_by_their_definitions(result):
    picked, n = choose_points(result, SMALL).picked, len(SMALL.l2s)
    for i, r in np.ndindex(9, 3):
        weak = result["weak_ce"][i, :, r]
        best = int(weak[:n].argmin())
        assert picked["weak"][i, r] == best
        within = [j for j in range(n) if weak[j] <= weak[best] + result["weak_se"][i, best, r]]
        assert picked["one_se"][i, r] == max(within)
        stages = [n, n + 1, 0]
        assert picked["early"][i, r] == stages[int(np.argmin(weak[stages]))]
        assert picked["tstar_50"][i, r] == int(abs(result["tstar_50"][i, :n, r]).argmin())
        assert picked["oracle"][i, r] == int(result["true_ce"][i, :n, r].argmin())


def test_cace_takes_the_candidate_that_weak_labels_prefer(result):
    assert set(np.unique(result["cace_c"])) <= set(QUANTILES) and result["cace_c"].shape == (4, 3)
    names = (*(f"CACE {c}" for c in QUANTILES), "ceiling")
    weak_ce = np.array([[[w], [1 - w]] for w in (0.2, 0.1, 0.3, 0.0)])  # (candidates, path, runs)
    rows, chosen = tune_cace(("CACE",), names, weak_ce)
    np.testing.assert_array_equal(chosen["cace_c"], [[0.5], [0.75]])
    np.testing.assert_array_equal(rows, [[[1], [2]], [[3], [3]]])


def test_isotonic_and_sharpened_students(result):
    ce, weak = result["ce"], result["choice_weak"]
    chosen = np.array([[ce[i, weak[i, r], r] for r in range(3)] for i in range(9)])
    np.testing.assert_allclose(result["beta_ce"][:, BETAS.index(1.0)], chosen, rtol=1e-4)
    assert (np.diff(result["beta_entropy"], axis=1) < 0).all()
    assert (result["ce_isotonic"] > 0).all() and (result["ce_isotonic"] < 5).all()


def test_confidence_and_noise_reach_the_labels():
    task, X_w, _ = load_features("digits", "left", "pixels")
    clean, noisy = (fit_teachers(task, X_w, replace(SMALL, noise=x, gold=200)) for x in (0.0, 0.5))
    gold = split_data(task, replace(SMALL, gold=200), 0).gold
    right = [(z[0, gold].argmax(1) == task.labels[gold]).mean() for z in (clean, noisy)]
    assert right[0] > 0.95 and right[1] < 0.85
    timid, sure = (run(replace(SMALL, losses=("CE",), confidence=a)) for a in (0.05, 1.0))
    assert (timid["entropy_cal"][0, 0] > sure["entropy_cal"][0, 0]).all()


def test_a_bag_is_the_dual_mean_of_bootstraps():
    task, X_w, _ = load_features("digits", "left", "pixels")
    bags = {b: fit_teachers(task, X_w, replace(SMALL, splits=1, bag=b))[0] for b in (1, 2)}
    drawn = fit_teachers(task, X_w, replace(SMALL, splits=1, teachers=2))
    np.testing.assert_allclose(bags[1], drawn[0], atol=0.05)  # the same bootstrap; fits are exact to a tolerance
    assert abs(bags[1] - drawn[1]).max() > 1
    other = 2 * bags[2] - bags[1]
    assert abs(other - bags[1]).max() > 1
    np.testing.assert_allclose(bags[2].sum(-1), 0, atol=1e-9)


def test_components_of_variance_are_told_apart():
    found = run(replace(SMALL, losses=("CE",), splits=2, teachers=2, students=2))
    assert found["acc"].shape == (2, 4, 8) and found["components_acc"].shape == (2, 4, 3)
    one = run(replace(SMALL, losses=("CE",), splits=2, teachers=2, students=2, width=0))
    assert abs(one["components_logit"][0, 0, 2]) < 1e-6  # a linear student has no initialisation
    assert one["components_logit"][0, 0, 1] > 1e-3


def test_nested_components_are_unbiased():
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3000, 4, 1, 1)), rng.normal(size=(3000, 4, 3, 1)), rng.normal(size=(3000, 4, 3, 2))
    x = 3.0 * a + 2.0 * b + c
    found = nested_components(np.moveaxis(x, 0, 3))
    for part, truth in zip(found, (9.0, 4.0, 1.0)):
        assert abs(part.mean() - truth) < 4 * part.std() / 3000**0.5
    with pytest.raises(ValueError, match="values"):
        nested_components(np.zeros((1, 3, 3)))


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
