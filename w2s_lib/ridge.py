r"""Ridge regression in closed form: one eigendecomposition serves every penalty and every teacher.

    min_theta  1/n ||y - Phi theta||^2 + lambda ||theta||^2

With Phi = U diag(s) V', the prediction on new features is B diag(a) U'y, with B = Phi_new V and a = s/(s^2 + n lambda);
lambda = 0 is the limit, the minimum-norm solution: a = 1/s on the range of Phi. scikit-learn's alpha is n lambda.

Averages over teachers need no teacher one by one. The risk, the misfit and the residual of a student are quadratic in
the teacher, so her mean and covariance suffice; seen in the basis U they cost O(k^2) a penalty, k = min(n, features).
If the teacher is a linear smoother of noisy labels, mean and covariance are known, and there is no Monte Carlo error.
All in float64: float32 eigenvalues are wrong where n lambda is below 1e-6 of the largest. No intercept is fitted:
centre features and targets, or add a column of ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .estimates import require


@dataclass(frozen=True)
class Ridge:
    """Training features, decomposed once: Phi = U diag(s) V'. A stack (samples, n, p) is decomposed as one batch."""

    U: torch.Tensor  # (..., n, k)
    s: torch.Tensor  # (..., k), 0 where Phi has no rank
    V: torch.Tensor  # (..., p, k)

    def filters(self, lambdas):
        """a = s / (s^2 + n lambda), (penalties, ..., k); 0 where s = 0."""
        lam = torch.as_tensor(lambdas, dtype=torch.float64, device=self.s.device).reshape(-1)
        require(torch.isfinite(lam).all() and (lam >= 0).all(), "lambdas", "must be finite and >= 0")
        lam = lam.reshape(-1, *[1] * self.s.ndim)
        square = self.s**2 + self.U.shape[-2] * lam
        return torch.where(self.s > 0, self.s / torch.where(self.s > 0, square, 1), 0)

    def coefficients(self, targets, lambdas):
        """theta for targets (teachers, n), or with a stack one row a sample: (penalties, teachers, p)."""
        theta = (self.filters(lambdas)[..., None, :] * self._project(targets)) @ self.V.mT
        return theta[..., 0, :] if self.U.ndim == 3 else theta

    def predict(self, features, targets, lambdas):
        """Predictions on features (m, p): (penalties, teachers, m). Targets as in `coefficients`."""
        return self.coefficients(targets, lambdas) @ _real(features, "features", self.U).mT

    def smoother(self, features, lam):
        """(m, n): the matrix S(lam) with prediction = S y."""
        return (_real(features, "features", self.U) @ self.V * self.filters(lam)[0]) @ self.U.mT

    def _project(self, targets):
        y = _real(targets, "targets", self.U)
        stack, n = self.U.ndim == 3, self.U.shape[-2]
        want = (len(self.U), n) if stack else ("teachers", n)
        right = y.ndim == 2 and y.shape[1] == n and (not stack or len(y) == len(self.U))
        require(right, "targets", f"need shape {want}, got {tuple(y.shape)}")
        return (y[:, None] if stack else y) @ self.U


def _real(x, name, like=None):
    x = torch.as_tensor(x, dtype=torch.float64, device=None if like is None else like.device)
    require(torch.isfinite(x).all(), name, "holds NaN or infinity")
    return x


def decompose_features(features, *, device="cpu"):
    """Ridge of features (n, p), or of a stack (samples, n, p), by the eigenvectors of the smaller Gram matrix.

    Singular values below 1e-7 of the largest count as zero: forming the Gram matrix squares them, and float64 has no
    more digits.
    """
    Phi = _real(features, "features").to(device)
    require(Phi.ndim in (2, 3), "features", f"need shape (n, p) or (samples, n, p), got {tuple(Phi.shape)}")
    wide = Phi.shape[-2] <= Phi.shape[-1]
    square, basis = torch.linalg.eigh(Phi @ Phi.mT if wide else Phi.mT @ Phi)
    s = square.clamp(min=0).sqrt()
    s = torch.where(s > 1e-7 * s.amax(-1, keepdim=True), s, 0)
    inverse = torch.where(s > 0, 1 / torch.where(s > 0, s, 1), 0)[..., None, :]
    other = (Phi.mT if wide else Phi) @ basis * inverse
    return Ridge(basis, s, other) if wide else Ridge(other, s, basis)


@dataclass(frozen=True)
class StudentPath:
    """Averages over teachers and test inputs, one a penalty; squared loss, risks against the truth."""

    gain: torch.Tensor
    misfit: torch.Tensor
    residual: torch.Tensor
    teacher_risk: torch.Tensor
    student_risk: torch.Tensor


def student_path(ridge, features, lambdas, truth, train_mean, test_mean, train_factor=None, test_factor=None):
    r"""The ledger of the ridge student on her teachers' labels, averaged over the teachers in closed form.

    ridge        : the student's decomposed training features, n inputs
    features     : the student's features on m test inputs, (m, p)
    truth        : g on the test inputs, (m,)
    *_mean       : the teachers' mean on the n training and on the m test inputs
    *_factor     : F1 (n, r) and F2 (m, r): the teachers' covariance over all these inputs is [F1; F2][F1; F2]'.
                   None: a single teacher. `teacher_moments` makes them from a sample of teachers, and
                   `noise_moments` for a teacher who is a ridge regression on noisy labels
    With the columns C = [mean, F]: E|f_s|^2 = a'(B'B * C1 C1')a in the basis U, E f_s f_w = a'(C1 * B'C2)1, and so on.
    """
    require(ridge.U.ndim == 2, "ridge", "must be one decomposition, not a stack")
    B, g = _real(features, "features", ridge.U) @ ridge.V, _real(truth, "truth", ridge.U)
    n, m = len(ridge.U), len(B)
    columns = []
    for name, mean, factor, size in (("train", train_mean, train_factor, n), ("test", test_mean, test_factor, m)):
        mean = _real(mean, f"{name}_mean", ridge.U)
        require(mean.shape == (size,), f"{name}_mean", f"need shape {(size,)}, got {tuple(mean.shape)}")
        factor = mean.new_zeros(size, 0) if factor is None else _real(factor, f"{name}_factor", ridge.U)
        require(factor.ndim == 2 and len(factor) == size, f"{name}_factor", f"need shape ({size}, rank)")
        columns.append(torch.cat([mean[:, None], factor], 1))
    require(columns[0].shape[1] == columns[1].shape[1], "test_factor", "needs as many columns as train_factor")
    require(g.shape == (m,), "truth", f"need shape {(m,)}, got {tuple(g.shape)}")
    a, C1, C2 = ridge.filters(lambdas), ridge.U.mT @ columns[0], columns[1]
    ss = ((a @ ((B.mT @ B) * (C1 @ C1.mT))) * a).sum(1) / m
    sw, sg = a @ (C1 * (B.mT @ C2)).sum(1) / m, a @ (C1[:, 0] * (B.mT @ g)) / m
    ww, wg, gg = (C2**2).sum() / m, C2[:, 0] @ g / m, g @ g / m
    teacher, student = (ww - 2 * wg + gg).expand_as(ss), ss - 2 * sg + gg
    return StudentPath(teacher - student, ss - 2 * sw + ww, 2 * (wg - sw - sg + ss), teacher, student)


def teacher_moments(predictions):
    """(mean (inputs,), factor (inputs, teachers)) of a sample of teachers (teachers, inputs); divisor: their number."""
    W = _real(predictions, "predictions")
    require(W.ndim == 2, "predictions", f"need shape (teachers, inputs), got {tuple(W.shape)}")
    return W.mean(0), (W - W.mean(0)).mT / len(W) ** 0.5


def noise_moments(ridge, features, lam, truth, noise):
    """(mean, factor) on `features` (m, p) of a ridge teacher trained on truth (n,) + N(0, noise^2) labels, exactly.

    ridge : the teacher's decomposed training features; lam: her penalty; noise: standard deviation of a label
    """
    shrunk = _real(features, "features", ridge.U) @ ridge.V * ridge.filters(lam)[0]  # (m, k), S = shrunk U'
    return shrunk @ (ridge.U.mT @ _real(truth, "truth", ridge.U)), noise * shrunk
