"""What a row may hold, and that what it may not is named by array, row and column."""

import numpy as np
import pytest
from test_audit import pair, with_value

from w2s_lib import KL
from w2s_lib.cli.prediction_rows import RowError, check_rows

ARRAYS = pair(50)
LABELS, TEACHER, STUDENT = ARRAYS


def test_good_rows_pass():
    check_rows(*ARRAYS)
    check_rows(np.where(np.arange(50) < 9, LABELS, [np.nan, -1] * 25), TEACHER, STUDENT)
    check_rows(LABELS, KL.mean(TEACHER), KL.mean(STUDENT), probabilities=True)
    check_rows(LABELS, KL.mean(TEACHER) * (1 + 9e-5), KL.mean(STUDENT), probabilities=True)


@pytest.mark.parametrize(
    ("arrays", "error"),
    [
        ((with_value(LABELS, 2, 9), TEACHER, STUDENT), RowError("truth", 2, None, "9 is no class 0..2; recode")),
        ((with_value(LABELS, 3, -2), TEACHER, STUDENT), RowError("truth", 3, None, "-2 is no class 0..2")),
        ((LABELS, with_value(TEACHER, (2, 1), np.inf), STUDENT), RowError("teacher", 2, 1, "inf is not a finite")),
        ((LABELS, TEACHER, with_value(STUDENT, (0, 2), np.nan)), RowError("student", 0, 2, "nan is not a finite")),
    ],
)
def test_the_first_wrong_number_is_named(arrays, error):
    with pytest.raises(RowError) as found:
        check_rows(*arrays)
    assert found.value.problem.startswith(error.problem)
    assert vars(found.value) | {"problem": ""} == vars(error) | {"problem": ""}


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((4, 1), 1.2, "student: row 4 .counted from 0.: probabilities sum to "),
        ((4, 1), -0.25, "student: row 4, class 1 .counted from 0.: -0.25 is no probability; if these are logits, drop"),
        (4, [0, 0.5, 0.5], "student: row 4, class 0 .counted from 0.: a probability of 0 has no logarithm"),
    ],
)
def test_what_are_no_probabilities(place, value, message):
    with pytest.raises(RowError, match=f"^{message}"):
        check_rows(LABELS, KL.mean(TEACHER), with_value(KL.mean(STUDENT), place, value), probabilities=True)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((LABELS, TEACHER, STUDENT[:, :2]), "student: shape"),
        ((LABELS[:3], TEACHER, STUDENT), "truth: need one label"),
        ((LABELS, TEACHER[:, 0], STUDENT[:, 0]), "teacher: need shape .inputs, classes."),
        ((LABELS, TEACHER[:, :1], STUDENT[:, :1]), "teacher: .*two classes take two columns"),
        ((LABELS[:0], TEACHER[:0], STUDENT[:0]), "truth: has no rows"),
    ],
)
def test_shapes_are_named(arrays, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        check_rows(*arrays)
