r"""How much to regularise a student of which only its teacher's labels are known: the recipe, for your own logits.

Along a path of students, from the least regularised to the most, weak validation takes the least loss on held-out
labels of the teacher; that measures the distance to the teacher, so its choice tends to be regularised too little.
`recommend` goes further. The chapter "The recipe" measures by how much, and says where it fails.
"""

from dataclasses import dataclass, replace

import numpy as np

from ._checks import Array, as_arrays, require, to_numpy
from .bregman import KL, log_softmax
from .calibration import fit_temperature


def one_standard_error(losses: Array) -> int:
    """The last point of a path whose mean loss is within one standard error of the least mean, an integer.

    losses : (points, examples), the points ordered from the least regularised to the most
    The standard error is that of the best point's mean over examples. Source: Breiman, Friedman, Olshen and Stone
    (1984), section 3.4.3.

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
        take = f"take point {self.index} of {len(self.weak_loss)} ({used}{end})"
        temperature = f"temperature {self.temperatures[self.index]:.2f}"
        return f"{take}, {temperature}; weak validation takes point {self.weak}"


def recommend(weak_labels: Array, z_path: Array, truth: Array = None, labelled: Array = None) -> Advice:
    """Which student of a path to take, an `Advice`.

    weak_labels : (inputs, classes) probabilities of the teacher, or (inputs,) class labels, on inputs held out from all
    z_path      : (points, inputs, classes) logits of the students there, from the least regularised to the most
    truth       : (m,) or (m, classes) true labels of some of these inputs, or None; a few dozen choose worse than none
    labelled    : (m,) places of these inputs; None: truth has one class for each input
    Every student is given one temperature by the teacher's labels first. Without `truth` the choice is that of
    `one_standard_error`, with it the least cross-entropy on it, the most regularised of equals.
    """
    z = to_numpy(KL.prediction(z_path, "z_path"))
    require(z.ndim == 3 and len(z) > 1, "z_path", f"need shape (points >= 2, inputs, classes), got {z.shape}")
    q = to_numpy(KL._truth_beside(z, weak_labels, "weak_labels"))
    temperatures = fit_temperature(z, q)
    log_p = log_softmax(z / temperatures[:, None, None])
    losses = -(q * log_p).sum(-1)
    weak, errors = losses.mean(1), losses.std(1, ddof=1) / len(q) ** 0.5
    best = int(weak.argmin())
    advice = Advice(one_standard_error(losses), best, temperatures, weak, float(errors[best]), None, 0)
    if truth is None:
        require(labelled is None, "labelled", "names inputs whose true classes are not given; pass truth too")
        return advice
    rows = _places(labelled, len(q))
    y = to_numpy(KL._truth_beside(z[:, rows], truth, "truth"))
    KL._check_masks(y, z[:, rows], "z_path", truth=True)
    true_loss = -(y * log_p[:, rows]).sum(-1).mean(1)
    index = int(np.flatnonzero(true_loss <= true_loss.min())[-1])
    return replace(advice, index=index, true_loss=true_loss, labels=len(rows))


def _places(labelled, n):
    """The places of the inputs with a true label, checked; None: all n."""
    rows = np.arange(n) if labelled is None else np.asarray(labelled)
    require(rows.ndim == 1 and rows.dtype.kind in "iu" and len(rows), "labelled", "must be a list of whole numbers")
    require(rows.min() >= 0 and rows.max() < n, "labelled", f"places must lie in 0..{n - 1}")
    require(len(np.unique(rows)) == len(rows), "labelled", "names an input twice")
    return rows
