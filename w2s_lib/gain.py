r"""The gap ledger: gain = misfit - residual, exact for every teacher, student and Bregman divergence.

With gain = R(teacher) - R(student), z = grad phi(f), g the truth and Y a label with E[Y|x] = g:

    forward (F)  risk E D(Y, f):  gain = E D(f_s, f_w) - residual,  residual = E <z_w - z_s, Y - f_s>
    reverse (R)  risk E D(f, g):  gain = E D(f_w, f_s) - residual,  residual = E <grad phi(g) - z_s, f_w - f_s>

Both are the three-point identity of Bregman divergences: no convexity, no optimality. (F) is linear in Y, so labels
estimate it without bias, one-hot ones too. (R) needs the truth itself, in the interior of the domain.

Sources: Xu, Yao, Wang and Liu (2026, arXiv 2505.24313), theorem 3.1, for the two residual terms; the identity in this
form is derived in the book. Performance gap recovered: Burns et al. (2023, arXiv 2312.09390), section 3.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from ._checks import Array, as_arrays, as_real, broadcast, require, to_numpy
from ._newton import argmin_convex
from .bregman import KL, Generator
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
    direction: str  # "forward" or "reverse"
    generator: str

    def __str__(self) -> str:
        g, lines = self.gain, _lines(self, "teacher_risk", "student_risk", "gain", "misfit", "residual")
        conditional = "" if g.clusters > 1 else ", conditional on these models"
        head = f"{self.generator}, {self.direction} direction: {g.models} pairs x {g.inputs} inputs, 95% intervals"
        # rounding noise is not printed: it differs from machine to machine
        balance = "to rounding" if self.imbalance < 1e-12 else f"up to {self.imbalance:.1e} of its terms"
        return "\n".join([head + conditional, *lines, f"     balances  {balance}"])


def _lines(result, *entries):
    return [f"{entry.replace('_', ' '):>13}  {getattr(result, entry)}" for entry in entries]


def ledger(
    truth: Array, teacher: Array, student: Array, generator: Generator = KL, *,
    direction: str = "forward", clusters: Array = None,
) -> Ledger:  # fmt: skip
    """The ledger of one teacher-student pair or of many, on common inputs.

    truth           : (inputs, outputs) labels or true means; for KL also (inputs,) integer class labels
    teacher, student: (..., inputs, outputs) predictions in the generator's coordinates (KL: logits, where -inf masks a
                      class in both and for no label); leading axes number the pairs and broadcast: teacher (T, 1, n, K)
                      with student (T, S, n, K) is S students each
    direction       : "forward", risk E D(Y, f); or "reverse", risk E D(f, g), which needs an interior truth
    clusters        : a label per pair, in the leading shape, as in `crossed_mean`. None: pairs that share a teacher or
                      a student because an axis was broadcast form one cluster.
    Risks are D(Y, f): the cross-entropy, less the entropy of Y if Y is soft.

    >>> teacher, student = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 2.0], [1.0, 0.0]]
    >>> print(ledger([0, 1, 0], teacher, student))
    KL, forward direction: 1 pairs x 3 inputs, 95% intervals, conditional on these models
     teacher risk  0.4399 [-0.1049, 0.9847]
     student risk  0.2512 [-0.0161, 0.5184]
             gain  0.1887 [-0.2831, 0.6606]
           misfit  0.0594 [-0.0795, 0.1982]
         residual  -0.1294 [-0.4641, 0.2054]
         balances  to rounding
    """
    remedy = "must be 'forward' (once 'F') or 'reverse' (once 'R')"
    require(direction in ("forward", "reverse"), "direction", remedy)
    y, w, s, lead = _checked(truth, teacher, student, generator, direction)
    xp = array_namespace(w)

    def forward(y, w, s):  # the generator's inner methods: all has been checked
        residual = xp.sum(generator._dual_step(xp, w, s) * (y - generator.mean(s)), axis=-1)
        return *(generator._loss(xp, y, f) for f in (w, s)), generator._divergence(xp, s, w), residual

    def reverse(y, w, s):
        g = generator.from_mean(y)
        residual = xp.sum(generator._dual_step(xp, g, s) * (generator.mean(w) - generator.mean(s)), axis=-1)
        return *(generator._divergence(xp, *pair) for pair in ((w, g), (s, g), (w, s))), residual

    terms = risk_w, risk_s, misfit, residual = by_input(forward if direction == "forward" else reverse, lead, y, w, s)
    entries, clusters = (risk_w - risk_s, misfit, residual), _clusters(clusters, w, s, lead)
    estimates = (crossed_mean(x, clusters) for x in (*entries, risk_w, risk_s))
    pairs = [x.mean(1).reshape(lead) for x in entries]
    scale = np.maximum(sum(abs(x).mean(1) for x in terms), np.finfo(float).tiny).reshape(lead)
    imbalance = float(np.max(abs(pairs[0] - pairs[1] + pairs[2]) / scale))
    results: Any = (*estimates, *pairs, imbalance, direction, generator.name)
    return Ledger(*results)


def _checked(truth, teacher, student, generator, direction="forward"):
    """Truth (inputs, outputs), teacher, student, checked, and the leading shape to which the two broadcast."""
    w, s = generator.prediction(teacher, "teacher"), generator.prediction(student, "student")
    shape = tuple(w.shape[-2:])
    require(w.ndim >= 2, "teacher", f"need shape (..., inputs, outputs), got {tuple(w.shape)}")
    unlike = f"has (inputs, outputs) = {tuple(s.shape[-2:])}, the teacher {shape}; use the same test inputs"
    require(tuple(s.shape[-2:]) == shape, "student", unlike)
    y = generator._truth_beside(w, truth, "truth", interior=direction == "reverse")
    as_real(truth=y, teacher=w, student=s)  # of one library
    try:
        lead = np.broadcast_shapes(w.shape[:-2], s.shape[:-2])
    except ValueError as error:
        shapes = f"leading shape {tuple(s.shape[:-2])} does not broadcast with the teacher's {tuple(w.shape[:-2])}"
        raise ValueError(f"student: {shapes}") from error
    generator._check_masks(s, w, "teacher")
    generator._check_masks(w, s, "student")
    if direction == "forward":
        generator._check_masks(y, s, "student", truth=True)
    return y, w, s, lead


def _clusters(clusters, w, s, lead):
    """The labels given, one a pair; else pairs that share an array broadcast along an axis get one label."""
    if clusters is not None:
        return broadcast(clusters, lead, "clusters")
    pad = [(1,) * (len(lead) - x.ndim + 2) + tuple(x.shape[:-2]) for x in (w, s)]
    independent = [n if n == a == b else 1 for n, a, b in zip(lead, *pad)]  # axes along which both sides vary
    return np.broadcast_to(np.arange(math.prod(independent)).reshape(independent), lead)


def by_input(function: Callable, lead: tuple[int, ...], *arrays: Array) -> list[np.ndarray]:
    """The values of `function` at each input, as a list of arrays (pairs, inputs), a block of inputs at a time.

    function : of blocks of the checked `arrays` (..., inputs, outputs), returns several arrays (..., inputs)
    lead     : the shape of the pairs, to which the leading axes of all results broadcast
    Blocks bound the memory and stay in the cache. Those of NumPy lie output by output: a sum over few outputs is slow
    where they lie side by side.
    """
    (n, outputs), pairs = arrays[0].shape[-2:], math.prod(lead)
    size, parts = max(1, BLOCK // max(1, pairs * outputs)), []
    for start in range(0, max(1, n), size):
        blocks = (x[..., start : start + size, :] for x in arrays)
        values = function(*(np.asfortranarray(x) if isinstance(x, np.ndarray) else x for x in blocks))
        rows = min(size, n - start)
        parts.append([np.broadcast_to(to_numpy(x), (*lead, rows)).reshape(pairs, rows) for x in values])
    return [np.concatenate(x, axis=1) for x in zip(*parts)]


@dataclass(frozen=True)
class Split:
    """residual = calibration + thrown away, with crossed standard errors."""

    residual: Estimate
    calibration: Estimate  # E <E[z_w|f_s] - z_s, E[Y|f_s] - f_s>: error about the teacher x error about the truth
    thrown_away: Estimate  # E Cov(z_w, Y | f_s): what the teacher knew and the student's prediction does not show

    def __str__(self) -> str:
        return "\n".join(_lines(self, "residual", "calibration", "thrown_away"))


def split_residual(
    truth: Array, teacher: Array, student: Array, generator: Generator = KL, *,
    bins: int = 15, groups: Array = None, clusters: Array = None,
) -> Split:  # fmt: skip
    r"""What the misfit failed to buy (forward direction), split exactly and for every generator:

        residual = E <E[z_w|f_s] - z_s, E[Y|f_s] - f_s>  +  E Cov(z_w, Y | f_s)     calibration + thrown away

    The first is 0 for a student calibrated to the truth, E[Y|f_s] = f_s, or to its teacher's dual, E[z_w|f_s] = z_s.
    f_s is replaced by bins of it, and the covariance in a bin is n_b/(n_b - 1) times that of the differences z_w - z_s
    and Y - f_s: raw z_w and Y would add what varies with f_s inside a bin.

    truth, teacher, student, clusters : as in `ledger`
    bins   : number of bins: of one output by quantiles, for KL by most probable class and quantiles of its probability
    groups : (inputs,) or (..., inputs) labels to use instead of bins, for predictions that take few values
    A bin needs two inputs; several outputs, other than KL's, need `groups`.

    >>> from w2s_lib import SQUARED
    >>> truth, teacher, student = [[0], [1], [2], [4]], [[0], [1], [2], [5]], [[0], [0], [2], [2]]
    >>> print(split_residual(truth, teacher, student, SQUARED, groups=[0, 0, 1, 1]))
         residual  3.5000 [-5.6409, 12.6409]
      calibration  0.0000 [-7.9029, 7.9029]
      thrown away  3.5000 [-1.0935, 8.0935]
    """
    y, w, s, lead = _checked(truth, teacher, student, generator)
    n, xp = y.shape[0], array_namespace(w)
    require(groups is not None or 1 <= bins <= n / 2, "bins", f"must lie between 1 and half the number of inputs, {n}")

    def differences(y, w, s):
        u, v = generator._dual_step(xp, w, s), y - generator.mean(s)
        return [x[..., k] for x in (u, v) for k in range(y.shape[-1])]

    columns = by_input(differences, lead, y, w, s)
    outputs = list(zip(columns[: y.shape[-1]], columns[y.shape[-1] :]))  # (z_w - z_s, Y - f_s), (pairs, inputs) each
    groups = _bins(s, bins, generator) if groups is None else groups
    groups = broadcast(groups, (*lead, n), "groups").reshape(-1, n)
    residual = sum(u * v for u, v in outputs)
    covariance = np.array([_binned_products(outputs, pair, labels) for pair, labels in enumerate(groups)])
    clusters = _clusters(clusters, w, s, lead)
    return Split(*(crossed_mean(x, clusters) for x in (residual, residual - covariance, covariance)))


def _binned_products(outputs, pair, labels):
    """<u - mean u, v - mean v> n_b/(n_b - 1) of one pair, with the means over the bin of each input, (inputs,)."""
    _, b, count = np.unique(labels, return_inverse=True, return_counts=True)
    require(count.min() > 1, "groups", "has a bin with a single input; use fewer bins")

    def centred(x):
        return x[pair] - (np.bincount(b, x[pair]) / count)[b]

    return sum(centred(u) * centred(v) for u, v in outputs) * (count / (count - 1))[b]


def _bins(s, bins, generator):
    """Bin labels (..., inputs) of predictions (..., inputs, outputs)."""
    (*lead, n, outputs), xp = s.shape, array_namespace(s)
    unordered = "are needed for several outputs: no order in which to bin them"
    require(outputs == 1 or generator.classes, "groups", unordered)

    def largest(s):
        mean = generator.mean(s)
        return xp.argmax(mean, axis=-1), xp.max(mean, axis=-1)

    tops, values = by_input(largest, lead, s)
    return np.array([_quantile_bins(*model, bins) for model in zip(tops, values)]).reshape(*lead, n)


def _quantile_bins(top, value, bins):
    """Bin labels (inputs,): of each class `top` the quantiles of `value`, at least two inputs a bin."""
    labels, first = np.empty(len(top), int), 0
    for c, size in zip(*np.unique(top, return_counts=True)):
        rows = np.flatnonzero(top == c)
        parts = max(1, min(round(bins * size / len(top)), size // 2))
        rank = value[rows].argsort(kind="stable").argsort(kind="stable")
        labels[rows] = first + rank * parts // size
        first += parts if size > 1 else 0  # a class with one input joins the first bin of the next
    return np.minimum(labels, max(first - 1, 0))  # or, if there is no next, the last bin of the one before


@dataclass(frozen=True)
class Blend:
    """The best weight t of the teacher in a blend with the student."""

    weight: Estimate
    pair_weight: np.ndarray  # one a pair, in the leading shape

    def __str__(self) -> str:
        return f"best weight of the teacher  {self.weight}"


def best_blend(
    truth: Array, teacher: Array, student: Array, generator: Generator = KL, *, clusters: Array = None
) -> Blend:
    r"""t* = argmin_t E D(Y, f_t) with z_t = (1 - t) z_s + t z_w: how much of the teacher to mix back into the student.

    The risk is convex in t, with slope -residual at t = 0. For the squared loss t* = residual/(2 misfit) and gain =
    misfit (1 - 2 t*): the student wins exactly if t* < 1/2. t* < 0: move further away from the teacher.
    Arguments as in `ledger`. The weight is sought in [-10, 10], or in what of it has a blend (for Itakura-Saito z_t
    must stay negative); its standard error is that of an M-estimator.
    Raises ValueError if a student equals its teacher; if no blend in the range is best.
    """
    y, w, s, lead = _checked(truth, teacher, student, generator)
    xp, pairs = array_namespace(w), math.prod(lead)

    def derivatives(t):
        """Slope and curvature in t of the loss of each input, (pairs, inputs)."""
        t = xp.asarray(t.reshape(*lead, 1, 1), dtype=s.dtype, device=device(s))

        def at_blend(y, w, s):
            step = generator._dual_step(xp, w, s)
            blend = generator.from_dual(generator.dual(s) + t * step)
            return xp.sum(step * (generator.mean(blend) - y), axis=-1), generator.curvature(blend, step)

        return by_input(at_blend, lead, y, w, s)

    (apart,) = by_input(lambda w, s: (xp.max(xp.abs(generator._dual_step(xp, w, s)), axis=-1),), lead, w, s)
    require(np.all(apart.max(1) > 0), "student", "equals the teacher: every blend is the same")
    t = argmin_convex(lambda t: [x.mean(1) for x in derivatives(t)], -10.0, 10.0, np.zeros(pairs), "teacher")
    require(np.all(abs(t) < 10), "teacher", "no best blend in [-10, 10]; are the logits saturated?")
    slope, curvature = derivatives(t)
    influence = t[:, None] - slope / curvature.mean(1)[:, None]
    return Blend(crossed_mean(influence, _clusters(clusters, w, s, lead), value=t.mean()), t.reshape(lead))


def performance_gap_recovered(teacher: Array, student: Array, ceiling: Array, clusters: Array = None) -> Estimate:
    """PGR = (student - teacher) / (ceiling - teacher) of mean scores, as an Estimate by the delta method.

    Scores have shape (models, inputs): correctness 0/1, or a negative loss; `clusters` as in `crossed_mean`. When
    ceiling and teacher are close, the interval is wide; when they are equal, a ValueError.

    >>> teacher, student, ceiling = [[0, 1, 0, 0], [0, 0, 0, 1]], [[1, 1, 0, 0], [0, 0, 1, 1]], [[1, 1, 1, 1]] * 2
    >>> performance_gap_recovered(teacher, student, ceiling).value
    0.3333333333333333
    """
    xp, w, s, c = as_arrays(teacher=teacher, student=student, ceiling=ceiling)
    require(w.shape == s.shape == c.shape and w.ndim == 2, "student", "all three need the same shape (models, inputs)")
    require(float(xp.mean(c)) != float(xp.mean(w)), "ceiling", "scores as the teacher does: there is no gap to recover")
    return crossed_ratio(s - w, c - w, clusters)
