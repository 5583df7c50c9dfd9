r"""Audit your own teacher and student: the ledger and more, from test labels and two sets of predictions.

A label may be missing (-1 or NaN): such an input counts for what needs no label, the misfit, the entropies and the
agreement, and for nothing else. `w2s_lib.cli.audit_report` says in words what the numbers say; `python -m w2s_lib audit
FILE` does both for a file.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import SUM_TOLERANCE, one_hot, require, to_numpy
from .bregman import KL, log_softmax
from .calibration import entropy, expected_calibration_error
from .gain import Blend, Ledger, Split, best_blend, by_input, ledger, split_residual
from .intervals import Estimate, crossed_mean

Numbers = NDArray[np.float64]
ROLES = ("teacher", "student")
TWO_CLASSES = "two classes take two columns a model: 0 and the log-odds as logits, 1 - p and p as probabilities"


class RowError(ValueError):
    """A value that cannot be audited: in array `name`, in `row` and `column` (None: the whole row), both from 0."""

    def __init__(self, name: str, row: int, column: int | None, problem: str) -> None:
        self.name, self.row, self.column, self.problem = name, row, column, problem
        super().__init__(f"{name}: {self.place()}: {problem}")

    def place(self) -> str:
        """Row and column in words."""
        return f"row {self.row}{'' if self.column is None else f', class {self.column}'} (counted from 0)"


def refuse(wrong: NDArray[np.bool_], name: str, values: Numbers, problem: str) -> None:
    """Raise a RowError at the first True of `wrong`, (rows,) or (rows, classes); {} in `problem` is the value there."""
    if wrong.any():
        row, *column = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
        raise RowError(name, row, column[0] if column else None, problem.format(values[row, *column]))


def check(truth: Numbers, teacher: Numbers, student: Numbers) -> None:
    """Shapes, finite predictions, labels in range or missing (NaN, -1); ValueError or RowError otherwise."""
    columns = f"need shape (inputs, classes), got {teacher.shape}; {TWO_CLASSES}"
    require(teacher.ndim == 2 and teacher.shape[1] > 1, "teacher", columns)
    unlike = f"shape {student.shape} must be the teacher's, {teacher.shape}; use the same inputs"
    require(student.shape == teacher.shape, "student", unlike)
    one_label = f"need one label an input, shape ({len(teacher)},), got {truth.shape}"
    require(truth.shape == teacher.shape[:1], "truth", one_label)
    require(len(truth), "truth", "has no rows; an audit needs one at least")
    for name, values in zip(ROLES, (teacher, student)):
        refuse(~np.isfinite(values), name, values, "{:g} is not a finite number; clip the logits or drop the row")
    K = teacher.shape[1]
    label = (truth >= 0) & (truth < K) & (truth == np.round(truth))
    remedy = f"{{:g}} is no class 0..{K - 1}; recode the labels, missing ones as -1 or NaN"
    refuse(~(label | np.isnan(truth) | (truth == -1)), "truth", truth, remedy)


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
    Raises ValueError that names the argument, and the row (counted from 0) of a label outside 0..K-1, of NaN or
    infinity, of probabilities that do not sum to one. Warns (UserWarning) if logits look like probabilities.

    >>> import numpy as np
    >>> logits = np.random.default_rng(0).normal(size=(1000, 3))
    >>> truth = (logits + np.random.default_rng(1).gumbel(size=(1000, 3))).argmax(1)
    >>> found = audit(truth, logits / 4, logits)
    >>> print(found.book.gain)
    0.1319 [0.1047, 0.1590]
    """
    y, w, s = _numbers(truth, "truth"), _numbers(teacher, "teacher"), _numbers(student, "student")
    check(y, w, s)
    if probabilities:
        w, s = _logits(w, "teacher"), _logits(s, "student")
    elif all(x.min() >= 0 and not _unnormalised(x).any() for x in (w, s)):
        words = "teacher and student look like probabilities, but are taken as logits"
        warnings.warn(f"{words}: pass probabilities=True / --probabilities", UserWarning, stacklevel=2)
    return _report(y, w, s)


def _report(truth: Numbers, teacher: Numbers, student: Numbers) -> Audit:
    """The Audit of checked labels and logits."""
    known = ~(np.isnan(truth) | (truth == -1))
    (n, K), labelled = teacher.shape, int(known.sum())
    y = truth[known]
    triple = one_hot(y, K), *(x if labelled == n else x[known] for x in (teacher, student))
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
        correct, bins = [(x[:, known] == y).astype(float) for x in answer], min(15, labelled // 10)
        for role, right, p in zip(ROLES, correct, confidence):
            results[f"{role}_accuracy"] = crossed_mean(right)
            results[f"{role}_calibration"] = float(expected_calibration_error(right[0], p[0, known], bins))
        results["accuracy_gain"] = crossed_mean(correct[1] - correct[0])
        with suppress(ValueError):  # teacher and student are equal, or saturated: there is no best blend
            results["blend"] = best_blend(*triple)
        if labelled >= 40:
            results["split"] = split_residual(*triple, bins=min(15, labelled // 20))
    return Audit(inputs=n, labelled=labelled, classes=K, **results)


def _numbers(x: ArrayLike, name: str) -> Numbers:
    try:
        return to_numpy(x)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: need an array of real numbers ({error})") from None


def _logits(p: Numbers, name: str) -> Numbers:
    p = np.ascontiguousarray(p)  # columns of a file: in another order the sums would round differently
    refuse(p < 0, name, p, "{:g} is no probability; if these are logits, drop probabilities=True / --probabilities")
    remedy = "normalise the row or, if these are logits, drop probabilities=True / --probabilities"
    refuse(_unnormalised(p), name, p.sum(1), f"probabilities sum to {{:.6g}}, not to one; {remedy}")
    refuse(p == 0, name, p, "a probability of {:g} has no logarithm; pass logits, or add 1e-12 and normalise the row")
    return KL.from_mean(p)


def _unnormalised(p: Numbers) -> NDArray[np.bool_]:
    """Whether a row sums to something else than one."""
    return abs(p.sum(1) - 1) > SUM_TOLERANCE


def _answers(logits: Numbers) -> tuple[Numbers, Numbers, NDArray[np.int_]]:
    """Entropy, largest probability and most probable class of each input."""
    log_p = log_softmax(logits)
    return entropy(log_p), np.exp(log_p.max(1)), logits.argmax(1)
