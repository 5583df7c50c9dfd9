r"""Audit your own teacher and student: the ledger and what it says, from test labels and two sets of predictions.

    python -m w2s_lib audit FILE          logits; --probabilities otherwise; --json for machines

FILE is an .npz with `labels` (inputs,), `teacher` and `student` (inputs, classes), or a .csv whose header is
label, teacher_0 ... teacher_K-1, student_0 ... student_K-1. A label may be missing (empty in a .csv, -1 in an array):
such rows count for what needs no label, the misfit, the entropies and the agreement, and for nothing else.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from .bregman import KL
from .estimates import Estimate, crossed_mean, require, sign, to_numpy
from .ledger import Blend, Ledger, Split, best_blend, by_input, ledger, one_hot, split_residual

CHUNK = 100_000  # rows that are read at a time
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
        "Where the student's answers are equal the teacher's differences point away from the truth: what the student "
        "left out was noise",
    ),
}
UNLABELLED = (
    "There are too few labels for a ledger.",
    "The misfit alone says how far the student went from the teacher. It cannot say whether to a better place: "
    "gain = misfit - residual, and only labels show the residual.",
)


@dataclass(frozen=True)
class Audit:
    """What `audit` found; estimates carry 95% intervals over the test inputs, conditional on these two models."""

    inputs: int
    labelled: int
    classes: int
    book: Ledger | None  # None: too few labels
    split: Split | None
    blend: Blend | None
    unlabelled_misfit: Estimate  # over all inputs
    agreement: Estimate  # share of inputs with the same most probable class
    teacher_accuracy: Estimate | None
    student_accuracy: Estimate | None
    accuracy_gain: Estimate | None
    teacher_entropy: Estimate
    student_entropy: Estimate
    teacher_calibration: float | None  # expected calibration error, 15 bins of equal size
    student_calibration: float | None

    def reading(self):
        """Plain sentences, one finding each."""
        if self.book is None:
            return list(UNLABELLED)
        gain, accuracy, residual = self.book.gain, self.accuracy_gain, self.book.residual
        words = [_verdict(name, x) for name, x in (("gain", gain), ("accuracy", accuracy), ("residual", residual))]
        if all(sign(x) for x in (gain, accuracy)) and sign(gain) != sign(accuracy):
            words.insert(2, "Risk and accuracy disagree: look at the calibration errors.")
        parts = {name: getattr(self.split, name) for name in ("calibration", "thrown_away")} if self.split else {}
        words += [_verdict(name, part) for name, part in parts.items() if sign(part)]
        if self.blend is not None:
            low, high = self.blend.weight.interval()
            sides = {1: "some of the teacher would help", -1: "further away from the teacher would help"}
            words.append(
                f"The best blend gives the teacher a weight of {self.blend.weight.value:.2f} [{low:.2f}, {high:.2f}]: "
                f"{sides.get(sign(self.blend.weight), 'it may be zero')}."
            )
        return words

    def rows(self):
        """[(name, estimate or number), ...] of all that was found."""
        names = [
            f.name for f in fields(self) if f.name not in ("inputs", "labelled", "classes", "book", "split", "blend")
        ]
        found = [(name, getattr(self, name)) for name in names]
        if self.book is not None:
            found += [
                (name, getattr(self.book, name))
                for name in ("teacher_risk", "student_risk", "gain", "misfit", "residual")
            ]
        if self.split is not None:
            found += [(f"residual_{name}", getattr(self.split, name)) for name in ("calibration", "thrown_away")]
        if self.blend is not None:
            found.append(("best_teacher_weight", self.blend.weight))
        return [(name, value) for name, value in found if value is not None]

    def __str__(self):
        head = (
            f"{self.inputs:,} inputs, {self.labelled:,} with a label, {self.classes} classes; 95% intervals over inputs"
        )
        lines = [
            f"{name.replace('_', ' '):>27}  {v if isinstance(v, Estimate) else f'{v:.4f}'}" for name, v in self.rows()
        ]
        return "\n".join([head, "", *lines, "", *self.reading()])

    def as_dict(self):
        """The same for JSON: value and interval of each estimate."""
        out = {"inputs": self.inputs, "labelled": self.labelled, "classes": self.classes, "reading": self.reading()}
        for name, value in self.rows():
            pair = isinstance(value, Estimate)
            out[name] = {"value": value.value, "interval": list(value.interval())} if pair else value
        return out


def _verdict(name, estimate):
    low, high = estimate.interval()
    return f"{READINGS[name][sign(estimate)]} ({estimate.value:.4f}, 95% interval {low:.4f} to {high:.4f})."


def audit(labels, teacher, student, *, probabilities=False):
    """Audit one teacher-student pair on common test inputs; returns an Audit.

    labels           : (inputs,) class labels 0..K-1; -1 or NaN where there is none
    teacher, student : (inputs, classes) logits, or probabilities > 0 if `probabilities`
    With fewer than 10 labels there is no ledger. Intervals are conditional on these two models: another training run of
    either may differ by more. Raises ValueError that names the argument.
    """
    labels = to_numpy(labels)
    if probabilities:
        teacher, student = KL.from_mean(to_numpy(teacher)), KL.from_mean(to_numpy(student))
    teacher, student = (KL.prediction(to_numpy(x), name) for x, name in ((teacher, "teacher"), (student, "student")))
    require(teacher.ndim == 2, "teacher", f"need shape (inputs, classes), got {teacher.shape}")
    require(student.shape == teacher.shape, "student", f"shape {student.shape} must be the teacher's, {teacher.shape}")
    require(labels.shape == teacher.shape[:1], "labels", f"need shape ({len(teacher)},), got {labels.shape}")
    n, K = teacher.shape
    known = ~(np.isnan(labels) | (labels == -1))
    y, few = labels[known], known.sum() < 10
    truth = one_hot(y, K) if len(y) else np.zeros((0, K))
    entropy, confidence, answer = zip(*(by_input(_shown, (), x) for x in (teacher, student)))
    entropies = [crossed_mean(x) for x in entropy]
    book = split = blend = None
    right, errors = [None] * 3, [None] * 2
    if not few:
        w, s = (x if known.all() else x[known] for x in (teacher, student))
        book = ledger(truth, w, s)
        correct = [(x[:, known] == y).astype(float) for x in answer]
        right = [crossed_mean(x) for x in (*correct, correct[1] - correct[0])]
        errors = [_calibration_error(p[0, known], x[0]) for p, x in zip(confidence, correct)]
        if known.sum() >= 40:
            split = split_residual(truth, w, s, bins=min(15, int(known.sum()) // 20))
        try:
            blend = best_blend(truth, w, s)
        except ValueError:  # teacher and student are equal, or saturated: there is no best blend
            blend = None
    if book and known.all():
        misfit = book.misfit
    else:
        misfit = crossed_mean(*by_input(lambda w, s: (KL.divergence(s, w),), (), teacher, student))
    agreement = crossed_mean((answer[0] == answer[1]).astype(float))
    return Audit(n, int(known.sum()), K, book, split, blend, misfit, agreement, *right, *entropies, *errors)


def _shown(logits):
    """Entropy, largest probability and most probable class of each input."""
    p = KL.mean(logits)
    return -(p * np.log(p.clip(np.finfo(float).tiny))).sum(1), p.max(1), logits.argmax(1)


def _calibration_error(confidence, right, bins=15):
    """Mean |confidence - accuracy| over bins of equal size of the largest probability (ECE)."""
    parts = np.array_split(confidence.argsort(), min(bins, max(1, len(right) // 10)))
    return float(sum(abs(confidence[b].mean() - right[b].mean()) * len(b) for b in parts) / len(right))


def read(path):
    """(labels, teacher, student) of an .npz or a .csv file; a ValueError names row and column of what is wrong."""
    path = Path(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            missing = {"labels", "teacher", "student"} - set(file.files)
            require(not missing, str(path), f"has no array named {', '.join(sorted(missing))}")
            return file["labels"], file["teacher"], file["student"]
    require(path.suffix == ".csv", str(path), "must be a .npz or a .csv file")
    with path.open(newline="") as file:
        header = [name.strip() for name in file.readline().strip().split(",")]
        K = sum(bool(re.fullmatch(r"teacher_\d+", name)) for name in header)
        order = ["label", *(f"{role}_{k}" for role in ("teacher", "student") for k in range(K))]
        wanted = ", ".join(order[:3]) if K else "label, teacher_0, ..., student_0, ..."
        require(K > 1 and sorted(header) == sorted(order), str(path), f"row 1: the columns must be {wanted}, ... ")
        place, blocks, row = [header.index(name) for name in order], [], 2
        while lines := file.readlines(CHUNK * 20 * len(order)):
            blocks.append(_numbers(lines, header, row, path)[:, place])
            row += len(lines)
    require(blocks, str(path), "has no rows below the header")
    table = np.concatenate(blocks)
    return table[:, 0], table[:, 1 : K + 1], table[:, K + 1 :]


def _numbers(lines, header, row, path):
    """A block of rows as numbers; an empty label becomes NaN."""
    label = header.index("label")
    try:
        if label == 0:
            lines = [f"nan{line}" if line.startswith(",") else line for line in lines]
        table = np.loadtxt(lines, delimiter=",", ndmin=2, comments=None)
        if len(table) == len(lines) and table.shape[1] == len(header) and np.isfinite(np.delete(table, label, 1)).all():
            return table
    except ValueError:
        pass
    table = []
    for i, line in enumerate(lines, row):  # slowly, to find the place
        cells = line.strip().split(",")
        require(len(cells) == len(header), str(path), f"row {i}: {len(cells)} cells, the header has {len(header)}")
        values = []
        for name, cell in zip(header, cells):
            try:
                value = float(cell) if cell.strip() or name != "label" else np.nan
            except ValueError:
                raise ValueError(f"{path}: row {i}, column {name}: {cell!r} is not a number") from None
            good = np.isfinite(value) or name == "label"
            require(good, str(path), f"row {i}, column {name}: {cell!r} is not finite")
            values.append(value)
        table.append(values)
    return np.array(table)


def picture(found):
    """A matplotlib figure of an Audit with a ledger: risks, and the gain as misfit less residual."""
    import matplotlib.pyplot as plt

    from . import figures

    require(found.book is not None, "found", "has no ledger to draw: too few labels")
    names = {
        "teacher risk": "teacher",
        "student risk": "student",
        "gain": "gain",
        "misfit": "misfit",
        "residual": "residual",
    }
    fig, ax = plt.subplots(figsize=(7, 2.8))
    figures.intervals(
        ax, [(name, concept, getattr(found.book, name.replace(" ", "_"))) for name, concept in names.items()]
    )
    ax.axvline(0, color="#444444", lw=1)
    ax.set_xlabel("cross-entropy (nats)")
    return fig


def main(arguments=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m w2s_lib audit", description="Audit a teacher and a student.")
    parser.add_argument("file", type=Path, help=".npz or .csv; see python -c 'import w2s_lib.audit as a; help(a)'")
    parser.add_argument("--probabilities", action="store_true", help="the predictions are probabilities, not logits")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)
    try:
        found = audit(*read(chosen.file), probabilities=chosen.probabilities)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    print(json.dumps(found.as_dict(), indent=1) if chosen.json else found)
    return 0
