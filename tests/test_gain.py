"""gain = misfit - residual for every generator and pair; the split, the blend and PGR; masked classes; bad input."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from test_bregman import GENERATORS, KL, LOGISTIC, SQUARED, balance, every, predictions, truths

from w2s_lib import GENERALIZED_KL, ITAKURA_SAITO, crossed_mean, ledger, performance_gap_recovered
from w2s_lib.gain import _quantile_bins, best_blend, split_residual


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
    # a leading axis that one side lacks, or has with length one, is shared, whatever its length
    for one, many in (
        (teacher[0, 0], student[0, :2]),
        (teacher[:1, 0], student[:2, 0]),
        (teacher[0, :1], student[0, :2]),
    ):
        assert ledger(y, one, many).gain.clusters == ledger(y, many, one).gain.clusters == 1
    assert (
        ledger(y, teacher[:2, 0], student[:2, :2]).gain.clusters == 2
    )  # (2,) beside (2, 2): students share by columns
    assert ledger(y, teacher[:2], student[:2, :2]).gain.clusters == 2
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


# ------------------------------------------------------------------- the split of the residual and the best blend


def world(seed=0, n=40_000, values=5, classes=4):
    """A student that takes few values, a teacher and labels that depend on more than the student shows."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, values, n)
    hidden = rng.normal(size=(n, classes))
    student = rng.normal(size=(values, classes))[groups]
    teacher = student + 0.8 * hidden + 0.3 * rng.normal(size=(values, classes))[groups] + rng.normal(size=(n, classes))
    truth = KL.mean(student + hidden)
    labels = (truth.cumsum(1) > rng.random((n, 1))).argmax(1)
    return truth, labels, teacher, student, groups


def test_split_is_exact_on_a_finite_world():
    """Conditional means written out: both parts equal those of the definition, and they sum to the residual."""
    truth, _, teacher, student, groups = world(n=4000)
    split = split_residual(truth, teacher, student, groups=groups)
    book = ledger(truth, teacher, student)
    assert split.residual.value == pytest.approx(book.residual.value, rel=1e-12)
    assert split.calibration.value + split.thrown_away.value == pytest.approx(split.residual.value, rel=1e-12)
    zw, zs, p = KL.dual(teacher), KL.dual(student), KL.mean(student)
    calibration = covariance = 0.0
    for g in range(5):
        rows = groups == g
        share = rows.mean()
        calibration += share * (zw[rows].mean(0) - zs[rows][0]) @ (truth[rows].mean(0) - p[rows][0])
        centred = (zw[rows] - zw[rows].mean(0)) * (truth[rows] - truth[rows].mean(0))
        covariance += centred.sum() / len(truth) * rows.sum() / (rows.sum() - 1)
    assert split.thrown_away.value == pytest.approx(covariance, rel=1e-10)
    assert split.calibration.value == pytest.approx(calibration, abs=2e-3)  # the (n - 1)'s


def test_calibrated_students_throw_away_signal_only():
    """Calibrated to the truth, or to the teacher in the dual: the first part is zero."""
    truth, _, teacher, _, groups = world()
    means = np.stack([truth[groups == g].mean(0) for g in range(5)])
    to_truth = np.log(means)[groups]
    duals = np.stack([KL.dual(teacher)[groups == g].mean(0) for g in range(5)])
    for calibrated in (to_truth, duals[groups]):
        split = split_residual(truth, teacher, calibrated, groups=groups)
        assert abs(split.calibration.value) < 1e-3
        book = ledger(truth, teacher, calibrated)
        assert book.gain.value == pytest.approx(book.misfit.value - split.thrown_away.value, abs=1e-3)
    squared = split_residual(truth, teacher, to_truth, SQUARED, groups=groups)
    assert squared.calibration.value + squared.thrown_away.value == pytest.approx(squared.residual.value)
    assert ledger(truth, KL.mean(teacher), means[groups], SQUARED).imbalance < 1e-12


def regression(n, rng):
    """Student f = x; teacher and label share a part e that the student does not see: E Cov(2 f_w, Y | f_s) = 1.6."""
    x, e = rng.normal(size=(2, n, 1))
    return x + e + rng.normal(size=(n, 1)), x + 0.8 * e + 0.5 * rng.normal(size=(n, 1)), x


def test_bins_of_differences_are_unbiased_and_raw_ones_are_not():
    """theory: raw covariances are biased by the width of the bins, differences are not."""
    rng = np.random.default_rng(0)
    got, raw = [], []
    for _ in range(200):
        truth, teacher, student = regression(300, rng)
        got.append(split_residual(truth, teacher, student, SQUARED, bins=15).thrown_away.value)
        order = student[:, 0].argsort().argsort() * 15 // 300
        raw.append(sum(2 * np.cov(teacher[order == b, 0], truth[order == b, 0])[0, 1] for b in range(15)) / 15)
    error = np.std(got) / 200**0.5
    assert abs(np.mean(got) - 1.6) < 4 * error
    assert np.mean(raw) - 1.6 > 4 * error


def test_intervals_of_split_and_blend_cover():
    """95% intervals of both parts and of t* over 400 draws of 1,500 inputs, 15 bins: between 92% and 98%."""
    rng = np.random.default_rng(1)
    hits = np.zeros(2)
    for _ in range(400):
        truth, teacher, student = regression(1500, rng)
        low, high = split_residual(truth, teacher, student, SQUARED).thrown_away.interval()
        hits[0] += low < 1.6 < high
        low, high = best_blend(truth, teacher, student, SQUARED).weight.interval()
        hits[1] += low < 0.8 / 0.89 < high  # Cov(Y - f_s, f_w - f_s) / Var(f_w - f_s)
    assert np.all((hits / 400 > 0.92) & (hits / 400 < 0.98)), hits / 400


def test_half_weight_rule():
    """Squared loss: t* = residual / (2 misfit); for any generator the slope of the risk at t = 0 is -residual."""
    rng = np.random.default_rng(2)
    truth, teacher, student = rng.normal(size=(3, 200, 2))
    teacher, student = np.stack([teacher, teacher + truth]), student
    book, blend = ledger(truth, teacher, student, SQUARED), best_blend(truth, teacher, student, SQUARED)
    np.testing.assert_allclose(blend.pair_weight, book.pair_residual / (2 * book.pair_misfit), atol=1e-9)
    np.testing.assert_allclose(book.pair_gain, book.pair_misfit * (1 - 2 * blend.pair_weight), atol=1e-9)
    _, labels, teacher, student, _ = world(n=2000)
    for generator, y, w, s in (
        (KL, np.eye(4)[labels], teacher, student),
        (LOGISTIC, (labels > 1)[:, None] * 1.0, teacher[:, :1], student[:, :1]),
    ):
        weight, residual = best_blend(y, w, s, generator).weight, ledger(y, w, s, generator).residual
        risk = [generator.loss(y, (1 - t) * s + t * w).mean() for t in (-1e-5, 0, 1e-5)]
        assert (risk[2] - risk[0]) / 2e-5 == pytest.approx(-residual.value, abs=1e-6)
        assert np.sign(weight.value) == np.sign(residual.value)
        around = [generator.loss(y, (1 - t) * s + t * w).mean() for t in weight.value + np.array([-0.01, 0, 0.01])]
        assert around[1] < min(around[0], around[2])


@pytest.mark.parametrize("weight", [-9.0, -3.0, 0.0, 0.4, 3.0, 9.0])
def test_weights_are_found_in_all_of_the_bracket(weight):
    """Squared loss, teacher = student + step, truth = student + weight step: no residual is left at that weight."""
    student, step = np.random.default_rng(3).normal(size=(2, 50, 2))
    blend = best_blend(student + weight * step, student + step, student, SQUARED)
    assert blend.weight.value == pytest.approx(weight, abs=1e-9) and "best weight" in str(blend)
    with pytest.raises(ValueError, match=r"^teacher: no best blend in \[-10, 10\]"):
        best_blend(student + np.sign(weight + 0.1) * 11 * step, student + step, student, SQUARED)


@pytest.mark.parametrize("gen", [ITAKURA_SAITO, GENERALIZED_KL], ids=lambda g: g.name)
def test_a_blend_stays_where_it_is_a_prediction(gen):
    """Positive predictions: the weight is the least of a fine grid of those at which the blend is positive."""
    rng = np.random.default_rng(4)
    student, teacher = np.exp(rng.normal(size=(2, 6, 40, 3)))
    truth = np.exp(rng.normal(size=(40, 3)))
    found = best_blend(truth, teacher, student, gen).pair_weight
    for w, s, t in zip(teacher, student, found):

        def risk(weight, w=w, s=s):
            z = gen.dual(s) + weight * (gen.dual(w) - gen.dual(s))
            inside = gen is GENERALIZED_KL or z.max() < 0
            return gen.loss(truth, gen.from_dual(z)).mean() if inside else np.inf

        around = np.linspace(-3, 4, 2001)
        assert risk(t) <= min(risk(x) for x in around) + 1e-12 and risk(t) < np.inf
        assert risk(t) < min(risk(t - 1e-3), risk(t + 1e-3))
    # where the truth is far beyond the teacher, the least lies close to the edge of the domain
    w, s = np.full((2, 5, 1), 1.0), np.full((2, 5, 1), 0.5)
    far = best_blend(np.full((5, 1), 1e4), w, s, gen).pair_weight if gen is ITAKURA_SAITO else [2 - 1e-4]
    np.testing.assert_allclose(far, 2 - 1e-4, rtol=1e-9)  # -1/f = -2 + t = -1e-4


def test_labels_of_wrong_length_are_named():
    truth, labels, teacher, student, _ = world(n=50)
    teachers = teacher + np.zeros((3, 1, 1))
    for call in (ledger, split_residual, best_blend):
        how = {"bins": 5} if call is split_residual else {}
        with pytest.raises(ValueError, match=r"^clusters: need shape \(3,\), .*; got \(2,\)"):
            call(labels, teachers, student, clusters=[0, 1], **how)
    for groups in (np.zeros(49, int), np.zeros((2, 50), int)):
        with pytest.raises(ValueError, match=r"^groups: need shape \(3, 50\), .*; got "):
            split_residual(truth, teachers, student, groups=groups)


def test_many_pairs_at_once_equal_one_by_one():
    _, labels, teacher, student, _ = world(n=600)
    rng = np.random.default_rng(0)
    teachers = teacher + rng.normal(size=(3, 1, 600, 4))
    students = student + 0.1 * rng.normal(size=(1, 2, 600, 4))
    blend, split = best_blend(labels, teachers, students), split_residual(labels, teachers, students)
    assert blend.pair_weight.shape == (3, 2)
    alone = [[best_blend(labels, teachers[i, 0], students[0, j]).weight.value for j in range(2)] for i in range(3)]
    np.testing.assert_allclose(blend.pair_weight, alone, atol=1e-9)
    parts = [
        split_residual(labels, teachers[i, 0], students[0, j]).thrown_away.value for i in range(3) for j in range(2)
    ]
    assert split.thrown_away.value == pytest.approx(np.mean(parts))


@pytest.mark.parametrize("rare", [(0,), (4,), (0, 1), (3, 4), (0, 2, 4)])
def test_a_class_that_the_student_names_once_has_a_bin_to_go_to(rare):
    """The first joins the next class, the last the one before."""
    rng = np.random.default_rng(0)
    student = rng.normal(size=(60, 5))
    student[:, rare] = -9
    student[7 + np.arange(len(rare)), rare] = 9
    split = split_residual(rng.integers(0, 5, 60), rng.normal(size=(60, 5)), student, bins=6)
    sizes = np.bincount(_quantile_bins(student.argmax(1), KL.mean(student).max(1), 6))
    assert sizes.min() >= 2 and np.bincount(student.argmax(1)).min() == 1
    assert split.calibration.value + split.thrown_away.value == pytest.approx(split.residual.value)


def test_bad_input_of_split_and_blend_names_the_argument():
    truth, labels, teacher, student, _ = world(n=50)
    calls = {
        "bins": lambda: split_residual(labels, teacher, student, bins=40),
        "groups": lambda: split_residual(truth, teacher, student, SQUARED),
        "student": lambda: best_blend(labels, teacher, teacher),
        "truth": lambda: split_residual(labels[:3], teacher, student),
        "teacher": lambda: best_blend(labels, np.eye(4)[labels] * 50.0 + student, student),
    }
    for argument, call in calls.items():
        with pytest.raises(ValueError, match=rf"^{argument}: "):
            call()
    with pytest.raises(ValueError, match=r"^groups: has a bin with a single input"):
        split_residual(labels, teacher, student, groups=np.arange(50))


# -------------------------------------------------------------------------------------------------- masked classes

MASKS = [-1e9, -1e16, float(np.finfo(np.float32).min), -np.inf]
every_mask = pytest.mark.parametrize("mask", MASKS)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def masked(z, mask, at=1):
    """z (..., classes) with one more class, whose logit is the mask."""
    return np.insert(z, at, mask, axis=-1).astype(z.dtype)


def entries(truth, *pair, torch_too=True, **how):
    """All numbers that ledger, split and blend give."""
    if torch_too:
        np.testing.assert_allclose(
            entries(torch.tensor(truth), *map(torch.tensor, pair), torch_too=False, **how),
            entries(truth, *pair, torch_too=False, **how),
            rtol=1e-4,
            atol=1e-5,
        )
    book = ledger(truth, *pair, **how)
    estimates = [book.gain, book.misfit, book.residual, book.teacher_risk, book.student_risk]
    if book.direction == "forward":
        split, blend = split_residual(truth, *pair, bins=6), best_blend(truth, *pair)
        estimates += [split.residual, split.calibration, split.thrown_away, blend.weight]
    return np.array([(x.value, x.se) for x in estimates])


@every_dtype
@every_mask
def test_a_masked_class_is_as_good_as_removed(mask, dtype):
    """In both models and for no label; by a number or added to the logits, as attention masks are; per input too."""
    rng = np.random.default_rng(11)
    w, s = (2 * rng.normal(size=(2, 3, 60, 3))).astype(dtype)
    labels, tolerance = rng.integers(0, 3, 60), {"rtol": 2e-3, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-9}
    plain, moved = entries(labels, w, s), labels + (labels >= 1)
    np.testing.assert_allclose(entries(moved, masked(w, mask), masked(s, mask)), plain, **tolerance)
    np.testing.assert_allclose(entries(np.eye(4)[moved], masked(w, mask), masked(s, mask)), plain, **tolerance)
    added = [masked(z, 0.0) + np.array([0, mask, 0, 0], dtype) for z in (w + 5, s)]
    np.testing.assert_allclose(entries(moved, *added), plain, **tolerance)
    np.testing.assert_allclose(entries(moved, masked(w, mask), masked(s, -np.inf)), plain, **tolerance)


@every_dtype
@every_mask
def test_a_masked_class_is_as_good_as_removed_in_reverse(mask, dtype):
    """The truth must be interior: it gives the masked class next to nothing."""
    rng = np.random.default_rng(12)
    w, s = (2 * rng.normal(size=(2, 3, 60, 3))).astype(dtype)
    g = KL.mean(rng.normal(size=(60, 3)))
    padded = masked(g * (1 - 1e-12), 1e-12)
    for a, b in (((w, s), (masked(w, mask), masked(s, mask))), ((w, w), (masked(w, mask), masked(w, mask)))):
        expected, found = entries(g, *a, direction="reverse"), entries(padded, *b, direction="reverse")
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6 if dtype == np.float32 else 1e-11)


def test_a_large_logit_in_one_model_is_a_large_misfit():
    z = np.zeros((10, 3))
    book = ledger(np.arange(10) % 2, masked(z[:, :2], -1e7, 2), z)
    assert book.misfit.value == pytest.approx(1e7 / 3, rel=1e-6) and book.imbalance < 1e-12
    blind = ledger(np.arange(10) % 2, z, masked(z[:, :2], -1e7, 2))  # the student: it never names that class
    assert blind.misfit.value == pytest.approx(np.log(3 / 2)) and blind.imbalance < 1e-12


@every_mask
def test_a_mask_must_be_in_both_and_for_no_label(mask):
    z = np.zeros((4, 3))
    half = np.where(np.arange(3) == 2, mask, z)
    for call in (ledger, split_residual, best_blend):
        how = {"bins": 2} if call is split_residual else {}
        for argument, arrays in (
            ("teacher", (half, z)),
            ("student", (z, half)),
            ("student", (z, np.stack([z, half]))),
            ("teacher", (np.stack([half, z])[:, None], z)),
        ):
            with pytest.raises(ValueError, match=rf"^{argument}: .*mask the class everywhere"):
                call([0, 1, 0, 1], *arrays, **how)
        with pytest.raises(ValueError, match=r"^student: .*where a label"):
            call([0, 1, 2, 1], half, half, **how)
        with pytest.raises(ValueError, match=r"^teacher: masks all classes of a row"):
            call([0, 1, 0, 1], half - np.inf, half, **how)


# --------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "argument", "remedy"),
    [
        (lambda z: ledger([0, 1], z, z[:, :1]), "student", "same test inputs"),
        (lambda z: ledger([0, 1, 2], z, z), "truth", "must be"),
        (lambda z: ledger([0, 3], z, z), "truth", "recode"),
        (lambda z: ledger([0, 0.5], z, z), "truth", "whole numbers"),
        (lambda z: ledger([0, 1], z, z, direction="X"), "direction", "must be 'forward'"),
        (lambda z: ledger([0, 1], z, z, direction="F"), "direction", "must be 'forward' (once 'F')"),
        (lambda z: ledger([0, 1], z, z, direction="R"), "direction", "'reverse' (once 'R')"),
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
