r"""Training many models as one batch. So far: softmax-regression probes, to their optimum.

Class-first layout: weights (models, classes, features), logits (models, classes, inputs). Inputs are shared by all
models; what a model sees of them is a mask over features and a weight per input (0 leaves one out, a bootstrap is a
vector of counts). Where every model uses few of the inputs, each works on a copy of its own rows. Model m minimises

    sum_i w_mi CE(q_mi, softmax(W_m x_i + b_m)) + l2/2 ||W_m||^2        (scikit-learn's LogisticRegression, C = 1/l2)

by Nesterov steps in the metric of Boehning's bound on the Hessian, 1/2 X'diag(w)X + l2 (Boehning 1992), one matrix a
model for all its classes, restarted where the step turns against the gradient (O'Donoghue and Candes 2015). The
gradient at the logits is softmax - target. There is no learning rate and no seed: the optimum is unique.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .estimates import require


@dataclass(frozen=True)
class Probes:
    """Fitted probes: weight (models, classes, features), bias (models, classes)."""

    weight: torch.Tensor
    bias: torch.Tensor
    steps: int
    gradient: float  # largest entry of any model's gradient, per unit of example weight, when training stopped

    def logits(self, X):
        """Logits of every model on inputs X (inputs, features): (models, inputs, classes), the ledger's layout."""
        X = torch.as_tensor(X, dtype=self.weight.dtype, device=self.weight.device)
        E, C, d = self.weight.shape
        Z = (self.weight.reshape(E * C, d) @ X.T).reshape(E, C, -1) + self.bias[:, :, None]
        return Z.transpose(1, 2)


def fit_probes(X, targets, *, weights=None, mask=None, l2=1.0, tol=1e-6, max_steps=5000, dtype=torch.float64):
    """Fit one softmax regression a row of `targets`; see the module for the objective.

    X       : (inputs, features), shared
    targets : (models, inputs, classes) soft or one-hot labels
    weights : (models, inputs) example weights >= 0; None: ones
    mask    : (models, features), 1 where the model sees the feature; None: all
    tol     : stop when every entry of every gradient is below tol x the model's total weight
    Raises ValueError for shapes that do not match, labels that are not distributions where they count, a model
    without examples, l2 <= 0; RuntimeError if `max_steps` do not reach `tol`.
    """
    X, targets = torch.as_tensor(X, dtype=dtype), torch.as_tensor(targets, dtype=dtype)
    require(X.ndim == 2, "X", f"need shape (inputs, features), got {tuple(X.shape)}")
    require(targets.ndim == 3, "targets", f"need shape (models, inputs, classes), got {tuple(targets.shape)}")
    require(targets.shape[1] == len(X), "targets", f"have {targets.shape[1]} inputs, X has {len(X)}")
    E, n, C = targets.shape
    w = torch.ones(E, n, dtype=dtype) if weights is None else torch.as_tensor(weights, dtype=dtype)
    require(w.shape == (E, n), "weights", f"need shape {(E, n)}, got {tuple(w.shape)}")
    require((w >= 0).all() and (w.sum(1) > 0).all(), "weights", "must be >= 0, with at least one example a model")
    used = w > 0
    sums = targets.sum(2)[used]
    require((targets[used] >= 0).all() and ((sums - 1).abs() < 1e-4).all(), "targets", "must be probabilities")
    require(torch.isfinite(X).all(), "X", "holds NaN or infinity")
    require(l2 > 0, "l2", "must be positive: without it separable data have no optimum")
    seen = torch.ones(E, X.shape[1], dtype=dtype) if mask is None else torch.as_tensor(mask, dtype=dtype)
    require(seen.shape == (E, X.shape[1]), "mask", f"need shape {(E, X.shape[1])}, got {tuple(seen.shape)}")

    X1 = torch.cat([X, torch.ones(n, 1, dtype=dtype)], 1)  # the bias is a feature that all see and none pays for
    most = int(used.sum(1).max())
    own = most < n / 2  # then each model works on its own rows, padded with rows of weight zero
    if own:
        rows = used.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]  # (E, most)
        X1, w, used, n = X1[rows], w.gather(1, rows), used.gather(1, rows), most  # X1 (E, most, d)
        targets = targets.gather(1, rows[:, :, None].expand(E, most, C))
    seen = torch.cat([seen, torch.ones(E, 1, dtype=dtype)], 1)
    d = X1.shape[-1]
    penalty = torch.full((d,), float(l2), dtype=dtype)
    penalty[-1] = 0
    shared = X1.expand(E, n, d)
    bound = torch.stack([(x * w_m[:, None]).T @ x for x, w_m in zip(shared, w)]) / 2  # (E, d, d)
    bound = bound * seen[:, :, None] * seen[:, None, :] + torch.diag(penalty + 1e-9 * l2)
    metric = torch.cholesky_inverse(torch.linalg.cholesky(bound))
    Q, total = targets.transpose(1, 2).contiguous(), w.sum(1)  # (E, C, n)
    Q = torch.where(used[:, None], Q, torch.zeros((), dtype=dtype))
    W = torch.zeros(E, C, d, dtype=dtype)
    V, t = W.clone(), torch.ones(E, 1, 1, dtype=dtype)
    for step in range(max_steps + 1):
        Z = torch.bmm(V, X1.mT) if own else (V.reshape(E * C, d) @ X1.T).reshape(E, C, n)
        R = (Z.softmax(1) - Q) * w[:, None]
        G = torch.bmm(R, X1) if own else (R.reshape(E * C, n) @ X1).reshape(E, C, d)
        G = G * seen[:, None] + penalty * V
        worst = float((G.abs().amax((1, 2)) / total).max())
        if worst < tol:
            return Probes(V[:, :, :-1], V[:, :, -1], step, worst)
        D = torch.bmm(G, metric)
        new = V - D
        turned = (D * (new - W)).sum((1, 2), keepdim=True) > 0
        t = torch.where(turned, torch.ones_like(t), t)
        t_new = (1 + (1 + 4 * t * t).sqrt()) / 2
        V = new + torch.where(turned, torch.zeros_like(t), (t - 1) / t_new) * (new - W)
        W, t = new, t_new
    raise RuntimeError(f"gradient {worst:.1e} after {max_steps} steps, tol is {tol:.1e}: raise max_steps, tol or l2")
