"""The split of the residual and the half-weight rule: exact on finite worlds, unbiased with bins, honest intervals."""

import numpy as np
import pytest

from w2s_lib import KL, LOGISTIC, SQUARED, ledger
from w2s_lib.gain import best_blend, split_residual


def world(seed=0, n=40_000, values=5, classes=4):
    """A student who takes few values, a teacher and labels that depend on more than the student shows."""
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
    gain = ledger(truth, KL.mean(teacher), means[groups], SQUARED)
    assert squared.bins == 5 and gain.imbalance < 1e-12


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


def test_intervals_cover():
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


@pytest.mark.parametrize("rare", [0, 2])
def test_a_class_that_the_student_names_once_has_a_bin_to_go_to(rare):
    """The first joins the next class, the last the one before."""
    rng = np.random.default_rng(0)
    student = rng.normal(size=(60, 3))
    student[:, rare] = -9
    student[7, rare] = 9
    split = split_residual(rng.integers(0, 3, 60), rng.normal(size=(60, 3)), student, bins=6)
    assert split.calibration.value + split.thrown_away.value == pytest.approx(split.residual.value)


def test_bad_input_names_the_argument():
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
