"""Crossed standard errors: against simulation, against the classical formulas in the corners, and bad input."""

import numpy as np
import pytest

from w2s_lib import crossed_mean, crossed_ratio
from w2s_lib.intervals import Estimate, sign


@pytest.mark.parametrize("sizes", [(1.0, 0.0, 0.3), (0.0, 1.0, 0.3), (0.7, 0.7, 0.7), (0.0, 0.0, 1.0)])
def test_coverage_and_size_of_the_standard_error(sizes):
    """v_mi = a_m + b_i + e_mi: the s.e. matches the spread of the mean over fresh draws, and 95% intervals cover."""
    rng, M, n, repeats = np.random.default_rng(0), 15, 60, 600
    model, item, rest = sizes
    estimates = [
        crossed_mean(model * rng.normal(size=(M, 1)) + item * rng.normal(size=(1, n)) + rest * rng.normal(size=(M, n)))
        for _ in range(repeats)
    ]
    true_se = np.sqrt(model**2 / M + item**2 / n + rest**2 / (M * n))
    assert np.sqrt(np.mean([e.se**2 for e in estimates])) == pytest.approx(true_se, rel=0.15)
    covered = np.mean([e.interval()[0] < 0 < e.interval()[1] for e in estimates])
    assert 0.93 <= covered <= 1.0
    if rest < max(model, item):
        assert covered <= 0.975


def test_one_model_or_one_input_is_the_classical_standard_error():
    v = np.random.default_rng(1).normal(size=50)
    for estimate in (crossed_mean(v[None]), crossed_mean(v[:, None])):
        assert estimate.se == pytest.approx(v.std(ddof=1) / np.sqrt(50))
        assert estimate.df == pytest.approx(49)
    assert np.isnan(crossed_mean([[1.0]]).se)


@pytest.mark.parametrize("shape", [(2, 2), (5, 2), (2, 6), (4, 7)])
def test_the_crossed_standard_error_by_hand(shape):
    """Rows, columns and what they leave, as two-way analysis of variance has it; also for two models, two inputs."""
    M, n = shape
    v = np.random.default_rng(5).normal(size=shape) + np.arange(M)[:, None]
    rows, columns = v.mean(1), v.mean(0)
    rest = ((v - rows[:, None] - columns + v.mean()) ** 2).sum() / ((M - 1) * (n - 1)) / (M * n)
    parts = rows.var(ddof=1) / M, columns.var(ddof=1) / n
    found = crossed_mean(v)
    assert found.se**2 == pytest.approx(max(sum(parts) - rest, rest))
    assert found.df == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / (M - 1) + parts[1] ** 2 / (n - 1)))


def test_sign_and_its_correction_for_several_comparisons():
    above, below = (Estimate(value, 1.0, np.inf, 1, 1, 100) for value in (2.5, -2.5))
    assert (sign(above), sign(below), sign(above, comparisons=3), sign(above, comparisons=10)) == (1, -1, 1, 0)


def test_clusters_of_copies_count_once():
    v = np.random.default_rng(2).normal(size=(6, 30))
    once, copied = crossed_mean(v), crossed_mean(np.repeat(v, 5, 0), clusters=np.repeat(np.arange(6), 5))
    assert copied.se == pytest.approx(once.se)
    assert (copied.models, copied.clusters) == (30, 6)
    # unequal clusters: the mean stays the plain mean over models
    uneven = crossed_mean(v, clusters=[0, 0, 0, 1, 1, 2])
    assert uneven.value == pytest.approx(v.mean())
    assert uneven.clusters == 3


def test_ratio_of_proportional_scores_is_exact():
    b = np.random.default_rng(3).normal(1, 0.2, size=(8, 20))
    estimate = crossed_ratio(0.4 * b, b)
    assert estimate.value == pytest.approx(0.4)
    assert estimate.se == pytest.approx(0, abs=1e-12)


def test_text_shows_value_and_interval():
    estimate = crossed_mean(np.random.default_rng(4).normal(size=(4, 5)))
    low, high = estimate.interval()
    assert str(estimate) == f"{estimate.value:.4f} [{low:.4f}, {high:.4f}]"
    assert estimate.interval(0.5)[0] > low


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: crossed_mean([1.0, 2.0]), "values"),
        (lambda: crossed_mean(np.zeros((3, 2)), clusters=[0, 1]), "clusters"),
        (lambda: crossed_ratio(np.ones((2, 2)), np.ones((2, 3))), "denominator"),
        (lambda: crossed_ratio(np.ones((2, 2)), np.zeros((2, 2))), "denominator"),
        (lambda: sign(crossed_mean([[0.0, 1.0]]), 0), "comparisons"),
    ],
)
def test_bad_input_names_the_argument(call, argument):
    with pytest.raises(ValueError, match=rf"^{argument}: "):
        call()
