r"""Ridge regression in closed form: one eigendecomposition serves every penalty and every teacher.

    min_theta  1/n ||y - Phi theta||^2 + lambda ||theta||^2

The penalty stands beside the MEAN loss: scikit-learn's alpha is n lambda, and l2 of `train`, which adds l2/2 ||W||^2,
is 2 lambda. With Phi = U diag(s) V', theta = V diag(a) U'y, a = s / (s^2 + n lambda); lambda = 0 is the limit, the
minimum-norm solution: a = 1/s where s > 0, else 0.

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
        a = self.filters(lam)
        require(len(a) == 1, "lam", "must be a single penalty")
        return (self._checked(features) @ self.V * a[0][..., None, :]) @ self.U.mT

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
