"""What a row of predictions may hold: all else is a RowError, of which `prediction_files` makes a place in a file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._checks import SUM_TOLERANCE, require
from ..audit import ROLES, TWO_CLASSES

Numbers = NDArray[np.float64]


class RowError(ValueError):
    """A value that cannot be audited: in array `name`, in `row` and `column` (None: the whole row), both from 0."""

    def __init__(self, name: str, row: int, column: int | None, problem: str) -> None:
        self.name, self.row, self.column, self.problem = name, row, column, problem
        super().__init__(f"{name}: {self.place()}: {problem}")

    def place(self) -> str:
        """Row and column in words."""
        return f"row {self.row}{'' if self.column is None else f', class {self.column}'} (counted from 0)"


def check_rows(truth: Numbers, teacher: Numbers, student: Numbers, probabilities: bool = False) -> None:
    """Shapes, finite predictions, labels in range or missing (NaN, -1); `probabilities` > 0 with a sum of one."""
    columns = f"need shape (inputs, classes), got {teacher.shape}; {TWO_CLASSES}"
    require(teacher.ndim == 2 and teacher.shape[1] > 1, "teacher", columns)
    unlike = f"shape {student.shape} must be the teacher's, {teacher.shape}; use the same inputs"
    require(student.shape == teacher.shape, "student", unlike)
    one_label = f"need one label an input, shape ({len(teacher)},), got {truth.shape}"
    require(truth.shape == teacher.shape[:1], "truth", one_label)
    require(len(truth), "truth", "has no rows; an audit needs one at least")
    for name, values in zip(ROLES, (teacher, student)):
        _refuse(~np.isfinite(values), name, values, "{:g} is not a finite number; clip the logits or drop the row")
        if probabilities:
            _check_probabilities(values, name)
    K = teacher.shape[1]
    label = (truth >= 0) & (truth < K) & (truth == np.round(truth))
    remedy = f"{{:g}} is no class 0..{K - 1}; recode the labels, missing ones as -1 or NaN"
    _refuse(~(label | np.isnan(truth) | (truth == -1)), "truth", truth, remedy)


def _check_probabilities(p, name):
    p, hint = np.ascontiguousarray(p), "if these are logits, drop --probabilities"  # sums round as those of the audit
    _refuse(p < 0, name, p, f"{{:g}} is no probability; {hint}")
    sums = f"probabilities sum to {{:.6g}}, not to one; normalise the row or, {hint}"
    _refuse(abs(p.sum(1) - 1) > SUM_TOLERANCE, name, p.sum(1), sums)
    _refuse(p == 0, name, p, "a probability of {:g} has no logarithm; pass logits, or add 1e-12 and normalise the row")


def _refuse(wrong, name, values, problem):
    """A RowError at the first True of `wrong`, (rows,) or (rows, classes); {} in `problem` is the value there."""
    if wrong.any():
        row, *column = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
        raise RowError(name, row, column[0] if column else None, problem.format(values[row, *column]))
