r"""Ridge regression in closed form: one eigendecomposition serves every penalty and every teacher.

    min_theta  1/n ||y - Phi theta||^2 + lambda ||theta||^2

With Phi = U diag(s) V', the prediction on new features is B diag(a) U'y, with B = Phi_new V and a = s/(s^2 + n lambda);
lambda = 0 is the limit, the minimum-norm solution: a = 1/s on the range of Phi. scikit-learn's alpha is n lambda.

Averages over teachers need no teacher one by one. The risk, the misfit and the residual of a student are quadratic in
the teacher, so her mean and second moments suffice; seen in the basis U they cost O(k^2) a penalty, k = min(n, p).
If the teacher is a ridge regression on noisy labels, her moments are known, and there is no Monte Carlo error.

For random linear features and Gaussian inputs the expected ledger of a student without a penalty has a closed form at
every finite size: `random_feature_ledger`.

NumPy arrays or torch tensors (on any device), always in float64: float32 eigenvalues are wrong where n lambda is below
1e-6 of the largest. No intercept is fitted: centre features and targets, or add a column of ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from ._checks import as_arrays, require


@dataclass(frozen=True)
class Ridge:
    """Training features, decomposed once: Phi = U diag(s) V'. A stack (samples, n, p) is decomposed as one batch."""

    U: Any  # (..., n, k)
    s: Any  # (..., k), 0 where Phi has no rank
    V: Any  # (..., p, k)

    def filters(self, lambdas):
        """a = s / (s^2 + n lambda), (penalties, ..., k); 0 where s = 0."""
        xp = array_namespace(self.s)
        lam = xp.reshape(xp.asarray(lambdas, dtype=xp.float64, device=self.s.device), (-1,) + (1,) * self.s.ndim)
        require(xp.all(xp.isfinite(lam) & (lam >= 0)), "lambdas", "must be finite and >= 0")
        kept = self.s > 0
        return xp.where(kept, self.s / xp.where(kept, self.s**2 + self.U.shape[-2] * lam, 1.0), 0.0)

    def coefficients(self, targets, lambdas):
        """theta for targets (teachers, n), or with a stack one row a sample: (penalties, teachers, p)."""
        _, y, U = _doubles(targets=targets, U=self.U)
        stack, n = U.ndim == 3, U.shape[-2]
        right = y.ndim == 2 and y.shape[1] == n and (not stack or len(y) == len(U))
        want = (len(U), n) if stack else ("teachers", n)
        require(right, "targets", f"need shape {want}, got {tuple(y.shape)}")
        projected = (y[:, None, :] if stack else y) @ U
        theta = (self.filters(lambdas)[..., None, :] * projected) @ self.V.mT
        return theta[..., 0, :] if stack else theta

    def predict(self, features, targets, lambdas):
        """Predictions on features (m, p): (penalties, teachers, m). Targets as in `coefficients`."""
        features = self._new(features)
        return self.coefficients(targets, lambdas) @ features.mT

    def smoother(self, features, lam):
        """(..., m, n): the matrix S(lam) with prediction = S y, for one penalty."""
        return (self._new(features) @ self.V * self._one(lam)[..., None, :]) @ self.U.mT

    def _one(self, lam):
        a = self.filters(lam)
        require(len(a) == 1, "lam", "must be a single penalty")
        return a[0]

    def _new(self, features):
        _, features, _ = _doubles(features=features, U=self.U)
        p = self.V.shape[-2]
        right = features.ndim == 2 and features.shape[1] == p
        require(right, "features", f"need shape (inputs, {p}), the same for all samples, got {tuple(features.shape)}")
        return features


def _doubles(**named):
    """`as_arrays`, in float64."""
    xp, *arrays = as_arrays(**named)
    return xp, *(xp.astype(x, xp.float64, copy=False) for x in arrays)


def decompose_features(features):
    """Ridge of features (n, p), or of a stack (samples, n, p), by the eigenvectors of the smaller Gram matrix.

    Singular values below 1e-7 of the largest count as zero: forming the Gram matrix squares them, and float64 has no
    more digits.
    """
    xp, Phi = _doubles(features=features)
    require(Phi.ndim in (2, 3), "features", f"need shape (n, p) or (samples, n, p), got {tuple(Phi.shape)}")
    wide = Phi.shape[-2] <= Phi.shape[-1]
    square, basis = xp.linalg.eigh(Phi @ Phi.mT if wide else Phi.mT @ Phi)
    s = xp.sqrt(xp.clip(square, 0.0, None))
    kept = s > 1e-7 * xp.max(s, axis=-1, keepdims=True)
    s = xp.where(kept, s, 0.0)
    inverse = xp.where(kept, 1 / xp.where(kept, s, 1.0), 0.0)[..., None, :]
    other = (Phi.mT if wide else Phi) @ basis * inverse
    return Ridge(basis, s, other) if wide else Ridge(other, s, basis)


@dataclass(frozen=True)
class Teachers:
    """Mean and second moments of teachers f on n training inputs (1) and m test inputs (2), in factors of rank r."""

    mean: Any  # (n + m,)
    train: Any  # F1 (n, r)
    test: Any  # F2 (m, r): E f_1 f_1' = F1 F1', E f_1 f_2' = F1 F2'
    power: Any  # E|f_2|^2 / m


def sampled_teachers(predictions, n):
    """Teachers of a sample of predictions (teachers, n + m) on the training inputs, then on the test inputs.

    The plain averages over the sample: what follows is exact for these teachers. Many teachers are brought to rank n by
    an eigendecomposition of E f_1 f_1', so that a student costs the same for any number of them.
    """
    xp, W = _doubles(predictions=predictions)
    require(W.ndim == 2, "predictions", f"need shape (teachers, inputs), got {tuple(W.shape)}")
    require(0 < n < W.shape[1], "n", f"must leave training and test inputs of {W.shape[1]}")
    F1, F2 = (x.mT / len(W) ** 0.5 for x in (W[:, :n], W[:, n:]))
    if len(W) > 2 * n:
        square, U = xp.linalg.eigh(F1 @ F1.mT)
        scale = xp.sqrt(xp.clip(square, 1e-14 * xp.max(square), None))
        F1, F2 = U * scale, F2 @ F1.mT @ U / scale
    return Teachers(xp.mean(W, axis=0), F1, F2, xp.mean(W[:, n:] ** 2))


def noisy_ridge_teachers(ridge, features, lam, truth, noise, n):
    """Teachers that are ridge regressions on truth + N(0, noise^2) labels, in closed form over that noise.

    ridge    : the teacher's decomposed training features; lam: her penalty
    features : (n + m, p), hers on the student's training inputs, then on the test inputs
    truth    : (inputs,), on her own training inputs; noise: standard deviation of a label
    """
    xp, features, truth, U = _doubles(features=features, truth=truth, U=ridge.U)
    require(0 < n < len(features), "n", f"must leave training and test inputs of {len(features)}")
    require(U.ndim == 2, "ridge", "must be one decomposition, not a stack")
    require(truth.shape == (len(U),), "truth", f"need shape {(len(U),)}, got {tuple(truth.shape)}")
    require(noise >= 0, "noise", "is a standard deviation, >= 0")
    shrunk = ridge._new(features) @ ridge.V * ridge._one(lam)  # her predictions are shrunk U'y
    mean = shrunk @ (U.mT @ truth)
    factor = xp.concat([mean[:, None], noise * shrunk], axis=1)
    return Teachers(mean, factor[:n], factor[n:], xp.sum(factor[n:] ** 2) / (len(factor) - n))


@dataclass(frozen=True)
class ExpectedLedger:
    """Expected entries, squared loss: gain = misfit - residual; numbers or arrays."""

    gain: Any
    misfit: Any
    residual: Any


@dataclass(frozen=True)
class StudentPath(ExpectedLedger):
    """Averages over teachers and test inputs, one a penalty; squared loss, risks against the truth."""

    teacher_risk: Any
    student_risk: Any


def student_path(ridge, features, lambdas, truth, teachers):
    r"""The ledger of the ridge student on the teachers' labels, averaged over the teachers in closed form.

    ridge    : the student's decomposed training features, n inputs
    features : the student's features on m test inputs, (m, p)
    truth    : g on the test inputs, (m,)
    With C = U'F1, in the basis U: E|f_s|^2 = a'(B'B * CC')a, E f_s f_w = a'(C * B'F2)1, E f_s g the same with the mean;
    gain, misfit and residual are sums of these.
    """
    require(ridge.U.ndim == 2, "ridge", "must be one decomposition, not a stack")
    arrays = {"mean": teachers.mean, "train": teachers.train, "test": teachers.test}
    xp, features, g, U, mean, F1, F2 = _doubles(features=features, truth=truth, U=ridge.U, **arrays)
    n, m, B = len(U), len(features), features @ ridge.V
    require(len(F1) == n and len(F2) == m, "teachers", f"are for {len(F1)} + {len(F2)} inputs, not {n} + {m}")
    require(g.shape == (m,), "truth", f"need shape {(m,)}, got {tuple(g.shape)}")
    a, C = ridge.filters(lambdas), U.mT @ F1  # (penalties, k), (k, r)
    ss = xp.sum(a @ (B.mT @ B * (C @ C.mT)) * a, axis=1) / m
    sw, sg = a @ xp.sum(C * (B.mT @ F2), axis=1) / m, a @ ((U.mT @ mean[:n]) * (B.mT @ g)) / m
    ww, wg, gg = teachers.power, mean[n:] @ g / m, g @ g / m
    teacher, student = ww - 2 * wg + gg + 0 * ss, ss - 2 * sg + gg
    return StudentPath(teacher - student, ss - 2 * sw + ww, 2 * (wg - sw - sg + ss), teacher, student)


def smoother_path(smoothers, mean, covariance, truth):
    r"""The ledger of a linear student f_s = S f_w on the teacher's own inputs (fixed design), averaged over teachers.

    smoothers  : (..., m, m), S, or a stack of them
    mean       : (m,), mu = E f_w at the inputs;  covariance : (m, m), Sig = Cov f_w;  truth : (m,), g
    Squared loss; averages over the m inputs. With b = mu - g, m times

        gain     = tr((I - S'S) Sig) + |b|^2 - |S mu - g|^2
        misfit   = tr((I - S)'(I - S) Sig) + |(I - S) mu|^2
        residual = 2 <(I - S) mu, g - S mu> - 2 tr(S'(I - S) Sig)

    Returns a StudentPath in the leading shape. Raises ValueError for shapes that do not match. Derived in the book.
    """
    xp, S, mu, Sig, g = _doubles(smoothers=smoothers, mean=mean, covariance=covariance, truth=truth)
    m = len(g) if g.ndim == 1 else -1
    for name, shape, right in (
        ("smoothers", S.shape[-2:], (m, m)),
        ("mean", mu.shape, (m,)),
        ("covariance", Sig.shape, (m, m)),
    ):
        require(tuple(shape) == right, name, f"needs shape {right} for a truth of shape {tuple(g.shape)}")
    f, smooth = S @ mu, S @ Sig
    lost = xp.sum(S * (Sig - smooth), axis=(-2, -1))  # tr(S'(I - S) Sig)
    teacher = xp.sum((mu - g) ** 2) + xp.sum(xp.linalg.diagonal(Sig)) + 0 * lost
    student = xp.sum((f - g) ** 2, axis=-1) + xp.sum(S * smooth, axis=(-2, -1))
    misfit = xp.sum((mu - f) ** 2, axis=-1) + xp.sum(xp.linalg.diagonal(Sig - smooth), axis=-1) - lost
    residual = 2 * xp.sum((mu - f) * (g - f), axis=-1) - 2 * lost
    return StudentPath(*(x / m for x in (teacher - student, misfit, residual, teacher, student)))


def best_smoother(mean, covariance, truth):
    """The linear student of least risk, S = g mu' (mu mu' + Sig)^-1, (m, m); arguments as in `smoother_path`.

    His residual is zero. (The least-squares inverse is taken where the matrix is singular.)
    """
    xp, mu, Sig, g = _doubles(mean=mean, covariance=covariance, truth=truth)
    return g[:, None] * (xp.linalg.pinv(mu[:, None] * mu + Sig) @ mu)


def random_feature_ledger(d, N, d_s, power, alignment):
    r"""The expected ledger of a student on random linear features, without a penalty; exact at every finite size.

        m = min(N, d_s),  q = m / (|N - d_s| - 1)
        misfit = (1 - m/d) M (1 + q),   residual = 2 (1 - m/d) (C + q M),   gain = (1 - m/d) (M - 2C - q M)

    Inputs x ~ N(0, I_d), teacher x'theta_w, truth x'theta*; the student is the minimum-norm regression of her labels at
    N inputs on the features W x, W (d_s, d) standard normal; inputs, W and (theta_w, theta*) are independent.

    d, N, d_s        : inputs' dimension, labels, features; integers, or arrays that broadcast
    power, alignment : M = E|theta_w|^2 and C = E<theta_w, theta*>
    If N and d_s are both at least d, the student is the teacher and every entry is 0. Otherwise the expectations are
    finite for |N - d_s| >= 2 only (and the variances of what is averaged for |N - d_s| >= 4).
    Raises ValueError for sizes below 1, for |N - d_s| < 2 where that matters, and for power < 0.
    Source: derived in the book, chapter "Capacity".
    """
    outside, q = _random_features(d, N, d_s)
    _, M, C = _doubles(power=power, alignment=alignment)
    require(np.all(M >= 0), "power", "is a mean square, >= 0")
    misfit, residual = outside * M * (1 + q), 2 * outside * (C + q * M)
    return ExpectedLedger(misfit - residual, misfit, residual)


def posterior_mean_distance(d, N, d_s, power, centre=0.0):
    r"""E (f_s - E[f_w | f_s])^2 of the student of `random_feature_ledger`, if he interpolates: N < d, d_s >= N + 2.

        (1 - N/d) (|mu|^2 + q M),   q = N / (d_s - N - 1),   for theta_w ~ N(mu, tau^2 I_d),  M = |mu|^2 + d tau^2

    The posterior mean, given inputs, features and the student as a function, is x'(mu + P(theta_w - mu)), with P the
    projection on the span of the N inputs.

    d, N, d_s, power : as in `random_feature_ledger`
    centre           : |mu|^2; 0 for a prior without a centre, |theta*|^2 for a teacher who scatters around the truth
    Raises ValueError for other sizes, and unless 0 <= centre <= power. Source: derived in the book, chapter "Capacity".
    """
    require(np.all(np.less(N, d)), "N", "must be less than d; from there on the student is the teacher")
    require(np.all(np.subtract(d_s, N) >= 2), "d_s", "must be at least N + 2: a student who interpolates")
    outside, q = _random_features(d, N, d_s)
    _, M, centre = _doubles(power=power, centre=centre)
    require(np.all((centre >= 0) & (centre <= M)), "centre", "must lie between 0 and power")
    return outside * (centre + q * M)


def _random_features(d, N, d_s):
    """1 - m/d, and q where that is positive, else 0."""
    _, d, N, d_s = _doubles(d=d, N=N, d_s=d_s)
    for name, size in {"d": d, "N": N, "d_s": d_s}.items():
        require(np.all(size >= 1), name, "must be at least 1")
    m, gap = np.minimum(N, d_s), np.abs(N - d_s) - 1
    matters = m < d
    require(np.all((gap >= 1) | ~matters), "d_s", "must differ from N by 2 or more: the expectation is infinite")
    return np.where(matters, 1 - m / d, 0.0), np.where(matters, m / np.where(matters, gap, 1.0), 0.0)
