r"""The gap ledger: gain = misfit - residual, exact for every teacher, student and Bregman divergence.

With gain = R(teacher) - R(student), z = grad phi(f), g the truth and Y a label with E[Y|x] = g:

    (F)  risk E D(Y, f):  gain = E D(f_s, f_w) - residual,  residual = E <z_w - z_s, Y - f_s>
    (R)  risk E D(f, g):  gain = E D(f_w, f_s) - residual,  residual = E <grad phi(g) - z_s, f_w - f_s>

Both are the three-point identity of Bregman divergences, so they need no convexity and no optimality. (F) is linear in
Y: labels estimate it without bias, one-hot ones too. (R) needs the truth itself, in the interior of the domain.

Sources: Xu, Yao, Wang and Liu (2026, arXiv 2505.24313), theorem 3.1, for the two residual terms; the identity in this
form is derived in the book. Performance gap recovered: Burns et al. (2023, arXiv 2312.09390), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

from .bregman import KL
from .estimates import Estimate, as_arrays, common_namespace, crossed_mean, crossed_ratio, require, to_numpy


@dataclass(frozen=True)
class Ledger:
    """gain = misfit - residual, with crossed standard errors; every entry was computed by its own formula."""

    gain: Estimate
    misfit: Estimate
    residual: Estimate
    teacher_risk: Estimate
    student_risk: Estimate
    pair_gain: np.ndarray  # one number a pair, averaged over inputs, in the leading shape of the predictions
    pair_misfit: np.ndarray
    pair_residual: np.ndarray
    imbalance: float  # largest |gain - (misfit - residual)| over pairs, relative to the sum of the absolute terms
    direction: str
    generator: str

    def __str__(self):
        g, rows = self.gain, ("teacher_risk", "student_risk", "gain", "misfit", "residual")
        conditional = "" if g.clusters > 1 else ", conditional on these models"
        head = f"{self.generator}, direction ({self.direction}): {g.models} pairs x {g.inputs} inputs, 95% intervals"
        lines = [f"{row.replace('_', ' '):>13}  {getattr(self, row)}" for row in rows]
        # rounding noise is not printed: it differs from machine to machine
        balance = "to rounding" if self.imbalance < 1e-12 else f"up to {self.imbalance:.1e} of its terms"
        return "\n".join([head + conditional, *lines, f"     balances  {balance}"])


def one_hot(labels, classes, name="labels"):
    """Integer class labels (n,), each in 0..classes-1, as a one-hot float64 array (n, classes)."""
    y = to_numpy(labels)
    require(y.ndim == 1, name, f"need shape (inputs,), got {y.shape}")
    require(np.all(y == np.round(y)), name, "class labels must be whole numbers")
    require(np.all((y >= 0) & (y < classes)), name, f"class labels must lie in 0..{classes - 1}; recode them")
    return np.eye(classes)[y.astype(int)]


def ledger(truth, teacher, student, generator=KL, *, direction="F", clusters=None):
    """The ledger of one teacher-student pair or of many, on common inputs.

    truth           : (inputs, outputs) labels or true means; for KL also (inputs,) integer class labels
    teacher, student: (..., inputs, outputs) predictions in the generator's coordinates (KL: logits); leading axes
                      number the pairs and broadcast: teacher (T, 1, n, K) with student (T, S, n, K) is S students each
    direction       : "F", risk E D(Y, f); or "R", risk E D(f, g), which needs an interior truth
    clusters        : a label per pair, in the leading shape; pairs with equal labels share luck. None: pairs that
                      share a teacher or a student because an axis was broadcast form one cluster.
    Risks are D(Y, f): the cross-entropy, less the entropy of Y if Y is soft. Intervals count models and inputs as
    crossed samples; with one cluster they are over inputs alone.
    Raises ValueError, naming the argument, for NaN, values outside the domain, shapes that do not match.
    """
    w, s = generator.prediction(teacher, "teacher"), generator.prediction(student, "student")
    require(w.ndim >= 2, "teacher", f"need shape (..., inputs, outputs), got {tuple(w.shape)}")
    require(
        tuple(s.shape[-2:]) == tuple(w.shape[-2:]),
        "student",
        f"has (inputs, outputs) = {tuple(s.shape[-2:])}, the teacher {tuple(w.shape[-2:])}; use the same test inputs",
    )
    require(direction in ("F", "R"), "direction", "must be 'F' or 'R'")
    if generator is KL and len(np.shape(truth)) == 1:
        truth = array_namespace(w).asarray(one_hot(truth, w.shape[-1], "truth"))
    y = generator.truth(truth, "truth", interior=direction == "R")
    xp = common_namespace(truth=y, teacher=w, student=s)
    require(tuple(y.shape) == tuple(w.shape[-2:]), "truth", f"shape {tuple(y.shape)} must be {tuple(w.shape[-2:])}")
    try:
        lead = np.broadcast_shapes(w.shape[:-2], s.shape[:-2])
    except ValueError as error:
        shapes = f"leading shape {tuple(s.shape[:-2])} does not broadcast with the teacher's {tuple(w.shape[:-2])}"
        raise ValueError(f"student: {shapes}") from error

    if direction == "F":
        risks = generator.loss(y, w), generator.loss(y, s)
        misfit = generator.divergence(s, w)
        residual = xp.sum((generator.dual(w) - generator.dual(s)) * (y - generator.mean(s)), axis=-1)
    else:
        g = generator.from_mean(y)
        risks = generator.divergence(w, g), generator.divergence(s, g)
        misfit = generator.divergence(w, s)
        residual = xp.sum((generator.dual(g) - generator.dual(s)) * (generator.mean(w) - generator.mean(s)), axis=-1)

    def per_pair(x):
        return np.broadcast_to(to_numpy(x), (*lead, y.shape[0])).reshape(-1, y.shape[0])

    clusters = _shared(w.shape[:-2], s.shape[:-2], lead) if clusters is None else np.broadcast_to(clusters, lead)
    risk_w, risk_s, misfit, residual = (per_pair(x) for x in (*risks, misfit, residual))
    gain = risk_w - risk_s
    pairs = [x.mean(1) for x in (gain, misfit, residual)]
    gap, scale = np.abs(pairs[0] - pairs[1] + pairs[2]), sum(x.mean(1) for x in (risk_w, risk_s, misfit, abs(residual)))
    estimates = [crossed_mean(x, clusters) for x in (gain, misfit, residual, risk_w, risk_s)]
    imbalance = float(np.max(gap / np.maximum(scale, np.finfo(float).tiny)))
    return Ledger(*estimates, *(p.reshape(lead) for p in pairs), imbalance, direction, generator.name)


def _shared(teacher, student, lead):
    """Cluster labels: pairs whose teacher or student is the same array, broadcast along an axis, get one label."""
    pad = [(1,) * (len(lead) - len(shape)) + tuple(shape) for shape in (teacher, student)]
    own = [n if n == pad[0][i] == pad[1][i] else 1 for i, n in enumerate(lead)]  # axes along which both sides vary
    return np.broadcast_to(np.arange(int(np.prod(own))).reshape(own), lead)


def performance_gap_recovered(teacher, student, ceiling, clusters=None):
    """PGR = (student - teacher) / (ceiling - teacher) of mean scores, as an Estimate by the delta method.

    Scores have shape (models, inputs): correctness 0/1, or a negative loss; larger is better. `clusters` as in
    `crossed_mean`. The interval is wide, and the ratio of little meaning, when ceiling and teacher are close.
    """
    xp, w, s, c = as_arrays(teacher=teacher, student=student, ceiling=ceiling)
    require(w.shape == s.shape == c.shape and w.ndim == 2, "student", "all three need the same shape (models, inputs)")
    require(float(xp.mean(c)) != float(xp.mean(w)), "ceiling", "scores as the teacher does: there is no gap to recover")
    return crossed_ratio(s - w, c - w, clusters)
