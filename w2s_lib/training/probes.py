"""Softmax regression fitted to its optimum, many models as one batch."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .._checks import Array, one_each, require
from .compute import EXACT, Compute
from .data import check_data
from .network import Models, Network, multiply


@dataclass(frozen=True)
class Probes:
    """Fitted probes."""

    weight: Tensor  # (models, classes, features)
    bias: Tensor  # (models, classes)
    steps: int
    gradient: float  # largest entry of any model's gradient when the fit stopped

    def logits(self, X: Array) -> Tensor:
        """Logits of every model on inputs X (inputs, features): (models, inputs, classes)."""
        return Models(Network(), (self.weight,), (self.bias,)).logits(X)


def fit_probes(
    X: Array,
    targets: Array,
    *,
    l2: float | Array,
    weights: Array | None = None,
    mask: Array | None = None,
    tol: float = 1e-6,
    max_steps: int = 5000,
    allow_empty: bool = False,
    compute: Compute = EXACT,
) -> Probes:
    r"""Fit one softmax regression a model to its optimum; there is no learning rate and no seed. Model m minimises

        sum_i w_mi CE(q_mi, softmax(W_m x_i + b_m)) / sum_i w_mi  +  l2_m/2 ||W_m||^2

    (scikit-learn's LogisticRegression with C = 1/(n l2), n = sum_i w_mi; with two classes, which it fits as one logit,
    C = 2/(n l2)), by Nesterov steps in the metric of Boehning's bound on the Hessian, 1/2 X'diag(w/n)X + l2 (Boehning
    1992), one matrix a model for all its classes and one for all where no model differs, restarted where the step turns
    against the gradient (O'Donoghue and Candes 2015). Two classes are fitted as one logit: 1/4 X'diag(w/n)X + l2/2.

    X, targets, weights, mask, allow_empty : as in `train`; float64 unless `compute` says otherwise
    l2  : a number > 0, or one a model
    tol : stop when every entry of every gradient is below it
    Raises ValueError as `train` does; RuntimeError if `max_steps` do not reach `tol`.

    >>> X = torch.linspace(-1, 1, 20)[:, None]
    >>> probes = fit_probes(X, (X[:, 0] > 0).long(), l2=[0.1, 1.0])
    >>> probes.logits(X)[:, -1].softmax(-1).numpy().round(3)
    array([[0.109, 0.891],
           [0.391, 0.609]])
    """
    data = check_data(X, targets, weights, mask, compute, [math.prod(np.shape(l2))], allow_empty=allow_empty)
    (models, n, classes), d = data.targets.shape, data.X.shape[-1] + 1
    penalties = one_each(l2, models, "l2")
    require((penalties > 0).all(), "l2", "must be positive: without it separable data have no optimum")
    alike = data.X.ndim == 2 and data.weights is None and data.mask is None and bool((penalties == penalties[0]).all())
    own = 0 if alike else 3 * d * d + (n * d if data.weights is not None else 0)
    chunks = compute.chunks(models, compute.dtype.itemsize * (own + 5 * n * classes + 4 * d * classes), 1)
    fits = compute.map(lambda rows, _: _Fit(data, rows, penalties[rows], alike).run(tol, max_steps), chunks)
    weight, bias, steps, gradients = zip(*fits)
    return Probes(torch.cat(weight), torch.cat(bias), max(steps), max(gradients))


class _Fit:
    """The probes `rows`; their parameters are (models, outputs, features + 1), the bias behind the weights."""

    def __init__(self, data, rows, l2, alike):
        X, Q, w = data.part(rows, compact=True)
        self.X, self.binary = torch.cat([X, X.new_ones(*X.shape[:-1], 1)], -1), Q.shape[1] == 2
        self.Q = Q[:, 1:] if self.binary else Q
        (n, d), self.shape = self.X.shape[-2:], (len(l2), self.Q.shape[1], self.X.shape[-1])
        self.share = X.new_full((1, n), 1 / n) if w is None else w / w.sum(1, keepdim=True)  # of an example
        self.l2 = (l2.to(X) / (2 if self.binary else 1))[:, None, None].repeat(1, 1, d)
        self.l2[:, :, -1] = 0  # the bias is not penalised
        self.seen = None if data.mask is None else torch.nn.functional.pad(data.mask[rows].to(X), (0, 1), value=1.0)
        metric = torch.cholesky_inverse(torch.linalg.cholesky(self._bound(1 if alike else len(l2))))
        self.metric = metric[0] if alike else metric

    def _bound(self, matrices):
        """Boehning's bound on the Hessian, (matrices, features + 1, features + 1)."""
        pairs = zip(self.X.expand(matrices, -1, -1), self.share.expand(matrices, -1))
        bound = torch.stack([(x * share[:, None]).T @ x for x, share in pairs]) / (4 if self.binary else 2)
        bound = bound if self.seen is None else bound * self.seen[:, :, None] * self.seen[:, None]
        return bound + torch.diag_embed(self.l2[:matrices, 0])

    def gradient(self, V: Tensor) -> Tensor:
        """Gradient of the objective at V."""
        Z = multiply(V, self.X.mT)
        R = ((Z.sigmoid() if self.binary else Z.softmax(1)) - self.Q).mul_(self.share[:, None])
        G = multiply(R, self.X)
        return (G if self.seen is None else G.mul_(self.seen[:, None])).addcmul_(self.l2, V)

    @torch.no_grad()
    def run(self, tol: float, max_steps: int) -> tuple[Tensor, Tensor, int, float]:
        """Weights, biases, number of steps, largest entry of a gradient."""
        V = W = self.X.new_zeros(self.shape)
        t, every = V.new_ones(len(V), 1, 1), 10 if V.is_cuda else 1  # a look waits for the GPU
        for step in range(max_steps + 1):
            G = self.gradient(V)
            if step % every == 0 or step == max_steps:
                worst = float(G.abs().max())
                if worst < tol:
                    V = torch.cat([-V, V], 1) / 2 if self.binary else V
                    return V[:, :, :-1], V[:, :, -1], step, worst
            W, V, t = self._step(W, V, t, G)
        reached = f"gradient {worst:.1e} after {max_steps} steps, tol is {tol:.1e}"
        raise RuntimeError(f"{reached}: raise max_steps, tol or l2")

    def _step(self, W, V, t, G):
        """A step from V, and the point beyond it; momentum starts anew where it turns against the gradient."""
        D = multiply(G, self.metric)
        new = V - D
        turned = (D * (new - W)).sum((1, 2), keepdim=True) > 0
        t = torch.where(turned, 1.0, t)
        t_new = (1 + (1 + 4 * t * t).sqrt()) / 2
        return new, new + torch.where(turned, 0.0, (t - 1) / t_new) * (new - W), t_new
