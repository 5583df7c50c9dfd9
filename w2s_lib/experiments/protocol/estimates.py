"""What the students that rules pick are worth, with crossed standard errors: the last stage of the protocol."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from sklearn.isotonic import IsotonicRegression

from ..._checks import Array, require, to_numpy
from ...bregman import KL, log_softmax
from ...calibration import scores
from ...gain import split_residual
from ...intervals import Estimate, crossed_mean, crossed_ratio
from .curves import Curves
from .rules import Points

BETAS = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)  # factors of the logits
CE, CEILING = 0, -1  # places on the axis of the losses
NOT_OVER_WEAK = ("weak", "weak_agree", "oracle_early")  # rules that are not compared with weak validation


@dataclass(frozen=True)
class Estimates:
    """Stage four. A triple: value, standard error, degrees of freedom of a crossed estimate over runs and test inputs.

    Measures are acc, ce, ce_cal on the test inputs, larger is better: risks enter with a minus.
    """

    gain: dict[str, np.ndarray]  # {rule: (losses, measures, triple)} student less teacher
    pair: dict[str, np.ndarray]  # {rule: (losses but CE and ceiling, measures, triple)} less CE, the rule the same
    over_weak: dict[str, np.ndarray]  # {rule: (losses, measures, triple)} less weak validation, the loss the same
    pgr: dict[str, np.ndarray]  # {rule: (losses, triple)} share of the gap in accuracy to the oracle's ceiling
    parts: dict[str, np.ndarray]  # {rule: (losses, calibration and thrown away, triple)} of the residual
    components: dict[str, np.ndarray]  # {key: (losses, path, 3)} of split, teacher, student: `variance_components`
    ce_isotonic: np.ndarray  # (losses, runs) after isotonic regression on the teacher's labels; weak validation
    beta_ce: np.ndarray  # (losses, betas, runs) of the logits times beta; weak validation
    beta_entropy: np.ndarray  # (losses, betas, runs)

    def arrays(self) -> dict[str, np.ndarray]:
        """{name: array}: gain_RULE and so on."""
        arrays: dict[str, np.ndarray] = {}
        for field in fields(self):
            x = getattr(self, field.name)
            arrays |= {f"{field.name}_{key}": y for key, y in x.items()} if isinstance(x, dict) else {field.name: x}
        return arrays


def estimate(curves: Curves, points: Points) -> Estimates:
    """All estimates, at what each rule picks and at each point of the path ("at_0", ...), where all losses have one."""
    clusters, weak = curves.config.clusters, points.picked["weak"]
    fixed = {f"at_{j}": np.full_like(weak, j) for j in range(len(curves.config.path))}
    teacher, values = per_input(curves.teacher, np.ones(len(curves.teacher)), curves.truth), student_values(curves)

    def difference(a, b):
        """(measures, triple) of a - b, both (measures, runs, inputs)."""
        return np.array([_triple(crossed_mean(x - y, clusters)) for x, y in zip(a, b)])

    by_weak, top = at_points(values, weak), at_points(values, points.picked["oracle"])[CEILING]
    gain, pair, over_weak, pgr, parts = {}, {}, {}, {}, {}
    for rule, picked in (points.picked | fixed).items():
        students = at_points(values, picked)
        gain[rule] = np.array([difference(s, teacher) for s in students])
        pair[rule] = np.array([difference(s, students[CE]) for s in students[1:CEILING]]).reshape(-1, 3, 3)
        if rule not in NOT_OVER_WEAK and rule not in fixed:
            over_weak[rule] = np.array([difference(s, w) for s, w in zip(students, by_weak)])
        if rule in ("weak", "oracle"):
            ratios = [crossed_ratio(s[0] - teacher[0], top[0] - teacher[0], clusters) for s in students]
            pgr[rule] = np.array([_triple(ratio) for ratio in ratios])
            parts[rule] = residual_parts(curves, picked)
    components, isotonic = variance_components(curves), isotonic_risk(curves, weak)
    return Estimates(gain, pair, over_weak, pgr, parts, components, isotonic, *stretched(curves, weak))


def _triple(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.se, estimate.df


def per_input(z: np.ndarray, temperature: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """acc, ce, ce_cal of each run and input, larger is better: (measures, runs, inputs).

    z : (runs, inputs, classes) logits; temperature : (runs,); truth : (inputs, classes) one-hot
    """
    labels = truth.argmax(-1)
    values = [(z.argmax(-1) == labels).astype(float)]
    for x in (z, z / temperature[:, None, None]):
        values.append(np.take_along_axis(log_softmax(x), labels[None, :, None], -1)[..., 0])
    return np.array(values)


def student_values(curves: Curves) -> np.ndarray:
    """`per_input` of all students: (losses, path, measures, runs, inputs), float32."""
    L, P, R, n, _ = curves.student.shape
    values = np.empty((L, P, 3, R, n), dtype=np.float32)
    for i, j in np.ndindex(L, P):
        z = curves.student[i, j].astype(float)
        values[i, j] = per_input(z, curves.students["temperature"][i, j], curves.truth)
    return values


def at_points(values: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """Values (losses, path, measures, runs, inputs) at picked (losses, runs): (losses, measures, runs, inputs)."""
    losses, runs = np.ogrid[: picked.shape[0], : picked.shape[1]]
    return values[losses, picked, :, runs].swapaxes(1, 2)


def residual_parts(curves: Curves, picked: np.ndarray) -> np.ndarray:
    """(losses, calibration and thrown away, triple) of the residual of the students at picked (losses, runs)."""
    runs, parts = np.arange(len(curves.teacher)), []
    for z, points in zip(curves.student, picked):
        split = split_residual(
            curves.truth, curves.teacher, z[points, runs].astype(float), clusters=curves.config.clusters
        )
        parts.append([_triple(split.calibration), _triple(split.thrown_away)])
    return np.array(parts)


def variance_components(curves: Curves) -> dict[str, np.ndarray]:
    """{key: (losses, path, 3)}: variances of split, teacher's training and student's initialisation, where all vary.

    key: acc and ce_cal; logit, the squared logits (centred, summed over classes, mean over test inputs).
    """
    levels = (curves.config.splits, curves.config.teachers, curves.config.students)
    if min(levels) < 2:
        return {}

    def components(x):
        """(3, ...) of x (runs, ...)."""
        return nested_components(x.reshape(*levels, *x.shape[1:]))

    by_key = {k: np.moveaxis(components(np.moveaxis(curves.students[k], 2, 0)), 0, -1) for k in ("acc", "ce_cal")}
    logit = [[components(z).sum(-1).mean(-1) for z in path] for path in curves.student]
    return by_key | {"logit": np.array(logit)}


def isotonic_risk(curves: Curves, weak: np.ndarray) -> np.ndarray:
    """(losses, runs): ce after isotonic regression, class by class and renormalised, on the teacher's labels."""
    labels, risks = curves.truth.argmax(-1), np.zeros(weak.shape)
    curve = IsotonicRegression(y_min=1e-3, y_max=1, out_of_bounds="clip")
    for (i, r), j in np.ndenumerate(weak):
        p_val, p = (KL.mean(z[i, j, r].astype(float)) for z in (curves.student_validation, curves.student))
        fits = [curve.fit(p_val[:, k], curves.weak_labels[r, :, k]).predict(p[:, k]) for k in range(p.shape[1])]
        risks[i, r] = scores(labels, np.log(fits).T).cross_entropy
    return risks


def stretched(curves: Curves, weak: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays (losses, betas, runs): ce and entropy of the logits times beta."""
    labels, shape = curves.truth.argmax(-1), (len(weak), len(BETAS), weak.shape[1])
    ce, entropy = np.zeros(shape), np.zeros(shape)
    for (i, r), j in np.ndenumerate(weak):
        z = curves.student[i, j, r].astype(float)
        for b, beta in enumerate(BETAS):
            score = scores(labels, beta * z)
            ce[i, b, r], entropy[i, b, r] = score.cross_entropy, score.entropy
    return ce, entropy


def nested_components(values: Array) -> np.ndarray:
    """Variance components of a nested design, (3, ...): of `values` (a, b, c, ...), c draws in each of b draws in each
    of a draws, at least two each.

    x_ijk = mean + A_i + B_ij + C_ijk with independent parts of variance (s_A, s_B, s_C): s_C = MS_C, s_B =
    (MS_B - MS_C)/c, s_A = (MS_A - MS_B)/(bc) from the mean squares. Unbiased; may be negative, and is not clipped
    (Searle, Casella and McCulloch 1992, ch. 3).
    """
    v = to_numpy(values)
    require(v.ndim >= 3 and min(v.shape[:3]) >= 2, "values", f"need shape (>= 2, >= 2, >= 2, ...), got {v.shape}")
    b, c = v.shape[1:3]
    within = v.var(2, ddof=1).mean((0, 1))
    middle = c * v.mean(2).var(1, ddof=1).mean(0)
    outer = b * c * v.mean((1, 2)).var(0, ddof=1)
    return np.stack([(outer - middle) / (b * c), (middle - within) / c, within])
