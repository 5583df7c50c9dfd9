"""gain = misfit - residual for every generator, direction and pair; the theory's reference values; PGR; bad input."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from test_bregman import GENERATORS, KL, LOGISTIC, SQUARED, balance, every, predictions, truths

from w2s_lib import GENERALIZED_KL, ITAKURA_SAITO, crossed_mean, ledger, performance_gap_recovered
from w2s_lib.gain import best_blend, split_residual


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@every
@given(data=st.data())
def test_every_pair_balances(gen, direction, data):
    extreme = 1e4 if direction == "forward" else 300
    w, s = (data.draw(predictions(gen, (2, 3, 3), extreme)) for _ in range(2))
    y = data.draw(truths(gen, (3, 3), interior=direction == "reverse"))
    book = ledger(y, w, s, gen, direction=direction)
    size = 1 + max(np.abs(w).max(), np.abs(s).max())
    # the absolute terms: the two risks that make the gain, the misfit, and the residual's inner product written out
    target, at = (y, gen.mean(s)) if direction == "forward" else (gen.mean(w), gen.mean(s))
    z = gen.dual(w) - gen.dual(s) if direction == "forward" else gen.dual(gen.from_mean(y)) - gen.dual(s)
    inner = [(np.abs(z) * np.abs(m)).sum(-1).mean(-1) for m in (target, at)]
    g = y if direction == "forward" else gen.from_mean(y)
    risks = [gen.loss(g, f).mean(-1) if direction == "forward" else gen.divergence(f, g).mean(-1) for f in (w, s)]
    scale = sum(inner) + sum(risks) + book.pair_misfit
    balance(book.pair_gain, -book.pair_misfit, book.pair_residual, scale, -scale, size=size)
    balance(book.teacher_risk.value, -book.student_risk.value, -book.gain.value)
    assert book.pair_misfit.min() >= 0


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@every
def test_entries_follow_their_definitions(gen, direction):
    """Against the formulas spelt out for one pair, one input: nothing shared with the library but the maps."""
    rng = np.random.default_rng(0)
    w, s, g = rng.normal(size=(3, 1, 3))
    if gen in (ITAKURA_SAITO, GENERALIZED_KL):
        w, s, g = np.exp([w, s, g])
    y = gen.mean(g)
    book = ledger(y, w, s, gen, direction=direction)
    if direction == "forward":
        expected = gen.loss(y, w) - gen.loss(y, s), gen.divergence(s, w)
        residual = ((gen.dual(w) - gen.dual(s)) * (y - gen.mean(s))).sum()
    else:
        expected = gen.divergence(w, g) - gen.divergence(s, g), gen.divergence(w, s)
        residual = ((gen.dual(g) - gen.dual(s)) * (gen.mean(w) - gen.mean(s))).sum()
    np.testing.assert_allclose([book.gain.value, book.misfit.value], np.ravel(expected), rtol=1e-9, atol=1e-13)
    assert book.residual.value == pytest.approx(residual, rel=1e-9)


def test_the_residual_is_computed_by_its_own_formula():
    """If the misfit were wrong, the books would not balance: spoil it and see."""

    class Spoilt(type(KL)):
        def _divergence(self, xp, a, b):
            return 1.01 * super()._divergence(xp, a, b)

    z = np.random.default_rng(1).normal(size=(2, 4, 10, 3))
    assert ledger(np.zeros(10, int), *z, KL).imbalance < 1e-12
    assert ledger(np.eye(3)[np.zeros(10, int)], *z, Spoilt()).imbalance > 1e-4


def test_squared_counter_example():
    """Class {<u,x>: |u| = 1}, teacher half of the unit vector at 60 degrees, student its exact projection."""
    g, w = np.array([[1.0, 0.0]]), 0.5 * np.array([[np.cos(np.pi / 3), np.sin(np.pi / 3)]])
    book = ledger(g, w, w / np.linalg.norm(w), SQUARED)
    got = [book.teacher_risk.value, book.student_risk.value, book.misfit.value, book.gain.value, book.residual.value]
    np.testing.assert_allclose(got, [0.75, 1.00, 0.25, -0.25, 0.50], atol=1e-12)


def test_kl_counter_example():
    """z = 2 <u, x>, x in {e1, e2}: the projection argmin KL(f_s||f_w) onto the circle has gain -.1253."""
    w = 2 * np.array([[0.25], [0.5 * np.sin(np.pi / 3)]])
    g = LOGISTIC.mean(2 * np.array([[1.0], [0.0]]))

    def student(t):
        return 2 * np.array([[np.cos(t)], [np.sin(t)]])

    def misfit(t):
        return LOGISTIC.divergence(student(t), w).mean()

    angles = np.linspace(0, 2 * np.pi, 721)
    start = angles[np.argmin([misfit(t) for t in angles])]
    best = minimize_scalar(misfit, bounds=(start - 0.02, start + 0.02), method="bounded", options={"xatol": 1e-10})
    book = ledger(g, w, student(best.x), LOGISTIC)
    got = [book.gain.value, book.misfit.value, book.residual.value]
    np.testing.assert_allclose(got, [-0.1253, 0.0393, 0.1647], atol=6e-5)


def test_posterior_mean_teacher_has_no_residual():
    """f_s = E*[f_w | x] of teachers drawn around it: the residual vanishes and gain = misfit, within 4 s.e."""
    rng = np.random.default_rng(2)
    centre = rng.normal(size=(300, 4))
    teachers = centre + rng.normal(size=(400, 300, 4))
    book = ledger(KL.mean(centre + 0.3 * rng.normal(size=(300, 4))), teachers, centre, KL)
    per_teacher = crossed_mean(book.pair_residual[:, None])
    assert abs(book.residual.value) < 4 * per_teacher.se
    assert book.gain.value == pytest.approx(book.misfit.value, abs=4 * per_teacher.se)


def test_near_mimicry_gain_cannot_track_misfit():
    """A student delta away from its teacher: misfit vanishes like delta^2, gain like delta."""
    rng = np.random.default_rng(3)
    g, w = rng.normal(size=(2, 500, 3))
    ratios = [
        book.gain.value / book.misfit.value
        for book in (ledger(KL.mean(g), w, w + delta * (g - w)) for delta in (0.1, 0.03, 0.01, 0.003))
    ]
    np.testing.assert_allclose(np.array(ratios[1:]) / ratios[:-1], [10 / 3, 3, 10 / 3], rtol=0.25)


def test_class_labels_one_hot_labels_and_torch_give_the_same_books():
    rng = np.random.default_rng(4)
    w, s, labels = rng.normal(size=(3, 20, 4)), rng.normal(size=(3, 20, 4)), rng.integers(0, 4, 20)
    a = ledger(labels, w, s)
    b = ledger(np.eye(4)[labels], w, s)
    c = ledger(torch.tensor(labels), torch.tensor(w), torch.tensor(s))
    for other in (b, c):
        np.testing.assert_allclose(other.pair_residual, a.pair_residual, rtol=1e-12)
        np.testing.assert_allclose(other.pair_gain, a.pair_gain, rtol=1e-12)
    single = ledger(labels, w.astype(np.float32), s.astype(np.float32))
    assert single.imbalance < 1e-6
    np.testing.assert_allclose(single.pair_gain, a.pair_gain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_blocks_of_inputs_change_nothing(monkeypatch, direction):
    """300 inputs at once, and 4 at a time; NumPy and torch."""
    rng = np.random.default_rng(10)
    y, w, s = KL.mean(rng.normal(size=(300, 4))), rng.normal(size=(3, 1, 300, 4)), rng.normal(size=(3, 2, 300, 4))

    def found(*arrays):
        book, split, blend = ledger(*arrays, direction=direction), split_residual(*arrays), best_blend(*arrays)
        parts = split.calibration.value, split.thrown_away.value
        return np.hstack([book.pair_gain, book.pair_misfit, book.pair_residual, blend.pair_weight]), parts

    whole = found(y, w, s)
    monkeypatch.setattr(sys.modules["w2s_lib.gain"], "BLOCK", 100)
    for arrays in ((y, w, s), [torch.tensor(x) for x in (y, w, s)]):
        for got, expected in zip(found(*arrays), whole):
            np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_shift_of_logits_changes_nothing():
    rng = np.random.default_rng(5)
    w, s, shift = rng.normal(size=(2, 9, 3)), rng.normal(size=(2, 9, 3)), 1e3 * rng.normal(size=(2, 9, 1))
    a, b = ledger(np.arange(9) % 3, w, s), ledger(np.arange(9) % 3, w + shift, s - shift)
    np.testing.assert_allclose(a.pair_residual, b.pair_residual, rtol=1e-9)


def test_pairs_that_share_a_teacher_are_one_cluster():
    rng = np.random.default_rng(6)
    teacher, student = rng.normal(size=(5, 1, 30, 3)), rng.normal(size=(5, 4, 30, 3))
    y = np.arange(30) % 3
    shared = ledger(y, teacher, student)
    assert (shared.gain.models, shared.gain.clusters, shared.gain.inputs) == (20, 5, 30)
    spelt_out = ledger(y, np.repeat(teacher, 4, 1), student, clusters=np.repeat(np.arange(5), 4).reshape(5, 4))
    assert spelt_out.gain.se == pytest.approx(shared.gain.se)
    independent = ledger(y, np.repeat(teacher, 4, 1), student)
    assert independent.gain.clusters == 20
    assert independent.gain.se < shared.gain.se  # counting one teacher as four would claim too much
    assert ledger(y, teacher[:, 0], student[0, 0]).gain.clusters == 1  # one student for all teachers: nothing crossed
    assert shared.pair_gain.shape == (5, 4)


def test_intervals_cover():
    """Random effects of known size for teachers and inputs: 95% intervals of the gain cover the truth."""
    rng, hits, repeats = np.random.default_rng(7), 0, 400
    for _ in range(repeats):
        effects = rng.normal(size=(12, 1, 1)) + rng.normal(size=(1, 40, 1)) + rng.normal(size=(12, 40, 1))
        teacher = 3.0 + 0.3 * effects
        low, high = ledger(np.zeros((40, 1)), teacher, np.zeros((12, 40, 1)), SQUARED).gain.interval()
        hits += low < 9 + 3 * 0.3**2 < high
    assert 0.90 <= hits / repeats <= 0.985, hits / repeats


def test_pgr_is_the_ratio_of_means_with_an_interval_that_covers():
    rng, hits, repeats = np.random.default_rng(8), 0, 300
    for _ in range(repeats):
        skill = rng.normal(0, 0.05, size=(20, 1))
        hard = rng.uniform(size=(20, 200))
        scores = [(hard < level + skill).astype(float) for level in (0.6, 0.7, 0.9)]
        estimate = performance_gap_recovered(*scores)
        w, s, c = (x.mean() for x in scores)
        assert estimate.value == pytest.approx((s - w) / (c - w))
        low, high = estimate.interval()
        hits += low < 1 / 3 < high
    assert 0.90 <= hits / repeats <= 0.985, hits / repeats


@pytest.mark.parametrize(
    ("call", "argument", "remedy"),
    [
        (lambda z: ledger([0, 1], z, z[:, :1]), "student", "same test inputs"),
        (lambda z: ledger([0, 1, 2], z, z), "truth", "must be"),
        (lambda z: ledger([0, 3], z, z), "truth", "recode"),
        (lambda z: ledger([0, 0.5], z, z), "truth", "whole numbers"),
        (lambda z: ledger([0, 1], z, z, direction="X"), "direction", "must be 'forward'"),
        (lambda z: ledger([0, 1], z, z, direction="reverse"), "truth", "soft labels"),
        (lambda z: ledger([0, 1], z * np.nan, z), "teacher", "NaN"),
        (lambda z: ledger([0, 1], z, np.zeros((5, 2, 3))), "student", "broadcast"),
        (lambda z: ledger([0, 1], z[0, 0], z), "teacher", "(..., inputs, outputs)"),
        (lambda z: ledger(np.full((2, 3), 0.4), z, z), "truth", "normalise"),
        (lambda z: ledger(np.ones((2, 3)), -z - 1, z + 1, GENERALIZED_KL), "teacher", "floor"),
        (lambda z: performance_gap_recovered(z[0], z[0], z[0]), "ceiling", "no gap"),
        (lambda z: performance_gap_recovered(z[0], z[0], z[0, :1]), "student", "same shape"),
    ],
)
def test_bad_input_names_the_argument_and_the_remedy(call, argument, remedy):
    with pytest.raises(ValueError, match=rf"^{argument}: ") as error:
        call(np.abs(np.random.default_rng(9).normal(size=(4, 2, 3))))
    assert remedy in str(error.value)


def test_every_generator_is_in_the_tests():
    assert {g.name for g in GENERATORS} >= {"KL", "squared norm", "binary logistic", "Itakura-Saito", "generalised KL"}
    assert len(GENERATORS) == 6
