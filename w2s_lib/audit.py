r"""Audit your own teacher and student: the ledger and more, from test labels and two sets of predictions.

A label may be missing (-1 or NaN): such an input counts for what needs no label, the misfit, the entropies and the
agreement, and for nothing else. `w2s_lib.cli.audit_report` says in words what the numbers say; `python -m w2s_lib audit
FILE` does both for a file.
"""

import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._checks import SUM_TOLERANCE, as_arrays, as_real, one_hot, require, to_numpy
from .bregman import KL, log_softmax
from .calibration import entropy, expected_calibration_error
from .gain import Blend, Ledger, Split, best_blend, by_input, ledger, split_residual
from .intervals import Estimate, crossed_mean

ROLES = ("teacher", "student")
TWO_CLASSES = "two classes take two columns a model: 0 and the log-odds as logits, 1 - p and p as probabilities"


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The result of `audit`; estimates carry 95% intervals over the test inputs, conditional on these two models."""

    inputs: int
    labelled: int
    classes: int
    book: Ledger | None = None  # None: too few labels
    split: Split | None = None
    blend: Blend | None = None
    unlabelled_misfit: Estimate  # over all inputs
    agreement: Estimate  # share of inputs with the same most probable class
    teacher_accuracy: Estimate | None = None
    student_accuracy: Estimate | None = None
    accuracy_gain: Estimate | None = None
    teacher_entropy: Estimate
    student_entropy: Estimate
    teacher_calibration: float | None = None  # expected calibration error, 15 bins of equal size
    student_calibration: float | None = None

    def numbers(self) -> dict[str, Estimate | float]:
        """All results by name: estimates, and calibration errors."""
        results = {name: x for name, x in vars(self).items() if isinstance(x, Estimate | float)}
        if self.book:
            results |= {name: x for name, x in vars(self.book).items() if isinstance(x, Estimate)}
        if self.split:
            results |= {f"residual_{name}": getattr(self.split, name) for name in ("calibration", "thrown_away")}
        return results | ({"best_teacher_weight": self.blend.weight} if self.blend else {})

    def __str__(self) -> str:
        counts = f"{self.inputs:,} inputs, {self.labelled:,} with a label, {self.classes} classes"
        numbers = {name: x if isinstance(x, Estimate) else f"{x:.4f}" for name, x in self.numbers().items()}
        lines = [f"{name.replace('_', ' '):>27}  {text}" for name, text in numbers.items()]
        return "\n".join([f"{counts}; 95% intervals over inputs", "", *lines])


def audit(truth: ArrayLike, teacher: ArrayLike, student: ArrayLike, *, probabilities: bool = False) -> Audit:
    """Audit one teacher-student pair on common test inputs; returns an Audit.

    truth            : (inputs,) class labels 0..K-1; -1 or NaN where there is none
    teacher, student : (inputs, classes) logits, or probabilities > 0 if `probabilities`; NumPy or torch
    With fewer than 10 labels there is no ledger. Intervals are conditional on these two models: another training run of
    either may differ by more.
    Warns (UserWarning) if logits look like probabilities.

    >>> import numpy as np
    >>> logits = np.random.default_rng(0).normal(size=(1000, 3))
    >>> truth = (logits + np.random.default_rng(1).gumbel(size=(1000, 3))).argmax(1)
    >>> found = audit(truth, logits / 4, logits)
    >>> print(found.book.gain)
    0.1319 [0.1047, 0.1590]
    """
    y, *pair = (to_numpy(as_real(**{k: x})[1]) for k, x in zip(("truth", *ROLES), (truth, teacher, student)))
    w, s = pair
    require(w.ndim == 2 and w.shape[1] > 1, "teacher", f"need shape (inputs, classes), got {w.shape}; {TWO_CLASSES}")
    require(s.shape == w.shape, "student", f"shape {s.shape} must be the teacher's, {w.shape}; use the same inputs")
    require(y.shape == w.shape[:1] and len(y), "truth", f"need one label an input, ({len(w)},), got {y.shape}")
    if probabilities:
        # in the order of rows: sums over columns, as a file has them, round otherwise
        w, s = (np.log(KL.truth(np.ascontiguousarray(x), name, interior=True)) for x, name in zip(pair, ROLES))
    elif all(x.min() >= 0 and (abs(x.sum(1) - 1) <= SUM_TOLERANCE).all() for x in pair):
        words = "teacher and student look like probabilities, but are taken as logits"
        warnings.warn(f"{words}: pass probabilities=True / --probabilities", UserWarning, stacklevel=2)
    return _audit(y, *as_arrays(teacher=w, student=s)[1:])


def _audit(truth, teacher, student):
    """The Audit of labels (inputs,), some of them missing, and logits (inputs, classes)."""
    (n, K), known = teacher.shape, ~(np.isnan(truth) | (truth == -1))
    y, labelled = one_hot(np.where(known, truth, 0), K, "truth"), int(known.sum())
    triple = tuple(x if labelled == n else x[known] for x in (y, teacher, student))
    entropies, confidence, answer = zip(*(by_input(_answers, (), x) for x in (teacher, student)))
    book = ledger(*triple) if labelled >= 10 else None
    if book and labelled == n:
        misfit = book.misfit
    else:
        misfit = crossed_mean(by_input(lambda w, s: (KL.divergence(s, w),), (), teacher, student)[0])
    agreement = crossed_mean((answer[0] == answer[1]).astype(float))
    results: dict[str, Any] = {"book": book, "unlabelled_misfit": misfit, "agreement": agreement}
    results |= {f"{role}_entropy": crossed_mean(x) for role, x in zip(ROLES, entropies)}
    if book:
        correct, bins = [(x[:, known] == truth[known]).astype(float) for x in answer], min(15, labelled // 10)
        for role, right, p in zip(ROLES, correct, confidence):
            results[f"{role}_accuracy"] = crossed_mean(right)
            results[f"{role}_calibration"] = float(expected_calibration_error(right[0], p[0, known], bins))
        results["accuracy_gain"] = crossed_mean(correct[1] - correct[0])
        with suppress(ValueError):  # teacher and student are equal, or saturated: there is no best blend
            results["blend"] = best_blend(*triple)
        if labelled >= 40:
            results["split"] = split_residual(*triple, bins=min(15, labelled // 20))
    return Audit(inputs=n, labelled=labelled, classes=K, **results)


def _answers(logits):
    """Entropy, largest probability and most probable class of each input."""
    log_p = log_softmax(logits)
    return entropy(log_p), np.exp(log_p.max(1)), logits.argmax(1)
