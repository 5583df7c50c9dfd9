"""What the protocol measures along the regularisation path: the second of its stages.

Each student is measured for itself on the transfer, validation and test inputs of its run (`measure_run`); then CACE
gets its c at each point of the path; then runs are compared: bias and variance, distance to other teachers, ensembles.
Arrays have the axes (losses, path, runs, ...), or (runs, ...) where they are of teachers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..._checks import one_hot
from ...bregman import KL, log_softmax
from ...calibration import fit_temperature, scores
from ...decomposition import decompose
from ...gain import ledger
from .teachers_and_students import QUANTILES, Trained

if TYPE_CHECKING:
    from . import Protocol

FEW = (20, 50, 200)  # true labels of validation inputs that some rules may see
ENSEMBLE = 5  # runs in an ensemble


@dataclass(frozen=True)
class Curves:
    """Stage two: what is measured along the path, and the logits that later stages need. CACE is one loss here."""

    config: Protocol
    truth: np.ndarray  # (test inputs, classes) one-hot
    teacher: np.ndarray  # (runs, test inputs, classes) logits
    weak_labels: np.ndarray  # (runs, validation inputs, classes) the teacher's labels
    student: np.ndarray  # (losses, path, runs, test inputs, classes) float32 logits that sum to zero
    student_validation: np.ndarray  # (losses, path, runs, validation inputs, classes) the same
    students: dict[str, np.ndarray]  # {name: (losses, path, runs or what stands for them)}; cace_c (path, runs)
    teachers: dict[str, np.ndarray]  # {name: (runs,) or (value and standard error,)}


def measure(trained: Trained) -> Curves:
    """Measure all students and teachers, and choose the c of CACE."""
    config, task, test = trained.config, trained.task, trained.test
    L, P, R = trained.student.shape[:3]
    by_run = [[measure_run(trained, loss, r) for r in range(R)] for loss in range(L)]
    measured = {k: np.array([[x[k] for x in runs] for runs in by_run]).swapaxes(1, 2) for k in by_run[0][0]}
    rows, cace_c = tune_cace(config.losses, trained.names, measured["weak_ce"])
    at = (rows, *np.ogrid[:P, :R])  # makes (losses, path, runs, ...) of (candidates, path, runs, ...)
    measured = {k: x[at] for k, x in measured.items()}
    z = trained.student[..., config.transfer :, :][at]
    for path in z:
        path[:] = KL.dual(path.astype(float))  # loss by loss: the double precision of all would be large
    student, student_validation = z[..., config.validation :, :], z[..., : config.validation, :]
    teacher, truth = trained.teacher[:, test], one_hot(task.labels[test], task.classes)
    weak_labels = np.array([q[split.validation] for q, split in zip(trained.weak_labels, trained.splits)])
    soft = None if task.soft is None else task.soft[test]
    measured |= compare_runs(student, teacher, truth, soft, measured["temperature"], config.clusters) | cace_c
    return Curves(config, truth, teacher, weak_labels, student, student_validation, measured, measure_teachers(trained))


# ---------------------------------------------------------------------------------------------------- each for itself


def measure_run(trained: Trained, loss: int, r: int) -> dict[str, np.ndarray]:
    """{name: (path,)} of the students of one loss in run r."""
    config, task, rows = trained.config, trained.task, trained.rows[r]
    ends = np.cumsum([config.transfer, config.validation])
    z = KL.dual(trained.student[loss, :, r].astype(float))  # (path, inputs, classes)
    z_transfer, z_validation, z_test = np.split(z, ends, axis=1)
    y_transfer, y_validation, y_test = np.split(task.labels[rows], ends)
    w_transfer, _, w_test = np.split(trained.teacher[r, rows], ends)
    weak = trained.weak_labels[r, trained.splits[r].validation]
    temperature, ideal = (fit_temperature(z_validation, labels) for labels in (weak, y_validation))
    order = np.random.default_rng([config.runs[r][0], 4]).permutation(config.validation)  # the same for every loss
    on_transfer = ledger(y_transfer, w_transfer, z_transfer)
    return {
        "transfer_gain": on_transfer.pair_gain,
        "transfer_misfit": on_transfer.pair_misfit,
        "temperature": temperature,
        "ideal_temperature": ideal,
        "ideal_ce": scores(y_test, z_test / ideal[:, None, None]).cross_entropy,
        **_on_validation(z_validation / temperature[:, None, None], weak, y_validation, order),
        **_on_test(z_test, z_test / temperature[:, None, None], w_test, y_test, task),
    }


def _on_test(z, calibrated, z_w, y, task):
    """What is reported: of logits (path, inputs, classes) as trained and recalibrated, and the teacher's."""
    after, entries = _scores(y, calibrated), ledger(y, z_w, z)
    measured = _scores(y, z) | {k: getattr(entries, f"pair_{k}") for k in ("gain", "misfit", "residual")}
    measured["agree"] = (z.argmax(-1) == z_w.argmax(-1)).mean(-1)
    measured |= {f"{k}_cal": after[k] for k in ("ce", "ece", "entropy")}
    measured["tstar"] = blend_weight(KL.mean(calibrated), KL.mean(z_w), one_hot(y, task.classes))
    if task.length is not None:
        alike = alike_lengths(task.length[task.part == "test"])
        measured["matched"] = scores(y[alike], z[:, alike]).accuracy
    return measured


def _on_validation(z, q, y, order):
    """What rules may look at: recalibrated logits (path, inputs, classes), the teacher's labels, the truth."""
    log_p = log_softmax(z)
    weak = -(q * log_p).sum(-1)
    true = -np.take_along_axis(log_p, y[None, :, None], -1)[..., 0]
    measured = {
        "weak_ce": weak.mean(-1),
        "weak_se": weak.std(-1, ddof=1) / len(y) ** 0.5,
        "weak_agree": (z.argmax(-1) == q.argmax(-1)).mean(-1),
        "true_ce": true.mean(-1),
        "true_acc": (z.argmax(-1) == y).mean(-1),
    }
    for m in FEW:
        few = order[:m]
        measured[f"true_ce_{m}"] = true[:, few].mean(-1)
        measured[f"tstar_{m}"] = blend_weight(np.exp(log_p[:, few]), q[few], one_hot(y[few], z.shape[-1]))
    return measured


def _scores(y, z):
    """`calibration.scores` of labels y and logits z by the names that tables have: {name: (...)}."""
    s = scores(y, z)
    values = (s.accuracy, s.cross_entropy, s.brier, s.calibration_error, s.entropy)
    return dict(zip(("acc", "ce", "brier", "ece", "entropy"), values))


def blend_weight(student: np.ndarray, teacher: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """t*, the best weight of the teacher in a blend by squared loss: the slope of Y - f_s on f_w - f_s, (...).

    student (..., inputs, classes), teacher, truth (inputs, classes): probabilities
    """
    step = teacher - student
    return ((truth - student) * step).sum((-2, -1)) / np.maximum((step**2).sum((-2, -1)), 1e-12)


def alike_lengths(length: np.ndarray) -> np.ndarray:
    """Places of pairs of texts whose lengths are alike: the third with the least |length|, a log ratio of words."""
    return np.flatnonzero(abs(length) <= np.quantile(abs(length), 1 / 3))


def tune_cace(losses: tuple[str, ...], names: tuple[str, ...], weak_ce: np.ndarray) -> tuple[np.ndarray, dict]:
    """Which candidate stands for each loss, the ceiling last: places in `names`, (losses, path, runs), and cace_c.

    names, weak_ce (candidates, path, runs) : CACE takes the c with the least; every other loss has one candidate
    cace_c (path, runs) is in a dict, empty where there is no CACE
    """
    rows, cace_c = [], {}
    for loss in (*losses, "ceiling"):
        if loss in names:
            rows.append(np.full(weak_ce.shape[1:], names.index(loss)))
        else:
            candidates = np.array([i for i, name in enumerate(names) if name.startswith(loss)])
            best = weak_ce[candidates].argmin(0)
            rows.append(candidates[best])
            cace_c = {"cace_c": np.array(QUANTILES)[best]}
    return np.array(rows), cace_c


# --------------------------------------------------------------------------------------------------- runs and teachers


def compare_runs(
    student: np.ndarray,
    teacher: np.ndarray,
    truth: np.ndarray,
    soft: np.ndarray | None,
    temperature: np.ndarray,
    clusters: np.ndarray,
) -> dict[str, np.ndarray]:
    """{name: (losses, path, ...)} of what needs more than one run, and the reverse ledger where the truth is soft.

    student (losses, path, runs, inputs, classes), teacher (runs, inputs, classes): logits; truth, soft (inputs,
    classes): one-hot, shares; temperature (losses, path, runs); clusters (runs,): equal where runs share luck
    """

    def compare(z, T):
        """{name: (runs,), (groups,) or (value and standard error,)} of one loss at one point, z (runs, inputs, K)."""
        top, labels = z.argmax(-1), truth.argmax(-1)
        compared = _bias_and_variance(truth, z, clusters) | {"distance": distance(z, teacher)}
        compared["peer"] = (top == np.roll(top, 1, 0)).mean(-1)
        compared |= _ensembles(z, labels, {"ens_acc": "acc", "ens_ce": "ce"})
        compared |= _ensembles(z / T[:, None, None], labels, {"ens_ce_cal": "ce"})
        if soft is not None:
            entries = ledger(soft, teacher, z, direction="reverse")
            compared |= {f"reverse_{k}": getattr(entries, f"pair_{k}") for k in ("gain", "misfit", "residual")}
        return compared

    points = [[compare(z.astype(float), T) for z, T in zip(*path)] for path in zip(student, temperature)]
    return {k: np.array([[x[k] for x in path] for path in points]) for k in points[0][0]}


def _bias_and_variance(truth, z, clusters):
    """{bias, variance: (value, standard error)} of models z (runs, inputs, classes); zeros for a single run."""
    if len(z) == 1:
        return {"bias": np.zeros(2), "variance": np.zeros(2)}
    parts = decompose(truth, z, clusters=clusters)
    return {k: np.array([getattr(parts, k).value, getattr(parts, k).se]) for k in ("bias", "variance")}


def _ensembles(z, labels, names):
    """{name: (groups,)}: a score, `names` = {name: score}, of the dual means of five runs each; {} for fewer runs."""
    groups = len(z) // ENSEMBLE
    means = [z[ENSEMBLE * g : ENSEMBLE * (g + 1)].mean(0) for g in range(groups)]
    together = [_scores(labels, mean) for mean in means]
    return {name: np.array([x[score] for x in together]) for name, score in names.items()} if groups else {}


def distance(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """(runs,): KL(student of run r || dual mean of all teachers but the r-th) over test inputs; NaN for a single run.

    student, teacher : (runs, inputs, classes) logits
    """
    if len(teacher) == 1:
        return np.full(1, np.nan)
    others = (teacher.sum(0) - teacher) / (len(teacher) - 1)
    return np.array([KL.divergence(s, o).mean() for s, o in zip(student, others)])


def measure_teachers(trained: Trained) -> dict[str, np.ndarray]:
    """{name: (runs,), (groups,) or (value and standard error,)} of the teachers on the test inputs."""
    task, test, config = trained.task, trained.test, trained.config
    z, y = trained.teacher[:, test], task.labels[test]
    measured = {f"teacher_{k}": x for k, x in _scores(y, z).items()}
    if len(z) > 1:
        parts = _bias_and_variance(one_hot(y, task.classes), z, config.clusters)
        measured |= {f"teacher_{k}": x for k, x in parts.items()}
    measured["teacher_distance"] = distance(z, z)
    measured |= _ensembles(z, y, {"teacher_ens_acc": "acc", "teacher_ens_ce": "ce"})
    if task.length is not None:
        alike, longer = alike_lengths(task.length[test]), task.length > 0
        measured["teacher_matched"] = scores(y[alike], z[:, alike]).accuracy
        # the rule that the longer text is the better one, or the shorter: which of the two, the gold labels say
        side = np.array([(longer[s.gold] == task.labels[s.gold]).mean() >= 0.5 for s in trained.splits])
        measured["length_acc"] = np.array([((longer[test] == y) == s).mean() for s in side])
    return measured
