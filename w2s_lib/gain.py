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

import math
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace, device

from ._checks import as_arrays, common_namespace, one_hot, require, to_numpy
from .bregman import KL
from .intervals import Estimate, crossed_mean, crossed_ratio

BLOCK = 2**16  # numbers of one array that are worked on at a time


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


def _triple(truth, teacher, student, generator, interior=False):
    """Truth (inputs, outputs), teacher, student, checked, and the leading shape to which the two broadcast."""
    w, s = generator.prediction(teacher, "teacher"), generator.prediction(student, "student")
    require(w.ndim >= 2, "teacher", f"need shape (..., inputs, outputs), got {tuple(w.shape)}")
    require(
        tuple(s.shape[-2:]) == tuple(w.shape[-2:]),
        "student",
        f"has (inputs, outputs) = {tuple(s.shape[-2:])}, the teacher {tuple(w.shape[-2:])}; use the same test inputs",
    )
    if generator is KL and len(np.shape(truth)) == 1:
        truth = array_namespace(w).asarray(one_hot(truth, w.shape[-1], "truth"))
    y = generator.truth(truth, "truth", interior=interior)
    common_namespace(truth=y, teacher=w, student=s)
    require(tuple(y.shape) == tuple(w.shape[-2:]), "truth", f"shape {tuple(y.shape)} must be {tuple(w.shape[-2:])}")
    try:
        return y, w, s, np.broadcast_shapes(w.shape[:-2], s.shape[:-2])
    except ValueError as error:
        shapes = f"leading shape {tuple(s.shape[:-2])} does not broadcast with the teacher's {tuple(w.shape[:-2])}"
        raise ValueError(f"student: {shapes}") from error


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
    require(direction in ("F", "R"), "direction", "must be 'F' or 'R'")
    y, w, s, lead = _triple(truth, teacher, student, generator, interior=direction == "R")

    xp = array_namespace(w)

    def forward(y, w, s):  # the generator's inner methods: all has been checked
        inner = xp.sum((generator.dual(w) - generator.dual(s)) * (y - generator.mean(s)), axis=-1)
        return *(generator._loss(xp, y, f) for f in (w, s)), generator._divergence(xp, s, w), inner

    def reverse(y, w, s):
        g = generator.from_mean(y)
        inner = xp.sum((generator.dual(g) - generator.dual(s)) * (generator.mean(w) - generator.mean(s)), axis=-1)
        return *(generator._divergence(xp, *pair) for pair in ((w, g), (s, g), (w, s))), inner

    risk_w, risk_s, misfit, residual = by_input(forward if direction == "F" else reverse, lead, y, w, s)
    clusters = _clusters(clusters, w, s, lead)
    gain = risk_w - risk_s
    pairs = [x.mean(1) for x in (gain, misfit, residual)]
    gap, scale = np.abs(pairs[0] - pairs[1] + pairs[2]), sum(x.mean(1) for x in (risk_w, risk_s, misfit, abs(residual)))
    estimates = [crossed_mean(x, clusters) for x in (gain, misfit, residual, risk_w, risk_s)]
    imbalance = float(np.max(gap / np.maximum(scale, np.finfo(float).tiny)))
    return Ledger(*estimates, *(p.reshape(lead) for p in pairs), imbalance, direction, generator.name)


def _clusters(clusters, w, s, lead):
    """The labels given, one a pair; else pairs that share an array broadcast along an axis get one label."""
    if clusters is not None:
        return np.broadcast_to(clusters, lead)
    pad = [(1,) * (len(lead) - x.ndim + 2) + tuple(x.shape[:-2]) for x in (w, s)]
    own = [n if n == pad[0][i] == pad[1][i] else 1 for i, n in enumerate(lead)]  # axes along which both sides vary
    return np.broadcast_to(np.arange(int(np.prod(own))).reshape(own), lead)


def by_input(function, lead, *arrays):
    """What `function` finds for each input, as a list of NumPy arrays (pairs, inputs), a block of inputs at a time.

    function : of blocks of the arrays, returns several arrays (..., inputs)
    lead     : the shape of the pairs, to which the leading axes of all results broadcast
    arrays   : (..., inputs, outputs), checked
    So memory is bounded, and what is computed from a block stays in the cache. Blocks of NumPy arrays lie output by
    output in memory: a sum over few outputs is slow where they lie side by side.
    """
    (n, outputs), pairs = arrays[0].shape[-2:], math.prod(lead)
    size, parts = max(1, BLOCK // max(1, pairs * outputs)), []
    for start in range(0, max(1, n), size):
        blocks = (x[..., start : start + size, :] for x in arrays)
        found = function(*(np.asfortranarray(x) if isinstance(x, np.ndarray) else x for x in blocks))
        rows = min(size, n - start)
        parts.append([np.broadcast_to(to_numpy(x), (*lead, rows)).reshape(pairs, rows) for x in found])
    return [np.concatenate(x, axis=1) for x in zip(*parts)]


@dataclass(frozen=True)
class Split:
    """residual = calibration + thrown away, with crossed standard errors."""

    residual: Estimate
    calibration: Estimate  # E <E[z_w|f_s] - z_s, E[Y|f_s] - f_s>: error about the teacher x error about the truth
    thrown_away: Estimate  # E Cov(z_w, Y | f_s): what the teacher knew and the student's prediction does not show
    bins: int

    def __str__(self):
        rows = ("residual", "calibration", "thrown_away")
        return "\n".join(f"{row.replace('_', ' '):>13}  {getattr(self, row)}" for row in rows)


def split_residual(truth, teacher, student, generator=KL, *, bins=15, groups=None, clusters=None):
    r"""What the misfit failed to buy (direction F), split exactly and for every generator:

        residual = E <E[z_w|f_s] - z_s, E[Y|f_s] - f_s>  +  E Cov(z_w, Y | f_s)

    A student calibrated to the truth, E[Y|f_s] = f_s, or to his teacher in the dual, E[z_w|f_s] = z_s, has no first
    term. f_s is replaced by bins of it, and the covariance in a bin is that of the differences z_w - z_s and Y - f_s,
    n_b/(n_b - 1) times: raw z_w and Y would add what varies with f_s inside a bin.

    truth, teacher, student, clusters : as in `ledger`
    bins   : number of bins: of one output by quantiles, for KL by most probable class and quantiles of its probability
    groups : (inputs,) or (..., inputs) labels to use instead of bins, for predictions that take few values
    Raises ValueError as `ledger`; for fewer than two inputs a bin; for several outputs other than KL without `groups`.
    """
    y, w, s, lead = _triple(truth, teacher, student, generator)
    n = y.shape[0]
    require(groups is not None or 1 <= bins <= n / 2, "bins", f"must lie between 1 and half the number of inputs, {n}")

    def differences(y, w, s):
        u, v = generator.dual(w) - generator.dual(s), y - generator.mean(s)
        return [x[..., k] for k in range(y.shape[-1]) for x in (u, v)]

    found = by_input(differences, lead, y, w, s)
    outputs = list(zip(found[::2], found[1::2]))  # (u, v) of each output, (pairs, inputs)
    if groups is None:
        groups = _bins(s, bins, generator)
    groups = np.broadcast_to(groups, (*lead, n)).reshape(-1, n)
    products = np.empty(groups.shape)
    for m, labels in enumerate(groups):
        _, b, count = np.unique(labels, return_inverse=True, return_counts=True)
        require(count.min() > 1, "groups", "has a bin with a single input; use fewer bins")
        centred = ([x[m] - (np.bincount(b, x[m]) / count)[b] for x in pair] for pair in outputs)
        products[m] = sum(u * v for u, v in centred) * (count / (count - 1))[b]
    residual = sum(u * v for u, v in outputs)
    clusters = _clusters(clusters, w, s, lead)
    parts = [crossed_mean(x, clusters) for x in (residual, residual - products, products)]
    return Split(*parts, max(len(np.unique(g)) for g in groups))


def _bins(s, bins, generator):
    """Bin labels (..., inputs) of predictions (..., inputs, outputs)."""
    (*lead, n, outputs), xp = s.shape, array_namespace(s)
    require(outputs == 1 or generator is KL, "groups", "are needed for several outputs: no order in which to bin them")

    def largest(s):
        mean = generator.mean(s)
        return xp.argmax(mean, axis=-1), xp.max(mean, axis=-1)

    top, value = by_input(largest, lead, s)
    labels = np.empty(top.shape, int)
    for where in range(len(labels)):
        start = 0
        for c, size in zip(*np.unique(top[where], return_counts=True)):
            rows = np.flatnonzero(top[where] == c)
            parts = max(1, min(round(bins * size / n), size // 2))
            rank = value[where][rows].argsort(kind="stable").argsort(kind="stable")
            labels[where][rows] = start + rank * parts // size
            start += parts if size > 1 else 0  # a class with one input joins the next
        if size == 1 and start:
            labels[where][rows] = start - 1  # or, if it is the last, the one before
    return labels.reshape(*lead, n)


@dataclass(frozen=True)
class Blend:
    """The best weight t of the teacher in a blend with the student."""

    weight: Estimate
    pair_weight: np.ndarray  # one a pair, in the leading shape

    def __str__(self):
        return f"best weight of the teacher  {self.weight}"


def best_blend(truth, teacher, student, generator=KL, *, clusters=None):
    r"""t* = argmin_t E D(Y, f_t) with z_t = (1 - t) z_s + t z_w: how much of the teacher to mix back into the student.

    The risk is convex in t, with slope -residual at t = 0. For the squared loss t* = residual/(2 misfit) and gain =
    misfit (1 - 2 t*): the student wins exactly if t* < 1/2. t* > 0: the teacher keeps something that the student lost;
    t* < 0: move further away from her.
    truth, teacher, student, clusters : as in `ledger`. The weight is sought in [-10, 10]; its standard error is that of
    an M-estimator. Raises ValueError as `ledger`; if a student equals his teacher; if no blend in the range is best.
    """
    y, w, s, lead = _triple(truth, teacher, student, generator)
    xp = array_namespace(w)

    def at(t):
        """Slope and curvature in t of the loss of each input, (pairs, inputs)."""
        t = xp.asarray(t.reshape(*lead, 1, 1), dtype=s.dtype, device=device(s))

        def each(y, w, s):
            z = generator.dual(s)
            step = generator.dual(w) - z
            blend = generator.from_dual(z + t * step)
            return xp.sum(step * (generator.mean(blend) - y), axis=-1), generator.curvature(blend, step)

        return by_input(each, lead, y, w, s)

    pairs = math.prod(lead)
    (step,) = by_input(lambda w, s: (xp.max(xp.abs(generator.dual(w) - generator.dual(s)), axis=-1),), lead, w, s)
    require(np.all(step.max(1) > 0), "student", "equals the teacher: every blend is the same")
    low, high = np.full(pairs, -10.0), np.full(pairs, 10.0)
    ends = [at(t)[0].mean(1) for t in (low, high)]
    require(np.all((ends[0] < 0) & (ends[1] > 0)), "teacher", "no best blend in [-10, 10]; are the logits saturated?")
    t = np.zeros(pairs)
    for _ in range(60):  # Newton's steps, or half of the bracket where they leave it
        slope, curvature = at(t)
        down, bend = slope.mean(1), curvature.mean(1)
        low, high = np.where(down < 0, t, low), np.where(down < 0, high, t)
        newton = np.divide(down, bend, out=np.full(pairs, np.inf), where=bend > 0)
        if np.abs(newton).max() < 1e-10:
            break
        inside = (t - newton >= low) & (t - newton <= high)
        t = np.where(inside, t - newton, (low + high) / 2)
    clusters = _clusters(clusters, w, s, lead)
    weight = crossed_mean(t[:, None] - slope / bend[:, None], clusters, value=t.mean())
    return Blend(weight, t.reshape(lead))


def performance_gap_recovered(teacher, student, ceiling, clusters=None):
    """PGR = (student - teacher) / (ceiling - teacher) of mean scores, as an Estimate by the delta method.

    Scores have shape (models, inputs): correctness 0/1, or a negative loss; larger is better. `clusters` as in
    `crossed_mean`. The interval is wide, and the ratio of little meaning, when ceiling and teacher are close.
    """
    xp, w, s, c = as_arrays(teacher=teacher, student=student, ceiling=ceiling)
    require(w.shape == s.shape == c.shape and w.ndim == 2, "student", "all three need the same shape (models, inputs)")
    require(float(xp.mean(c)) != float(xp.mean(w)), "ceiling", "scores as the teacher does: there is no gap to recover")
    return crossed_ratio(s - w, c - w, clusters)
