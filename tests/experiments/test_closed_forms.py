"""Closed forms against simulation and values worked out by hand."""

import numpy as np
import pytest
import torch
from test_ridge import draw

from w2s_lib import SQUARED, ledger
from w2s_lib.experiments.closed_forms import (
    best_smoother,
    posterior_mean_distance,
    random_feature_ledger,
    smoother_path,
)
from w2s_lib.ridge import decompose_features


@pytest.mark.parametrize("bias", [0.0, 1.0])
@pytest.mark.parametrize("noise", [0.3, 2.0])
def test_smoothers_equal_monte_carlo(bias, noise):
    """The ledger of 400 sampled teachers, within 4 standard errors, for a grid of penalties and a crooked smoother."""
    rng = np.random.default_rng(5)
    features, _, _, _ = draw(n=25, p=25)
    truth, shift, factor = rng.normal(size=25), bias * rng.normal(size=25), noise * rng.normal(size=(25, 25)) / 5
    ridge = decompose_features(features)
    smoothers = np.stack([*(ridge.smoother(features, lam) for lam in (0.0, 0.1, 3.0)), rng.normal(size=(25, 25)) / 9])
    path = smoother_path(smoothers, truth + shift, factor @ factor.T, truth)
    teachers = truth + shift + rng.normal(size=(400, 25)) @ factor.T
    for i, S in enumerate(smoothers):
        book = ledger(truth[:, None], teachers[:, :, None], (teachers @ S.T)[:, :, None], SQUARED)
        for name in ("gain", "misfit", "residual"):
            values, exact = getattr(book, f"pair_{name}"), getattr(path, name)[i]
            assert abs(values.mean() - exact) <= 4 * values.std() / 20 + 1e-12, (name, i)
    np.testing.assert_allclose(path.gain, path.misfit - path.residual, atol=1e-12)
    np.testing.assert_allclose(path.gain, path.teacher_risk - path.student_risk, atol=1e-12)
    np.testing.assert_allclose(path.misfit[0], 0, atol=1e-12)  # the mimic


def test_best_smoother_has_no_residual_and_least_risk():
    rng = np.random.default_rng(6)
    truth, mean, factor = rng.normal(size=10), rng.normal(size=10), rng.normal(size=(10, 10))
    given = mean, factor @ factor.T, truth
    best = best_smoother(*given)
    path = smoother_path(best, *given)
    assert abs(path.residual) < 1e-10 and path.gain > 0
    nearby = smoother_path(best + 0.01 * rng.normal(size=(50, 10, 10)), *given)
    assert np.all(nearby.student_risk > path.student_risk)
    as_torch = [torch.as_tensor(x) for x in (best, *given)]
    assert float(smoother_path(*as_torch).gain) == pytest.approx(path.gain)
    torch.testing.assert_close(best_smoother(*as_torch[1:]), as_torch[0])


def test_bad_smoothers_name_the_argument():
    good = {"smoothers": np.eye(3), "mean": np.ones(3), "covariance": np.eye(3), "truth": np.ones(3)}
    bad = {"smoothers": np.eye(2), "mean": np.ones(2), "covariance": np.ones(3)}
    for name, value in bad.items():
        with pytest.raises(ValueError, match=rf"^{name}: "):
            smoother_path(**good | {name: value})
    with pytest.raises(ValueError, match=r"for a truth of shape \(3, 3\)"):
        smoother_path(**good | {"truth": np.eye(3)})


def test_random_features_give_the_values_worked_out_by_hand():
    """d = 60, N = 30, M = 2.5, C = 1."""
    book = random_feature_ledger(60, 30, [5, 10, 20, 400], 2.5, 1.0)
    np.testing.assert_allclose(book.misfit, [2.769, 3.180, 5.370, 1.352], atol=6e-4)
    np.testing.assert_allclose(book.gain, [-0.019, -0.680, -3.370, 0.148], atol=6e-4)
    np.testing.assert_allclose(book.gain, book.misfit - book.residual)
    short = random_feature_ledger(60, 30, [5, 10, 20, 400], 0.025, 0.01)  # entries are linear in the moments
    np.testing.assert_allclose(100 * short.gain, book.gain)
    assert random_feature_ledger(60, 30, 1, 0.0, 0.0).misfit == random_feature_ledger(1, 1, 1, 1.0, 0.5).misfit == 0
    assert random_feature_ledger(4, 1, 3, 1.0, 0.0).misfit == pytest.approx(1.5)  # one label: (1 - 1/4) (1 + 1)
    even = random_feature_ledger(60, 30, 181, 2.5, 1.0)
    assert even.gain == pytest.approx(0) and even.residual == pytest.approx(even.misfit)
    assert posterior_mean_distance(60, 30, 32, 1.0) == pytest.approx(15)  # q = 30
    sizes = [60, 120, 400, 2000]
    no_centre = posterior_mean_distance(60, 30, sizes, 1.0)
    np.testing.assert_allclose(no_centre, [0.517, 0.169, 0.0407, 0.0076], atol=6e-4)
    np.testing.assert_allclose(
        random_feature_ledger(60, 30, sizes, 1.0, 0.0).misfit, [1.017, 0.669, 0.541, 0.508], atol=6e-4
    )
    around_truth = posterior_mean_distance(60, 30, sizes, 2.5, centre=1.0)
    np.testing.assert_allclose(around_truth, [1.793, 0.921, 0.602, 0.519], atol=6e-4)


@pytest.mark.parametrize(("d", "N"), [(20, 10), (12, 15)])
@pytest.mark.parametrize("d_s", [2, 5, 16, 30, 60])
def test_random_features_equal_monte_carlo(d, N, d_s):
    """Both sides of d_s = N and of d: every mean within 4 standard errors of the closed form."""
    rng, draws = np.random.default_rng(d_s), 4000
    truth = np.eye(d)[0]
    X, W = rng.normal(size=(draws, N, d)), rng.normal(size=(draws, d_s, d))
    noise = rng.normal(size=(draws, d)) * (1.5 / d) ** 0.5
    teacher = truth + noise
    labels = (X @ teacher[:, :, None])[:, :, 0]
    student = (decompose_features(X @ W.mT).coefficients(labels, 0.0)[0][:, None] @ W)[:, 0]
    each = {
        "misfit": ((teacher - student) ** 2).sum(1),
        "residual": 2 * ((teacher - student) * (truth - student)).sum(1),
        "gain": ((teacher - truth) ** 2).sum(1) - ((student - truth) ** 2).sum(1),
    }
    book = random_feature_ledger(d, N, d_s, 2.5, 1.0)
    for name, values in each.items():
        error = abs(values.mean() - getattr(book, name))
        assert error < 4 * values.std() / draws**0.5 + 1e-9, name
    if min(d, d_s) > N:
        basis = decompose_features(X).V  # (draws, d, N)
        for centre in (truth, 0 * truth):  # the closed form of the mean needs a teacher of that centre
            scattered = centre + noise
            labels = (X @ scattered[:, :, None])[:, :, 0]
            student = (decompose_features(X @ W.mT).coefficients(labels, 0.0)[0][:, None] @ W)[:, 0]
            posterior = centre + ((noise[:, None] @ basis) @ basis.mT)[:, 0]
            away = ((student - posterior) ** 2).sum(1)
            expected = posterior_mean_distance(d, N, d_s, centre @ centre + 1.5, centre=centre @ centre)
            assert abs(away.mean() - expected) < 4 * away.std() / draws**0.5


def test_random_features_check_their_sizes():
    assert random_feature_ledger(10, 12, 12, 1.0, 0.5).gain == 0  # the student is the teacher, q or no q
    calls = {
        "d_s": lambda: random_feature_ledger(20, 10, 11, 1.0, 0.0),
        "N": lambda: random_feature_ledger(20, 0, 5, 1.0, 0.0),
        "power": lambda: random_feature_ledger(20, 10, 5, -1.0, 0.0),
        "alignment": lambda: random_feature_ledger(20, 10, 5, 1.0, np.nan),
    }
    calls_distance = {
        "N": lambda: posterior_mean_distance(10, 10, 20, 1.0),
        "d_s": lambda: posterior_mean_distance(20, 10, 5, 1.0),
        "centre": lambda: posterior_mean_distance(20, 10, 30, 1.0, centre=2.0),
    }
    for group in (calls, calls_distance):
        for argument, call in group.items():
            with pytest.raises(ValueError, match=rf"^{argument}: "):
                call()
