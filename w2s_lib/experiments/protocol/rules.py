"""Rules that pick a point of the regularisation path: the third stage of the protocol.

    teacher's labels          weak          least cross-entropy (CE) among the penalties
                              weak_agree    most agreement with the teacher among the penalties
                              early         least CE among the stages of training at the least penalty
                              one_se        the largest penalty within one standard error of the least CE
    no labels                 peer          the penalty at which students of different teachers agree most (test inputs)
                              least, most   the ends of the penalties
    m true labels             few_m         least CE among the penalties
                              tstar_m       t* nearest zero among the penalties
    all true labels           oracle        least CE among the penalties
                              oracle_acc    most accurate among the penalties
                              oracle_early  least CE among the stages

The labels are those of validation inputs; none of a test input is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...selection import within_one_standard_error
from .curves import FEW

if TYPE_CHECKING:
    from . import Protocol


@dataclass(frozen=True)
class Points:
    """Stage three: the point of the path that each rule picks for each loss and run."""

    picked: dict[str, np.ndarray]  # {rule: (losses, runs)}, places in config.path


def choose_points(curves: dict[str, np.ndarray], config: Protocol) -> Points:
    """Apply all rules. curves: {name: (losses, path, runs)}, the arrays of `Curves.students` that they name."""
    n = len(config.l2s)
    penalties, stages = np.arange(n), np.array([*range(n, len(config.path)), 0])

    def least(x, places=penalties):
        """The one of these places on the path at which x (losses, path, runs) is least, (losses, runs)."""
        return places[x[:, places].argmin(1)]

    weak = least(curves["weak_ce"])
    means, errors = (np.moveaxis(curves[k][:, :n], 1, 0) for k in ("weak_ce", "weak_se"))
    picked = {
        "least": np.zeros_like(weak),
        "most": np.full_like(weak, n - 1),
        "weak": weak,
        "weak_agree": least(-curves["weak_agree"]),
        "early": least(curves["weak_ce"], stages),
        "one_se": within_one_standard_error(means, errors),
        "peer": least(-curves["peer"]),
        "oracle": least(curves["true_ce"]),
        "oracle_acc": least(-curves["true_acc"]),
        "oracle_early": least(curves["true_ce"], stages),
    }
    for m in FEW:
        picked[f"few_{m}"] = least(curves[f"true_ce_{m}"])
        picked[f"tstar_{m}"] = least(abs(curves[f"tstar_{m}"]))
    return Points(picked)
