r"""Ridge regression in closed form: one eigendecomposition serves every penalty and every teacher.

    min_theta  1/n ||y - Phi theta||^2 + lambda ||theta||^2

The penalty stands beside the MEAN loss: scikit-learn's alpha is n lambda, and l2 of `train`, which adds l2/2 ||W||^2,
is 2 lambda. With Phi = U diag(s) V', theta = V diag(a) U'y, a = s / (s^2 + n lambda); lambda = 0 is the limit, the
minimum-norm solution: a = 1/s where s > 0, else 0.

Averages over teachers need no loop: a student's risk, misfit and residual are quadratic in the teacher, so its mean and
second moments suffice, of a sample (`sampled_teachers`) or of label noise (`ridge_teachers`), at O(k^2) a penalty in
the basis U, k = min(n, p).

NumPy arrays or torch tensors (on any device), always in float64: float32 eigenvalues are wrong where n lambda is below
1e-6 of the largest. No intercept is fitted: centre features and targets, or add a column of ones.
"""

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from ._checks import Array, as_arrays, require


@dataclass(frozen=True)
class Ridge:
    """Training features, decomposed once: Phi = U diag(s) V'. A stack (samples, n, p) is decomposed as one batch."""

    U: Array  # (..., n, k)
    s: Array  # (..., k), 0 where Phi has no rank
    V: Array  # (..., p, k)

    def filters(self, lambdas: Array) -> Array:
        """a = s / (s^2 + n lambda), 0 where s = 0: (penalties, ..., k). ValueError for a penalty below 0."""
        xp = array_namespace(self.s)
        lam = xp.reshape(xp.asarray(lambdas, dtype=xp.float64, device=self.s.device), (-1,) + (1,) * self.s.ndim)
        require(xp.all(xp.isfinite(lam) & (lam >= 0)), "lambdas", "must be finite and >= 0")
        n, s = self.U.shape[-2], self.s
        return xp.where(s > 0, s / xp.where(s > 0, s**2 + n * lam, 1.0), 0.0)

    def coefficients(self, targets: Array, lambdas: Array) -> Array:
        """theta = V diag(a) U'y for targets (teachers, n), or one row a sample of a stack: (penalties, teachers, p)."""
        _, y, _ = as_float64(targets=targets, s=self.s)
        stack, n = self.U.ndim == 3, self.U.shape[-2]
        expected = (len(self.U), n) if stack else (y.shape[0] if y.ndim else 1, n)
        require(tuple(y.shape) == expected, "targets", f"need shape {expected}, got {tuple(y.shape)}")
        projected = (y[:, None, :] if stack else y) @ self.U
        theta = (self.filters(lambdas)[..., None, :] * projected) @ self.V.mT
        return theta[..., 0, :] if stack else theta

    def predict(self, features: Array, targets: Array, lambdas: Array) -> Array:
        """Predictions on features (m, p): (penalties, teachers, m). Targets as in `coefficients`."""
        return self.coefficients(targets, lambdas) @ self._checked(features).mT

    def smoother(self, features: Array, lam: Array) -> Array:
        """The matrix S of one penalty, prediction = S y: (..., m, n)."""
        return self._shrunk(features, lam) @ self.U.mT

    def _shrunk(self, features: Array, lam: Array) -> Array:
        """features V diag(a), (..., m, k), for one penalty: the prediction is that times U'y."""
        a = self.filters(lam)
        require(len(a) == 1, "lam", "must be a single penalty")
        return self._checked(features) @ self.V * a[0][..., None, :]

    def _checked(self, features: Array) -> Array:
        _, features, _ = as_float64(features=features, s=self.s)
        p, shape = self.V.shape[-2], tuple(features.shape)
        require(shape[1:] == (p,), "features", f"need shape (inputs, {p}), the same for all samples, got {shape}")
        return features


def as_float64(**named: Array) -> tuple[Any, ...]:
    xp, *arrays = as_arrays(**named)
    return xp, *(xp.astype(x, xp.float64, copy=False) for x in arrays)


def decompose_features(features: Array) -> Ridge:
    """Ridge of features (n, p), or of a stack (samples, n, p), by the eigenvectors of the smaller Gram matrix.

    Singular values below 1e-7 of the largest count as zero: the Gram matrix squares them, and float64 has no more
    digits. Raises ValueError for NaN and for other shapes.

    >>> decompose_features([[1, 0], [0, 2]]).coefficients([[3, 4]], lambdas=[0, 0.5])[:, 0].round(9)
    array([[3. , 2. ],
           [1.5, 1.6]])
    """
    xp, Phi = as_float64(features=features)
    require(Phi.ndim in (2, 3), "features", f"need shape (n, p) or (samples, n, p), got {tuple(Phi.shape)}")
    wide = Phi.shape[-2] <= Phi.shape[-1]
    square, basis = xp.linalg.eigh(Phi @ Phi.mT if wide else Phi.mT @ Phi)
    s = xp.sqrt(xp.clip(square, 0.0, None))
    s = xp.where(s > 1e-7 * xp.max(s, axis=-1, keepdims=True), s, 0.0)
    inverse = xp.where(s > 0, 1 / xp.where(s > 0, s, 1.0), 0.0)
    other = (Phi.mT if wide else Phi) @ (basis * inverse[..., None, :])
    return Ridge(basis, s, other) if wide else Ridge(other, s, basis)


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
    shrunk = ridge._shrunk(features, lam)
    xp, truth, _ = as_float64(truth=truth, s=ridge.s)
    require(0 < n < len(shrunk), "n", f"must leave training and test inputs of {len(shrunk)}")
    require(truth.shape == (len(ridge.U),), "truth", f"need shape {(len(ridge.U),)}, got {tuple(truth.shape)}")
    require(noise >= 0, "noise", "is a standard deviation, >= 0")
    mean = shrunk @ (ridge.U.mT @ truth)
    factor = xp.concat([mean[:, None], noise * shrunk], axis=1)
    return TeacherMoments(mean, factor[:n], factor[n:], xp.sum(factor[n:] ** 2) / (len(factor) - n))


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


def student_path(ridge: Ridge, features: Array, lambdas: Array, truth: Array, teachers: TeacherMoments) -> StudentPath:
    r"""The ledger of the ridge student on the teachers' labels, averaged over the teachers in closed form.

    ridge, features : the student's n training inputs, decomposed; its features on m test inputs, (m, p)
    truth, teachers : g on the test inputs, (m,); the moments of the teachers on training and test inputs
    With B = features V and C = U'F1, summed over test inputs: E|f_s|^2 = a'(B'B * CC')a, E f_s f_w = a'(C * B'F2)1,
    E f_s g the same with the mean; the entries are sums of these. Raises ValueError for shapes that do not match.

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
