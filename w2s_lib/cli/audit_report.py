"""An audit in words, and for machines: what its numbers say, one sentence each.

>>> import numpy as np
>>> from w2s_lib.audit import audit
>>> logits = np.random.default_rng(0).normal(size=(1000, 3))
>>> truth = (logits + np.random.default_rng(1).gumbel(size=(1000, 3))).argmax(1)
>>> reading(audit(truth, logits / 4, logits))[0]
'The student has the lower risk: it beats its teacher (0.1319, 95% interval 0.1047 to 0.1590).'
"""

from __future__ import annotations

import math

from ..audit import Audit
from ..intervals import Estimate, sign

# what an estimate says when its interval contains zero, lies above it, lies below it
READINGS = {
    "gain": (
        "These labels cannot tell which of the two has the lower risk",
        "The student has the lower risk: it beats its teacher",
        "The student has the higher risk: it does worse than its teacher",
    ),
    "accuracy": (
        "They cannot tell which is more accurate",
        "The student is more accurate",
        "The student is less accurate",
    ),
    "residual": (
        "As far as these labels show, all of the misfit is gain",
        "Part of the misfit is lost",
        "The student gained more than its misfit: further away from the teacher it would gain more still",
    ),
    "calibration": (
        "",
        "Calibration costs the student: its confidence errs, and the teacher stands on the better side of it; "
        "a temperature may help",
        "The student's calibration error is on the side away from the teacher, and the teacher errs more",
    ),
    "thrown_away": (
        "",
        "Where the student's answers are equal the teacher's differences still point to the truth: the teacher knows "
        "something that the student dropped",
        "Where the student's answers are equal the teacher's differences point away from the truth: the signal left "
        "behind is negative",
    ),
}
UNLABELLED = (
    "There are too few labels for a ledger.",
    "The misfit alone says how far the student went from the teacher. It cannot say whether to a better place: "
    "gain = misfit - residual, and only labels show the residual.",
)


def report(audit: Audit) -> str:
    """The numbers and the reading, as the command line prints them."""
    return "\n".join([str(audit), "", *reading(audit)])


def reading(audit: Audit) -> list[str]:
    """Plain sentences, one result each."""
    if audit.book is None or audit.accuracy_gain is None:
        return list(UNLABELLED)
    gain, accuracy, residual = audit.book.gain, audit.accuracy_gain, audit.book.residual
    words = [_verdict(name, x) for name, x in (("gain", gain), ("accuracy", accuracy), ("residual", residual))]
    if all(sign(x) for x in (gain, accuracy)) and sign(gain) != sign(accuracy):
        words.insert(2, "Risk and accuracy disagree: look at the calibration errors.")
    parts = {name: getattr(audit.split, name) for name in ("calibration", "thrown_away")} if audit.split else {}
    words += [_verdict(name, part) for name, part in parts.items() if sign(part)]
    if audit.blend is not None:
        weight, (low, high) = audit.blend.weight, audit.blend.weight.interval()
        sides = {1: "some of the teacher would help", -1: "further away from the teacher would help"}
        best = f"The best blend gives the teacher a weight of {weight.value:.2f} [{low:.2f}, {high:.2f}]"
        words.append(f"{best}: {sides.get(sign(weight), 'it may be zero')}.")
    return words


def _verdict(name: str, estimate: Estimate) -> str:
    low, high = estimate.interval()
    return f"{READINGS[name][sign(estimate)]} ({estimate.value:.4f}, 95% interval {low:.4f} to {high:.4f})."


def as_dict(audit: Audit) -> dict[str, object]:
    """The same for JSON: value and interval of each estimate, None for a bound that one row cannot give."""
    counts = {"inputs": audit.inputs, "labelled": audit.labelled, "classes": audit.classes}
    results: dict[str, object] = {**counts, "reading": reading(audit), **audit.numbers()}
    for name, x in audit.numbers().items():
        if isinstance(x, Estimate):
            bounds = [bound if math.isfinite(bound) else None for bound in x.interval()]
            results[name] = {"value": x.value, "interval": bounds}
    return results
