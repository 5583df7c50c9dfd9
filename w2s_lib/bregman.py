r"""Bregman divergences, for NumPy and torch arrays alike.

For a strictly convex, differentiable generator phi with dual coordinates z = grad phi(f):

    D(a, b) = phi(a) - phi(b) - <grad phi(b), a - b>        (Bregman 1967)

- A *prediction* comes in the coordinates in which a model gives it: logits for `KL` (any constant may be added),
  log-odds for `LOGISTIC`, the value itself otherwise. A *truth* is a mean: probabilities, a one-hot label, a target. So
  labels may sit on the boundary, and no probability is formed only to be logged: logits of 1e4 are fine.
- The last axis holds the outputs (classes); all other axes are free and broadcast. float32 stays float32.
- As a -> b a divergence keeps its relative precision: sums of p (e^d - 1 - d), d = log(q/p), without cancellation.
- A logit below -1e8, as -1e9, float32's least and -inf are, masks its class: all is as it would be without that class;
  a ValueError where a label or the other prediction needs it, as the divergence is infinite.
"""

from math import factorial

import numpy as np
from array_api_compat import array_namespace, device

from ._checks import Array, as_arrays, as_real, as_targets, check_labels, require, require_all, to_numpy

NOT_INTERIOR = "where its logarithm is needed; pass soft labels, or smooth them (add 1e-12 and normalise)"
MASKED = -1e8  # logits below mask their class: no model means them as numbers
LEAST = -1e18  # the least logit, and what -inf becomes: finite, as its square is in float32


def log_softmax(logits: Array, axis: int = -1) -> Array:
    """log p of p = softmax(logits) over `axis`."""
    return _softmax(array_namespace(logits), logits, axis)[1]


def _softmax(xp, f, axis=-1):
    """(p, log p). The maximum is taken off first: f - logsumexp(f) would carry the rounding of f into every one."""
    f = f - xp.max(f, axis=axis, keepdims=True)
    weight = xp.exp(f)
    total = xp.sum(weight, axis=axis, keepdims=True)
    return weight / total, f - xp.log(total)


def _unmasked(xp, f):
    """Where a class may have a probability above 0: logits that are not more than 3e4 below the largest."""
    return f > xp.max(f, axis=-1, keepdims=True) - 3e4


def _log_ratio(xp, a, b):
    """log(b/a) for positive a and b, exact to rounding where they are close."""
    close = xp.abs(b - a) < 0.5 * a
    step = xp.where(close, b - a, 0 * a) / a
    return xp.where(close, xp.log1p(step), xp.log(b) - xp.log(a))


def _relative_entropy(xp, p, q, d):
    """p log(p/q) - p + q = p (e^d - 1 - d) termwise, given d = log(q/p). At p = 0 it is q, whatever d.

    The first form cancels near d = 0: |d| < 1 takes the series of the second (next term < 1e-16 of the sum) by Horner's
    scheme, as powers cost ten times as much.
    """
    close = (p > 0) & (xp.abs(d) < 1)
    small, series = xp.where(close, d, 0 * d), 1 / factorial(18)
    for k in range(17, 1, -1):
        series = series * small + 1 / factorial(k)
    return xp.where(close, p * small**2 * series, q - p - p * d)


class Generator:
    """A convex generator phi and the maps it defines.

    `a`, `b`, `f` are predictions and `y` a truth, shape (..., outputs), class labels one-hot (`ledger` takes numbers
    too); divergences have shape (...).
    """

    name = ""
    classes = False  # whether the outputs are the probabilities of classes

    def divergence(self, a: Array, b: Array) -> Array:
        """D(a, b) between two predictions.

        >>> KL.divergence([0.0, 0.0], [1.0, 0.0]).round(4)  # of two vectors of logits
        np.float64(0.1201)
        """
        return self._divergence(*self._pair(self.prediction(a, "a"), self.prediction(b, "b"), "a", "b"))

    def loss(self, y: Array, f: Array) -> Array:
        """D(y, f) of a truth y, which may be a one-hot label, and a prediction f."""
        return self._loss(*self._pair(self.truth(y, "y"), self.prediction(f, "f"), "y", "f", truth=True))

    def mean(self, f: Array) -> Array:
        """Mean coordinates of a prediction (KL: the softmax of its logits)."""
        return f

    def from_mean(self, y: Array) -> Array:
        """The prediction with mean y, which must be interior (KL: log y)."""
        return self.truth(y, "y", interior=True)

    def dual(self, f: Array) -> Array:
        """Gradient map z = grad phi(f) (KL: logits, centred to mean zero over the classes that are not masked)."""
        return f

    def from_dual(self, z: Array) -> Array:
        """Inverse gradient map (grad phi)^-1(z), as a prediction."""
        return z

    def dual_mean(self, f: Array, axis: int = 0) -> Array:
        """E*f = (grad phi)^-1(E z) over `axis` (KL: the softmax of the mean logits), as a prediction."""
        z = self.dual(f)
        return self.from_dual(array_namespace(z).mean(z, axis=axis))

    def primal_mean(self, f: Array, axis: int = 0) -> Array:
        """Ef over `axis` (KL: the mean of the probabilities), as a prediction."""
        p = self.mean(f)
        return self.from_mean(array_namespace(p).mean(p, axis=axis))

    def curvature(self, f: Array, v: Array, slot: int = 2) -> Array:
        """v'Hv at f with H = Hess phi*(z) (slot 2) or Hess phi(f) (slot 1), shape (...)."""
        slope = self._slope(f)
        return array_namespace(v).sum(v * v * slope if slot == 2 else v * v / slope, axis=-1)

    def prediction(self, f: Array, name: str = "f") -> Array:
        """`f` as a floating array inside the domain, or ValueError."""
        return as_arrays(**{name: f})[1]

    def truth(self, y: Array, name: str = "y", interior: bool = False) -> Array:
        """`y` as a floating array inside the domain, in its interior if asked, or ValueError."""
        return as_arrays(**{name: y})[1]

    def _check_masks(self, a, f, name, truth=False):
        """ValueError if f masks a class that the prediction, or truth, a needs; KL alone has such classes."""

    def _truth_beside(self, f, y, name, interior=False):
        """`truth` of y (inputs, outputs) for predictions f (..., inputs, outputs); classes may be whole numbers."""
        y = self.truth(as_targets(y, f, name) if self.classes else y, name, interior)
        wanted = f"{tuple(f.shape[-2:])}{', or that without the classes' if self.classes else ''}"
        require(y.shape == f.shape[-2:], name, f"shape {tuple(y.shape)} must be {wanted}")
        return y

    def _dual_step(self, xp, a, b):
        """dual(a) - dual(b); KL: up to a constant, which no product with a difference of means sees."""
        return self.dual(a) - self.dual(b)

    def _slope(self, f):
        """df/dz of each output, where phi is a sum over outputs."""
        raise NotImplementedError

    def _loss(self, xp, y, f):
        return self._divergence(xp, y, f)

    def _divergence(self, xp, a, b):
        raise NotImplementedError

    def _pair(self, a, b, name_a, name_b, truth=False):
        """Both, checked together; each was checked for itself."""
        xp, a, b = as_real(**{name_a: a, name_b: b})
        fits = a.ndim and b.ndim and a.shape[-1] == b.shape[-1]
        fits = fits and all(m == n or 1 in (m, n) for m, n in zip(a.shape[::-1], b.shape[::-1]))
        shapes = f"shape {b.shape} does not match that of {name_a}, {a.shape}; the last axis holds the outputs"
        require(fits, name_b, shapes)
        self._check_masks(a, b, name_b, truth)
        return xp, a, b

    def __repr__(self) -> str:
        return f"<generator {self.name}>"


class _Quadratic(Generator):
    """phi(f) = f'Af, A symmetric positive definite: D(a, b) = (a - b)'A(a - b), z = 2Af. A = I: the squared norm."""

    def __init__(self, matrix=None):
        self.name, self._a, self._inverse = "squared norm", None, None
        if matrix is not None:
            a = to_numpy(as_arrays(matrix=matrix)[1])
            require(a.ndim == 2 and a.shape[0] == a.shape[1], "matrix", f"must be square, got shape {a.shape}")
            require(np.allclose(a, a.T, rtol=1e-6), "matrix", "must be symmetric; pass (A + A')/2")
            require(np.linalg.eigvalsh(a)[0] > 0, "matrix", "must be positive definite; add a small ridge")
            self.name, self._a, self._inverse = "Mahalanobis", a, np.linalg.inv(a)

    def _times(self, matrix, v):
        if matrix is None:
            return v
        outputs = f"is for {len(matrix)} outputs, the predictions have {v.shape[-1]}"
        require(v.shape[-1] == len(matrix), "matrix", outputs)
        return v @ array_namespace(v).asarray(matrix, dtype=v.dtype, device=device(v))

    def dual(self, f):
        return 2 * self._times(self._a, f)

    def from_dual(self, z):
        return self._times(self._inverse, z) / 2

    def _divergence(self, xp, a, b):
        return xp.sum((a - b) * self._times(self._a, a - b), axis=-1)

    def curvature(self, f, v, slot=2):
        return array_namespace(v).sum(v * (self.from_dual(v) if slot == 2 else self.dual(v)), axis=-1)


class _KL(Generator):
    """phi(p) = sum p log p on the simplex: D(p, q) = KL(p||q), z = logits. A one-hot y: D(y, f) is cross-entropy."""

    name, classes = "KL", True

    def mean(self, f):
        return _softmax(array_namespace(f), f)[0]

    def from_mean(self, y):
        p = self.truth(y, "y", interior=True)
        return array_namespace(p).log(p)

    def dual(self, f):
        xp = array_namespace(f)
        kept = _unmasked(xp, f)
        total = xp.sum(xp.where(kept, f, xp.zeros_like(f)), axis=-1, keepdims=True)
        return f - total / xp.sum(xp.astype(kept, f.dtype), axis=-1, keepdims=True)

    def _dual_step(self, xp, a, b):
        """a - b, which is 0 where both are masked, less its value at the most probable class of b."""
        step, top = a - b, b == xp.max(b, axis=-1, keepdims=True)
        return step - xp.max(xp.where(top, step, -xp.inf), axis=-1, keepdims=True)

    def primal_mean(self, f, axis=0):
        xp = array_namespace(f)
        log_p = xp.clip(_softmax(xp, f)[1], LEAST, None)  # a class that all mask stays one
        top = xp.max(log_p, axis=axis, keepdims=True)
        return xp.log(xp.mean(xp.exp(log_p - top), axis=axis)) + xp.squeeze(top, axis=axis)

    def _divergence(self, xp, a, b):
        (p, log_p), (q, log_q), step = _softmax(xp, a), _softmax(xp, b), b - a
        near = xp.max(xp.abs(step), axis=-1, keepdims=True) < 1
        shift = xp.log1p(xp.sum(p * xp.expm1(xp.where(near, step, 0 * step)), axis=-1, keepdims=True))  # of the lse
        d = xp.where(near, step - shift, log_q - log_p)
        return xp.sum(_relative_entropy(xp, p, q, d), axis=-1)

    def _loss(self, xp, y, f):
        q, log_q = _softmax(xp, f)
        d = log_q - xp.log(xp.where(y > 0, y, 0 * y + 1))
        return xp.sum(_relative_entropy(xp, y, q, d), axis=-1)

    def curvature(self, f, v, slot=2):
        xp, p = array_namespace(f, v), self.mean(f)
        if slot == 1:
            return xp.sum(v * v / xp.where(p > 0, p, 1 + p), axis=-1)
        return xp.sum(p * (v - xp.sum(p * v, axis=-1, keepdims=True)) ** 2, axis=-1)

    def prediction(self, f, name="f"):
        xp, f = as_real(**{name: f})
        require(xp.all(f < xp.inf), name, "holds NaN or infinity; drop those rows, or clip logits before the call")
        if xp.any(f < MASKED):
            f = xp.clip(f, LEAST, None)
            require(xp.all(xp.max(f, axis=-1) >= MASKED), name, "masks all classes of a row; leave one")
        return f

    def truth(self, y, name="y", interior=False):
        xp, y = as_arrays(**{name: y})
        check_labels(y, name=name)
        require_all((y > 0) | (not interior), name, f"a probability is 0 (a one-hot label?) {NOT_INTERIOR}")
        return y / xp.sum(y, axis=-1, keepdims=True)

    def _check_masks(self, a, f, name, truth=False):
        xp, masked = array_namespace(f), f < MASKED
        if xp.any(masked):
            needed = a > 0 if truth else _unmasked(xp, a)
            infinite = "a logit of -inf, -1e9 or the like where a label or the other prediction needs the class: an "
            remedy = "infinite divergence; mask the class everywhere, or clip logits"
            require(not xp.any(needed & masked), name, infinite + remedy)


class _Logistic(Generator):
    """phi(p) = sum_k p_k log p_k + (1 - p_k) log(1 - p_k): Bernoulli outputs, each a two-class KL. z = log-odds."""

    name = "binary logistic"

    def _two(self, x, other):
        """(..., outputs, 2), classes 1 and 0 of each output."""
        return array_namespace(x).stack([x, other], axis=-1)

    def mean(self, f):
        return KL.mean(self._two(f, 0 * f))[..., 0]

    def from_mean(self, y):
        p = self.truth(y, "y", interior=True)
        return array_namespace(p).log(p) - array_namespace(p).log1p(-p)

    def primal_mean(self, f, axis=0):
        two = KL.primal_mean(self._two(f, 0 * f), axis=axis if axis >= 0 else axis - 1)
        return two[..., 0] - two[..., 1]

    def _divergence(self, xp, a, b):
        return xp.sum(KL._divergence(xp, self._two(a, 0 * a), self._two(b, 0 * b)), axis=-1)

    def _loss(self, xp, y, f):
        return xp.sum(KL._loss(xp, self._two(y, 1 - y), self._two(f, 0 * f)), axis=-1)

    def _slope(self, f):
        return self.mean(f) * self.mean(-f)

    def truth(self, y, name="y", interior=False):
        xp, y = as_arrays(**{name: y})
        require(xp.all((y >= 0) & (y <= 1)), name, "must lie in [0, 1]; pass probabilities, not log-odds")
        inside = not interior or xp.all((y > 0) & (y < 1))
        require(inside, name, f"a probability is 0 or 1 (a label?) {NOT_INTERIOR}")
        return y


class _Positive(Generator):
    """What the two generators on the positive orthant share: their domain, f > 0 (a truth y = 0 only if `zero`)."""

    zero = True

    def prediction(self, f, name="f"):
        xp, f = as_arrays(**{name: f})
        require(xp.all(f > 0), name, f"must be positive for {self.name}; add a floor")
        return f

    def truth(self, y, name="y", interior=False):
        xp, y = as_arrays(**{name: y})
        allowed = y >= 0 if self.zero and not interior else y > 0
        require(xp.all(allowed), name, f"lies outside the domain of {self.name} (needs y > 0); add a floor")
        return y


class _ItakuraSaito(_Positive):
    """phi(f) = -sum log f on the positive orthant: D(a, b) = sum a/b - log(a/b) - 1, z = -1/f."""

    name, zero = "Itakura-Saito", False

    def dual(self, f):
        return -1 / f

    def from_dual(self, z):
        return -1 / array_namespace(z).where(z < 0, z, np.nan)  # other z are no dual coordinates

    def _divergence(self, xp, a, b):
        return xp.sum(_relative_entropy(xp, 0 * b + 1, a / b, _log_ratio(xp, b, a)), axis=-1)

    def _slope(self, f):
        return f * f


class _GeneralizedKL(_Positive):
    """phi(f) = sum f log f on the positive orthant (Poisson): D(a, b) = sum a log(a/b) - a + b, z = 1 + log f."""

    name = "generalised KL"

    def dual(self, f):
        return 1 + array_namespace(f).log(f)

    def from_dual(self, z):
        return array_namespace(z).exp(z - 1)

    def _divergence(self, xp, a, b):
        return xp.sum(_relative_entropy(xp, a, b, _log_ratio(xp, xp.where(a > 0, a, b), b)), axis=-1)

    def _slope(self, f):
        return f


SQUARED, KL, LOGISTIC = _Quadratic(), _KL(), _Logistic()
ITAKURA_SAITO, GENERALIZED_KL = _ItakuraSaito(), _GeneralizedKL()


def mahalanobis(matrix):
    """The generator phi(f) = f'Af of a symmetric positive definite matrix A, shape (outputs, outputs)."""
    return _Quadratic(matrix)
