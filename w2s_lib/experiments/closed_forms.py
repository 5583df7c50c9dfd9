r"""Closed forms of the book's two exact worlds, squared loss: linear students at fixed inputs, random linear features.

Each is derived in the book: `smoother_path` and `best_smoother` in depth, on the page on averaging,
`random_feature_ledger` and `posterior_mean_distance` in the chapter on capacity.
"""

from __future__ import annotations

import numpy as np

from .._checks import Array, require
from ..ridge import ExpectedLedger, StudentPath, as_float64


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
