"""Softmax regression fitted to its optimum, many models as one batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from .._checks import one_each, require
from .compute import EXACT, one_core_each
from .data import Data
from .network import Models, Network


@dataclass(frozen=True)
class Probes:
    """Fitted probes: weight (models, classes, features), bias (models, classes)."""

    weight: torch.Tensor
    bias: torch.Tensor
    steps: int
    gradient: float  # largest entry of any model's gradient, per unit of example weight, when training stopped

    def logits(self, X):
        """Logits of every model on inputs X (inputs, features): (models, inputs, classes), the ledger's layout."""
        return Models(Network(), (self.weight,), (self.bias,)).logits(X)


def fit_probes(
    X, targets, *, weights=None, mask=None, l2=1.0, tol=1e-6, max_steps=5000, allow_empty=False, compute=EXACT
):
    r"""Fit one softmax regression a model to its optimum; there is no learning rate and no seed.

        sum_i w_mi CE(q_mi, softmax(W_m x_i + b_m)) + l2_m/2 ||W_m||^2     (scikit-learn's LogisticRegression, C = 1/l2)

    by Nesterov steps in the metric of Boehning's bound on the Hessian, 1/2 X'diag(w)X + l2 (Boehning 1992), one matrix
    a model for all its classes and a single one where no model differs, restarted where the step turns against the
    gradient (O'Donoghue and Candes 2015). Two classes are fitted as one logit, with the bound 1/4 X'diag(w)X + l2/2.

    X, targets, weights, mask, allow_empty : as in `train`; float64 unless `compute` says otherwise
    l2      : a number, or one a model; it stands beside the SUM of the losses
    compute : its `progress` has no effect here
    tol     : stop when every entry of every gradient is below tol x the model's total weight
    Raises ValueError as `train` does, and for l2 <= 0; RuntimeError if `max_steps` do not reach `tol`.
    """
    data = Data(X, targets, weights, mask, None, compute, [np.atleast_1d(l2)], allow_empty=allow_empty)
    E, d, (n, classes) = data.models, data.X.shape[-1] + 1, data.targets.shape[1:]
    penalties = one_each(l2, E, "l2")
    require((penalties > 0).all(), "l2", "must be positive: without it separable data have no optimum")
    one = data.X.ndim == 2 and data.weights is None and data.mask is None and bool((penalties == penalties[0]).all())
    own = 0 if one else 3 * d * d + (n * d if data.weights is not None else 0)
    chunks = compute.chunks(E, compute.dtype.itemsize * (own + 5 * n * classes + 4 * d * classes), 1)
    with one_core_each(compute.threads), ThreadPoolExecutor(compute.threads) as pool:
        fits = list(pool.map(lambda rows: _fit_probes(data, rows, penalties, one, tol, max_steps), chunks))
    weight, bias = (torch.cat([getattr(f, name) for f in fits]) for name in ("weight", "bias"))
    return Probes(weight, bias, max(f.steps for f in fits), max(f.gradient for f in fits))


@torch.no_grad()
def _fit_probes(data, rows, l2, one_metric, tol, max_steps):
    """`fit_probes` for the models `rows`; `one_metric`: they differ in their labels alone."""
    X, Q, w = data.own_rows(rows)
    E, C, (n, d) = rows.stop - rows.start, Q.shape[1], (X.shape[-2], X.shape[-1] + 1)
    binary = C == 2
    Q, outputs = (Q[:, 1:], 1) if binary else (Q, C)
    X1, shared = torch.cat([X, X.new_ones(*X.shape[:-1], 1)], -1), X.ndim == 2  # the bias is a feature that all see
    l2 = l2[rows].to(X)[:, None, None] / (2 if binary else 1)
    penalty = l2.expand(E, 1, d).clone()
    penalty[:, :, -1] = 0  # the bias is not penalised
    seen = None if data.mask is None else torch.nn.functional.pad(data.mask[rows].to(X), (0, 1), value=1.0)[:, None]
    if one_metric:
        bound = X1.T @ X1
    else:
        each = zip(X1.expand(E, n, d), X.new_ones(1, n).expand(E, n) if w is None else w)
        bound = torch.stack([(x * v[:, None]).T @ x for x, v in each])
    bound = bound / (4 if binary else 2)
    bound = bound if seen is None else bound * seen.mT * seen
    bound = bound + torch.diag_embed((penalty + 1e-9 * l2)[: 1 if one_metric else E, 0])
    metric = torch.cholesky_inverse(torch.linalg.cholesky(bound))
    total = (torch.full((E,), float(n)) if w is None else w.sum(1)).to(X)
    W = X.new_zeros(E, outputs, d)
    V, t = W.clone(), X.new_ones(E, 1, 1)
    for step in range(max_steps + 1):
        Z = (V.view(E * outputs, d) @ X1.T).view(E, outputs, n) if shared else torch.bmm(V, X1.mT)
        R = (Z.sigmoid() if binary else Z.softmax(1)) - Q
        R = R if w is None else R.mul_(w[:, None])
        G = (R.view(E * outputs, n) @ X1).view(E, outputs, d) if shared else torch.bmm(R, X1)
        G = (G if seen is None else G.mul_(seen)).addcmul_(penalty, V)
        worst = float((G.abs().amax((1, 2)) / total).max())
        if worst < tol:
            V = torch.cat([-V, V], 1) / 2 if binary else V
            return Probes(V[:, :, :-1], V[:, :, -1], step, worst)
        D = (G.view(E * outputs, d) @ metric[0]).view_as(G) if one_metric else torch.bmm(G, metric)
        new = V - D
        turned = (D * (new - W)).sum((1, 2), keepdim=True) > 0
        t = torch.where(turned, 1.0, t)
        t_new = (1 + (1 + 4 * t * t).sqrt()) / 2
        V = new + torch.where(turned, 0.0, (t - 1) / t_new) * (new - W)
        W, t = new, t_new
    raise RuntimeError(f"gradient {worst:.1e} after {max_steps} steps, tol is {tol:.1e}: raise max_steps, tol or l2")
