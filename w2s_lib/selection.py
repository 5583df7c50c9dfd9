r"""How much to regularise a student of whom only his teacher's labels are known: the recipe, for your own logits.

Along a path of students, from the least regularised to the most, weak validation takes the least loss on held-out
labels of the teacher; that loss measures the distance to her (`misfit`), so its choice tends to be regularised too
little. `recommend` goes further: without a true label by the one-standard-error rule, with some by the loss on them.
The chapter "The recipe" measures both, on three data sets, and says where they fail.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ._checks import Array, as_arrays, check_labels, one_hot, require, to_numpy
from .calibration import fit_temperature


def one_standard_error(losses: Array) -> int:
    """The last point of a path whose mean loss is within one standard error of the least mean, an integer.

    losses : (points, examples), the points ordered from the least regularised to the most
    The standard error is that of the best point's mean over examples. It falls with their number, and what the rule
    adds to weak validation falls with it. Source: Breiman, Friedman, Olshen and Stone (1984), section 3.4.3.
    Raises ValueError for another shape, fewer than two examples, NaN or infinity.

    >>> one_standard_error([[1, 3], [0, 2], [1.5, 2.2], [9, 9]])  # means 2, 1, 1.85, 9; the least one's error is 1
    2
    """
    x = to_numpy(as_arrays(losses=losses)[1])
    require(x.ndim == 2 and len(x) and x.shape[1] > 1, "losses", f"need (points, examples >= 2), got {x.shape}")
    return int(within_one_standard_error(x.mean(1), x.std(1, ddof=1) / x.shape[1] ** 0.5))


def within_one_standard_error(means: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """The rule of `one_standard_error` from means (points, ...) and their standard errors: (...) indices."""
    best = means.argmin(0)[None]
    within = means <= np.take_along_axis(means + errors, best, 0)
    return len(means) - 1 - within[::-1].argmax(0)


@dataclass(frozen=True)
class Advice:
    """What `recommend` says. Logits divided by `temperatures[index]` are what to use; `str` of it tells the reasons."""

    index: int  # the point of the path to take
    weak: int  # the point that weak validation would have taken
    temperatures: np.ndarray  # (points,), fitted on the teacher's labels
    weak_loss: np.ndarray  # (points,), cross-entropy of the recalibrated students on the teacher's labels
    weak_se: float  # standard error of the least of them
    true_loss: np.ndarray | None  # (points,), the same on the true labels, if there are any
    labels: int  # number of true labels used

    def __str__(self):
        used = f"least loss on {self.labels} true labels" if self.labels else "one-standard-error rule, no true label"
        end = "" if 0 < self.index < len(self.weak_loss) - 1 else "; the end of the path: make it longer"
        return (
            f"take point {self.index} of {len(self.weak_loss)} ({used}{end}), temperature "
            f"{self.temperatures[self.index]:.2f}; weak validation takes point {self.weak}"
        )


def recommend(weak_labels, z_path, truth=None, labelled=None):
    """Which student of a path to take, an `Advice`.

    weak_labels : (inputs, classes) probabilities of the teacher for held-out inputs, on which nobody was trained
    z_path      : (points, inputs, classes) logits of the students there, from the least regularised to the most
    truth       : (m,) integer true classes of some of these inputs, or None; a few dozen choose worse than none
    labelled    : (m,) places of these inputs; None: truth has one class for each input
    Every student is given one temperature by the teacher's labels first. Without `truth` the choice is that of
    `one_standard_error`, with it the least cross-entropy on it, the most regularised of equals.
    Raises ValueError, naming the argument, for shapes that do not match, a path of one point, rows that are no
    distributions, labels that are no classes, places outside the inputs or named twice.
    """
    q, z = (to_numpy(x) for x in as_arrays(weak_labels=weak_labels, z_path=z_path)[1:])
    require(z.ndim == 3 and len(z) > 1, "z_path", f"need shape (points >= 2, inputs, classes), got {z.shape}")
    require(q.shape == z.shape[1:], "weak_labels", f"shape {q.shape} must be {z.shape[1:]}, that of one point's logits")
    check_labels(torch.as_tensor(q), name="weak_labels")
    each = np.broadcast_to(q, z.shape).copy()
    temperatures = to_numpy(fit_temperature(torch.as_tensor(z), torch.as_tensor(each)))
    z = z / temperatures[:, None, None]
    log_p = z - np.logaddexp.reduce(z, axis=-1, keepdims=True)
    losses = -(q * log_p).sum(-1)
    weak = losses.mean(1)
    best, index, true = int(weak.argmin()), one_standard_error(losses), None
    se = float(losses[best].std(ddof=1) / losses.shape[1] ** 0.5)
    if truth is None:
        require(labelled is None, "labelled", "names inputs whose true classes are not given; pass truth too")
        return Advice(index, best, temperatures, weak, se, None, 0)
    rows = np.arange(len(q)) if labelled is None else np.asarray(labelled)
    fine = rows.ndim == 1 and rows.dtype.kind in "iu" and len(rows) > 0
    require(fine, "labelled", "must be a list of places, whole numbers")
    require(rows.min() >= 0 and rows.max() < len(q), "labelled", f"places must lie in 0..{len(q) - 1}")
    require(len(np.unique(rows)) == len(rows), "labelled", "names an input twice")
    y = one_hot(truth, z.shape[2], "truth")
    require(len(y) == len(rows), "truth", f"has {len(y)} labels for {len(rows)} inputs")
    true = -(y * log_p[:, rows]).sum(-1).mean(1)
    index = int(np.flatnonzero(true <= true.min())[-1])
    return Advice(index, best, temperatures, weak, se, true, len(rows))
