"""What the numbers of an audit say in words: whom they favour, when they cannot tell, and nothing that is not there."""

import doctest
from dataclasses import replace

import numpy as np
import pytest
from test_audit import pair

from w2s_lib import Estimate
from w2s_lib.audit import audit
from w2s_lib.cli import audit_report
from w2s_lib.cli.audit_report import UNLABELLED, as_dict, reading, report


def estimate(value, se=1.0):
    return Estimate(value, se, np.inf, 1, 1, 100)


def told(gain, accuracy, residual=0.0):
    """The reading of an audit with these estimates, in standard errors."""
    found = audit(*pair())
    book = replace(found.book, gain=estimate(gain), residual=estimate(residual))
    return reading(replace(found, book=book, accuracy_gain=estimate(accuracy), split=None, blend=None))


@pytest.mark.parametrize(
    ("value", "words"), [(0.0, "cannot tell"), (4.0, "it beats its teacher"), (-4.0, "does worse")]
)
def test_the_sign_of_the_gain_is_read(value, words):
    assert words in told(value, 0.0)[0] and f"({value:.4f}, 95% interval" in told(value, 0.0)[0]


def test_risk_and_accuracy_may_disagree():
    for gain, accuracy, residual in ((4.0, -4.0, 0.0), (-4.0, 4.0, 4.0)):
        assert "Risk and accuracy disagree" in told(gain, accuracy, residual)[2]
    for gain, accuracy in ((4.0, 4.0), (4.0, 0.0), (0.0, -4.0)):
        assert len(told(gain, accuracy)) == 3


@pytest.mark.parametrize(("value", "words"), [(0.0, "all of the misfit"), (4.0, "is lost"), (-4.0, "further away")])
def test_the_sign_of_the_residual_is_read(value, words):
    assert words in told(4.0, 4.0, value)[2]


@pytest.mark.parametrize(("value", "words"), [(0.0, "may be zero"), (4.0, "some of the"), (-4.0, "further away")])
def test_parts_that_are_zero_are_passed_over_and_the_weight_is_not(value, words):
    found = audit(*pair())
    split = replace(found.split, calibration=estimate(value), thrown_away=estimate(-value))
    sentences = reading(replace(found, split=split, blend=replace(found.blend, weight=estimate(value))))
    assert words in sentences[-1] and len(sentences) == 4 + 2 * bool(value)


def test_without_labels_the_report_says_what_they_would_show():
    labels, teacher, student = pair()
    none = audit(np.full(len(labels), np.nan), teacher, student)
    assert reading(none) == list(UNLABELLED) and report(none) == f"{none}\n\n{UNLABELLED[0]}\n{UNLABELLED[1]}"
    assert "gain" not in as_dict(none) and as_dict(none)["labelled"] == 0


def test_machines_get_every_number():
    found = audit(*pair())
    results = as_dict(found)
    assert results["reading"] == reading(found) and results["inputs"] == 600
    assert results["gain"] == {"value": found.book.gain.value, "interval": list(found.book.gain.interval())}
    assert {"residual_calibration", "best_teacher_weight", "teacher_calibration"} <= results.keys()


def test_the_example_runs():
    result = doctest.testmod(audit_report)
    assert result.attempted and not result.failed
