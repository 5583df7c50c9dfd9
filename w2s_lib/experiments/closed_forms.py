r"""Expected ledgers in closed form, squared loss: no teacher is trained, and none is drawn.

    ridge students, averaged over a sample of teachers or over their label noise     `student_path`
    linear students at fixed inputs                                                  `smoother_path`, `best_smoother`
    students on random linear features                                               `random_feature_ledger`
    the teacher's true labels, used again                         `naive_gold_optimism`, `fewer_labels_factor`

A student's risk, misfit and residual are quadratic in the teacher, so the teacher's mean and second moments suffice:
for a ridge student O(k^2) a penalty in the basis U of `ridge`, k = min(n, p), whatever the number of teachers. The
others are derived in the book: linear students on the page on averaging, random features in the chapter on capacity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._checks import Array, require
from ..ridge import Ridge, as_float64


@dataclass(frozen=True)
class ExpectedLedger:
    """Expected entries, squared loss: gain = misfit - residual; numbers or arrays."""

    gain: Array
    misfit: Array
    residual: Array


@dataclass(frozen=True)
class StudentPath(ExpectedLedger):
    """Averages over teachers and test inputs, one a penalty (or a smoother); squared loss, risks against the truth."""

    teacher_risk: Array
    student_risk: Array


@dataclass(frozen=True)
class TeacherMoments:
    """Mean and second moments of teachers f on n training inputs (1) and m test inputs (2), in factors of rank r."""

    mean: Array  # (n + m,)
    train: Array  # F1 (n, r)
    test: Array  # F2 (m, r): E f_1 f_1' = F1 F1', E f_1 f_2' = F1 F2'
    power: Array  # E|f_2|^2 / m


def sampled_teachers(predictions: Array, n: int) -> TeacherMoments:
    """Moments of a sample of teachers, predictions (teachers, n + m) on n training inputs, then on m test inputs.

    Exact for these teachers, at the same cost for any number of them, as the factors are brought to few columns.
    Raises ValueError for other shapes, and unless 0 < n < n + m.
    """
    xp, f = as_float64(predictions=predictions)
    require(f.ndim == 2, "predictions", f"need shape (teachers, inputs), got {tuple(f.shape)}")
    require(0 < n < f.shape[1], "n", f"must leave training and test inputs of {f.shape[1]}")
    mean, power, root = xp.mean(f, axis=0), xp.mean(f[:, n:] ** 2), len(f) ** 0.5
    basis, _ = xp.linalg.qr(f[:, :n:8])  # small teachers have a low rank: some inputs span all others
    small, norm = basis.mT @ f, xp.linalg.matrix_norm
    f = small if norm(f[:, :n] - basis @ small[:, :n]) <= 1e-13 * norm(f[:, :n]) else f
    F1, F2 = f[:, :n].mT, f[:, n:].mT
    if len(f) > 2 * n:
        square, U = xp.linalg.eigh(F1 @ F1.mT)
        scale = xp.sqrt(xp.clip(square, 1e-14 * xp.max(square), None))
        F1, F2 = U * scale, F2 @ F1.mT @ U / scale
    return TeacherMoments(mean, F1 / root, F2 / root, power)


def ridge_teachers(ridge: Ridge, features: Array, lam: float, truth: Array, noise: float, n: int) -> TeacherMoments:
    """Moments of teachers that are ridge regressions on truth + N(0, noise^2) labels, in closed form over that noise.

    ridge    : the teacher's decomposed training features; lam: the teacher's penalty
    features : (n + m, p), the teacher's on the student's n training inputs, then on the test inputs
    truth    : (inputs,), on the teacher's training inputs; noise: standard deviation of a label
    Raises ValueError for shapes that do not match, several penalties, or noise < 0.
    """
    require(ridge.U.ndim == 2, "ridge", "must be one decomposition, not a stack")
    smoother = ridge.smoother(features, lam)
    xp, truth, _ = as_float64(truth=truth, s=ridge.s)
    require(0 < n < len(smoother), "n", f"must leave training and test inputs of {len(smoother)}")
    require(truth.shape == (len(ridge.U),), "truth", f"need shape {(len(ridge.U),)}, got {tuple(truth.shape)}")
    require(noise >= 0, "noise", "is a standard deviation, >= 0")
    mean = smoother @ truth
    factor = xp.concat([mean[:, None], noise * smoother], axis=1)
    return TeacherMoments(mean, factor[:n], factor[n:], xp.sum(factor[n:] ** 2) / (len(factor) - n))


def student_path(ridge: Ridge, features: Array, lambdas: Array, truth: Array, teachers: TeacherMoments) -> StudentPath:
    r"""The ledger of the ridge student on the teachers' labels, averaged over the teachers in closed form.

    ridge, features : the student's n training inputs, decomposed; its features on m test inputs, (m, p)
    truth, teachers : g on the test inputs, (m,); the moments of the teachers on training and test inputs
    With B = features V and C = U'F1, summed over test inputs: E|f_s|^2 = a'(B'B * CC')a, E f_s f_w = a'(C * B'F2)1,
    E f_s g the same with the mean; the entries are sums of these. Raises ValueError for shapes that do not match.

    >>> from w2s_lib.ridge import decompose_features
    >>> ridge, teachers = decompose_features([[1], [2]]), sampled_teachers([[2, 2, 4], [0, 2, 2]], n=2)
    >>> path = student_path(ridge, [[3]], lambdas=0, truth=[3], teachers=teachers)
    >>> [round(float(entry[0]), 9) for entry in (path.gain, path.misfit, path.residual)]
    [0.64, 0.16, -0.48]
    """
    require(ridge.U.ndim == 2, "ridge", "must be one decomposition, not a stack")
    xp, g, mean, _ = as_float64(truth=truth, mean=teachers.mean, s=ridge.s)
    U, F1, F2, B = ridge.U, teachers.train, teachers.test, ridge._checked(features) @ ridge.V
    n, m = len(U), len(B)
    require(len(F1) == n and len(F2) == m, "teachers", f"are for {len(F1)} + {len(F2)} inputs, not {n} + {m}")
    require(g.shape == (m,), "truth", f"need shape {(m,)}, got {tuple(g.shape)}")
    a, C = ridge.filters(lambdas), U.mT @ F1  # (penalties, k), (k, r)
    ss = xp.sum(a @ (B.mT @ B * (C @ C.mT)) * a, axis=1) / m
    sw, sg = a @ xp.sum(C * (B.mT @ F2), axis=1) / m, a @ ((U.mT @ mean[:n]) * (B.mT @ g)) / m
    ww, wg, gg = teachers.power, mean[n:] @ g / m, g @ g / m
    teacher, student = ww - 2 * wg + gg + 0 * ss, ss - 2 * sg + gg
    return StudentPath(teacher - student, ss - 2 * sw + ww, 2 * (wg - sw - sg + ss), teacher, student)


def smoother_path(smoothers: Array, mean: Array, covariance: Array, truth: Array) -> StudentPath:
    r"""The ledger of a linear student f_s = S f_w on the teacher's inputs (fixed design), averaged over teachers.

    smoothers  : (..., m, m), S, or a stack of them
    mean       : (m,), mu = E f_w at the inputs;  covariance : (m, m), Sig = Cov f_w;  truth : (m,), g
    Returns a StudentPath in the leading shape. Raises ValueError for shapes that do not match.
    Squared loss; averages over the m inputs. Derived in the book. With b = mu - g, m times

        gain     = tr((I - S'S) Sig) + |b|^2 - |S mu - g|^2
        misfit   = tr((I - S)'(I - S) Sig) + |(I - S) mu|^2
        residual = 2 <(I - S) mu, g - S mu> - 2 tr(S'(I - S) Sig)
    """
    xp, S, mu, Sig, g = as_float64(smoothers=smoothers, mean=mean, covariance=covariance, truth=truth)
    vector, matrix = tuple(g.shape), 2 * tuple(g.shape)
    expected = {"smoothers": (S.shape[-2:], matrix), "mean": (mu.shape, vector), "covariance": (Sig.shape, matrix)}
    for name, (shape, right) in expected.items():
        require(tuple(shape) == right, name, f"needs shape {right} for a truth of shape {vector}")
    f, smooth = S @ mu, S @ Sig
    lost = xp.sum(S * (Sig - smooth), axis=(-2, -1))  # tr(S'(I - S) Sig)
    teacher = xp.sum((mu - g) ** 2) + xp.sum(xp.linalg.diagonal(Sig)) + 0 * lost
    student = xp.sum((f - g) ** 2, axis=-1) + xp.sum(S * smooth, axis=(-2, -1))
    misfit = xp.sum((mu - f) ** 2, axis=-1) + xp.sum(xp.linalg.diagonal(Sig - smooth), axis=-1) - lost
    residual = 2 * xp.sum((mu - f) * (g - f), axis=-1) - 2 * lost
    return StudentPath(*(x / len(g) for x in (teacher - student, misfit, residual, teacher, student)))


def best_smoother(mean: Array, covariance: Array, truth: Array) -> Array:
    """The linear student of least risk, S = g mu' (mu mu' + Sig)^+, (m, m): no residual. Arguments: `smoother_path`."""
    xp, mu, Sig, g = as_float64(mean=mean, covariance=covariance, truth=truth)
    return g[:, None] * (xp.linalg.pinv(mu[:, None] * mu + Sig) @ mu)


def random_feature_ledger(d: Array, N: Array, d_s: Array, power: Array, alignment: Array) -> ExpectedLedger:
    r"""The expected ledger of a student on random linear features, without a penalty; exact at every finite size.

        m = min(N, d_s),  q = m / (|N - d_s| - 1)
        misfit = (1 - m/d) M (1 + q),   residual = 2 (1 - m/d) (C + q M),   gain = (1 - m/d) (M - 2C - q M)

    Inputs x ~ N(0, I_d), teacher x'theta_w, truth x'theta*; the student is the minimum-norm regression of the teacher's
    labels at N inputs on W x, W (d_s, d) standard normal; inputs, W and (theta_w, theta*) are independent.
    d, N, d_s        : dimension of the inputs, labels, features; integers, or arrays that broadcast
    power, alignment : M = E|theta_w|^2 and C = E<theta_w, theta*>
    If N and d_s are both at least d, the student is the teacher and every entry is 0. Otherwise the expectations are
    finite for |N - d_s| >= 2 only (and the variances of what is averaged for |N - d_s| >= 4).
    Raises ValueError where they are not, for sizes below 1 and for power < 0. Derived in the book, chapter "Capacity".
    """
    _, d, N, d_s, M, C = as_float64(d=d, N=N, d_s=d_s, power=power, alignment=alignment)
    for name, value, least in (("d", d, 1), ("N", N, 1), ("d_s", d_s, 1), ("power", M, 0)):
        require(np.all(value >= least), name, f"must be at least {least}")
    m, gap = np.minimum(N, d_s), np.abs(N - d_s) - 1
    require(np.all((gap >= 1) | (m >= d)), "d_s", "must differ from N by 2 or more: the expectation is infinite")
    missed, q = np.clip(1 - m / d, 0, None), np.where(m < d, m / np.where(m < d, gap, 1.0), 0.0)
    misfit, residual = missed * M * (1 + q), 2 * missed * (C + q * M)
    return ExpectedLedger(misfit - residual, misfit, residual)


def posterior_mean_distance(d: Array, N: Array, d_s: Array, power: Array, centre: Array = 0.0) -> Array:
    r"""E (f_s - E[f_w | f_s])^2 of the student of `random_feature_ledger`, if it interpolates: N < d, d_s >= N + 2.

        (1 - N/d) (|mu|^2 + q M),   q = N / (d_s - N - 1),   for theta_w ~ N(mu, tau^2 I_d),  M = |mu|^2 + d tau^2

    That is half the residual at an alignment |mu|^2. The posterior mean, given inputs, features and the student as a
    function, is x'(mu + P(theta_w - mu)), with P the projection on the span of the N inputs.
    d, N, d_s, power : as in `random_feature_ledger`
    centre           : |mu|^2; 0 for a prior without a centre, |theta*|^2 for a teacher that scatters around the truth
    Raises ValueError for other sizes, and unless 0 <= centre <= power. Derived in the book, chapter "Capacity".
    """
    require(np.all(np.less(N, d)), "N", "must be less than d; from there on the student is the teacher")
    require(np.all(np.subtract(d_s, N) >= 2), "d_s", "must be at least N + 2: a student that interpolates")
    require(np.all(np.less_equal(0, centre) & np.less_equal(centre, power)), "centre", "must lie between 0 and power")
    return random_feature_ledger(d, N, d_s, power, alignment=centre).residual / 2


def naive_gold_optimism(smoothers: Array, teacher: Array, noise: float) -> Array:
    r"""How much too small the student's squared loss on the teacher's own gold labels is, on average: (...), points.

        E[loss on fresh labels at the gold inputs] - E[loss on the gold labels] = (2 noise^2 / n) tr(S H)

    Teacher H y at the student's inputs, y the n gold labels; student S H y at the gold inputs; inputs fixed.
    smoothers : (..., n, m), S, the student from the teacher's labels at its m inputs: `Ridge.smoother` of the gold ones
    teacher   : (m, n), H;  noise : standard deviation of a label, the same for all, labels uncorrelated
    Both losses are means over the n gold inputs. Source: Efron (1986), "How biased is the apparent error rate of a
    prediction rule?", of the smoother S H. Raises ValueError for shapes that do not match, and for noise < 0.

    >>> from w2s_lib.ridge import decompose_features
    >>> gold, transfer = np.array([[1.0], [2.0]]), np.array([[1.0], [1.0], [3.0]])
    >>> H = decompose_features(gold).smoother(transfer, lam=0)
    >>> S = np.stack([decompose_features(transfer).smoother(gold, lam=l) for l in (0, 11 / 3)])
    >>> naive_gold_optimism(S, H, noise=1.0).round(9)  # one slope for two labels; shrunk by half
    array([1. , 0.5])
    """
    xp, S, H = as_float64(smoothers=smoothers, teacher=teacher)
    require(H.ndim == 2, "teacher", f"need shape (inputs, gold labels), got {tuple(H.shape)}")
    wanted = tuple(H.shape[::-1])
    require(tuple(S.shape[-2:]) == wanted, "smoothers", f"need shape (..., {wanted}), got {tuple(S.shape)}")
    require(noise >= 0, "noise", "is a standard deviation, >= 0")
    return 2 * noise**2 / wanted[0] * xp.sum(S * H.mT, axis=(-2, -1))


def fewer_labels_factor(n: Array, d: Array, folds: Array) -> Array:
    r"""How much larger a least-squares teacher's variance is with all gold labels but one fold than with all n.

        (n - d - 1) / (n (1 - 1/folds) - d - 1),     infinite where n (1 - 1/folds) <= d + 1

    Least squares on d Gaussian features of n labels has variance noise^2 d / (n - d - 1); that of a student, linear in
    the teacher's answers at inputs of its own, is a multiple of it that n does not enter: one factor for both. The
    strong model on gold has more features, so another factor, a larger one: too few folds wrong it.
    Arguments broadcast. Raises ValueError for n <= d + 1, d < 1 or folds < 2. Derived in the book.

    >>> fewer_labels_factor(n=100, d=40, folds=[2, 5, 10, 100]).round(2)
    array([6.56, 1.51, 1.2 , 1.02])
    """
    _, n, d, folds = as_float64(n=n, d=d, folds=folds)
    require(np.all(d >= 1), "d", "must be at least 1")
    require(np.all(folds >= 2), "folds", "must be at least 2")
    require(np.all(n > d + 1), "n", "must be above d + 1: the variance is infinite already")
    left = n * (1 - 1 / folds) - d - 1
    return np.where(left > 0, (n - d - 1) / np.where(left > 0, left, 1.0), np.inf)
