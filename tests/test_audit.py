"""The audit: numbers against the library, files good and bad, few labels and a million rows."""

import doctest
import sys

import numpy as np
import pytest

from w2s_lib import KL, ledger
from w2s_lib.audit import audit


def pair(n=600, K=3, seed=0, student_noise=0.5):
    rng = np.random.default_rng(seed)
    truth = 2 * rng.normal(size=(n, K))
    labels = (truth + rng.gumbel(size=(n, K))).argmax(1)
    return labels, truth + 2 * rng.normal(size=(n, K)), truth + student_noise * rng.normal(size=(n, K))


def with_value(array, place, value):
    array = np.array(array, float)
    array[place] = value
    return array


def test_numbers_are_those_of_the_library():
    labels, teacher, student = pair()
    found, book = audit(labels, teacher, student), ledger(labels, teacher, student)
    assert found.book.gain == book.gain and found.labelled == found.inputs == 600
    assert found.student_accuracy.value == np.mean(student.argmax(1) == labels)
    p = KL.mean(student)
    assert found.student_entropy.value == pytest.approx(-(p * np.log(p)).sum(1).mean())
    assert found.unlabelled_misfit.value == pytest.approx(book.misfit.value)
    assert found.split.residual.value == pytest.approx(book.residual.value)
    probabilities = audit(labels, KL.mean(teacher), KL.mean(student), probabilities=True)
    assert probabilities.book.gain.value == pytest.approx(book.gain.value)


def test_calibration_error_is_zero_for_the_truth_and_not_for_an_over_confident_model():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 3))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    found = audit(labels, logits, 3 * logits)
    assert found.teacher_calibration < 0.02 < 0.2 < found.student_calibration


def test_missing_labels_count_for_the_misfit_alone():
    labels, teacher, student = pair()
    some = np.where(np.arange(600) < 100, labels, -1)
    found = audit(some, teacher, student)
    assert found.labelled == 100
    assert found.book.gain.value == pytest.approx(ledger(labels[:100], teacher[:100], student[:100]).gain.value)
    assert found.unlabelled_misfit.value == pytest.approx(ledger(labels, teacher, student).misfit.value)
    none = audit(np.full(600, np.nan), teacher, student)
    assert str(audit(np.full(600, -1), teacher, student)) == str(none)
    assert none.book is None and "misfit" in str(none) and "gain" not in none.numbers()


def test_few_labels_give_wide_answers_that_cover():
    """20 labels: intervals of the gain cover that of 200,000 inputs in at least 90% of 200 draws, and are wide."""
    rng = np.random.default_rng(1)
    labels, teacher, student = pair(200_000, student_noise=1.8)
    gain = ledger(labels, teacher, student).gain.value
    hits, widths = 0, []
    for _ in range(200):
        rows = rng.choice(len(labels), 20, replace=False)
        low, high = audit(labels[rows], teacher[rows], student[rows]).book.gain.interval()
        hits += low < gain < high
        widths.append(high - low)
    assert hits >= 180 and np.median(widths) > 0.5


def test_equal_models_have_an_empty_ledger():
    labels, teacher, _ = pair()
    found = audit(labels, teacher, teacher)
    assert found.book.misfit.value == 0 and found.blend is None and found.agreement.value == 1


def test_a_probability_of_zero_is_named():
    labels, *predictions = pair(50)
    p, q = (KL.mean(x) for x in predictions)
    zero = with_value(p, 3, [0, 0.5, 0.5])
    message = r"^teacher: a probability is 0 .* logarithm is needed; .*add 1e-12.*; first at \[3, 0\]"
    with pytest.raises(ValueError, match=message):
        audit(labels, zero, q, probabilities=True)


@pytest.mark.parametrize(
    ("value", "message"), [(1.2, "does not sum to one .* at .4."), (-0.2, "holds negative .* at .4, 1.")]
)
def test_what_are_no_probabilities(value, message):
    labels, *predictions = pair(50)
    p, q = (KL.mean(x) for x in predictions)
    with pytest.raises(ValueError, match=f"^student: {message}"):
        audit(labels, p, with_value(q, (4, 1), value), probabilities=True)


def test_other_bad_input():
    labels, teacher, student = pair(50)
    for message, call in {
        "student: shape": lambda: audit(labels, teacher, student[:, :2]),
        "truth: need one label": lambda: audit(labels[:3], teacher, student),
        "truth: class labels .*; first at .2.": lambda: audit(with_value(labels, 2, 9), teacher, student),
        "teacher: holds .*; first at .2, 1.": lambda: audit(labels, with_value(teacher, (2, 1), np.inf), student),
        "teacher: need shape .inputs, classes.": lambda: audit(labels, teacher[:, 0], student[:, 0]),
        "teacher: .*two classes take two columns": lambda: audit(labels, teacher[:, :1], student[:, :1]),
        "student: dtype <U1 is not real numbers": lambda: audit(labels, teacher, [["a"]]),
        "truth: need one label an input": lambda: audit([], teacher[:0], student[:0]),
    }.items():
        with pytest.raises(ValueError, match=f"^{message}"):
            call()


def test_docstrings():
    result = doctest.testmod(sys.modules[audit.__module__])
    assert result.attempted and not result.failed
