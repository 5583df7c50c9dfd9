r"""The teacher's own true labels, used twice: cross-fitted losses, for anyone's models.

The n gold labels that taught the teacher are true labels that no student has seen. A student of that teacher must not
be chosen by them: through the teacher it has seen them (`closed_forms.naive_gold_optimism`). Cross-fitting cuts them
into K folds. A teacher on all folds but k labels the students' inputs, and its students, the whole path, are scored on
the true labels of fold k:

    cross-fitted loss of a point = 1/n sum_i CE(y_i, student of the teacher without fold(i) at x_i)

It costs K paths of students and no label. For folds that were drawn without a look at the labels its expectation is
the risk of the student of a teacher with n(1 - 1/K) labels. The same loss compares the teacher, the students, the
strong model on the gold labels ("strong on gold") and on gold and weak labels together.

Sources: Stone (1974) for cross-validation; Varma and Simon (2006) for the loss of a choice that the same loss made, and
the nested remedy; Bengio and Grandvalet (2004), "No unbiased estimator of the variance of K-fold cross-validation", and
Nadeau and Bengio (2003), "Inference for the generalization error", for intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from .._checks import Array, require, to_numpy
from ..bregman import KL, log_softmax
from ..calibration import fit_temperature
from ..intervals import Estimate, crossed_mean

TEACHER = "teacher"


def split_folds(labels: Array, folds: int = 5, seed: int = 0, stratified: bool = True) -> np.ndarray:
    """The fold of each gold input, (inputs,) whole numbers in 0..folds-1; sizes differ by one at most.

    labels     : (inputs,) class labels, or (inputs, classes) probabilities, of which the most probable class counts
    stratified : deal the inputs of each class out in turn, so that the folds have the same classes; else all at random
                 Stratified, cross-entropies of models that learn the classes' shares are too small, by about
                 (classes - 1)/inputs nats, much the same for all: the other folds tell the fold's shares
    Raises ValueError unless there are 2..inputs folds.

    >>> split_folds([0, 0, 0, 0, 1, 1], folds=2)
    array([0, 1, 1, 0, 1, 0])
    """
    y = to_numpy(labels)
    require(y.ndim in (1, 2) and len(y), "labels", f"need shape (inputs,) or (inputs, classes), got {y.shape}")
    require(int(folds) == folds and 2 <= folds <= len(y), "folds", f"must be a whole number in 2..{len(y)}, the inputs")
    order = np.random.default_rng(seed).permutation(len(y))
    if stratified:
        order = order[(y.argmax(1) if y.ndim == 2 else y)[order].argsort(kind="stable")]
    fold = np.empty(len(y), dtype=int)
    fold[order] = np.arange(len(y)) % int(folds)
    return fold


@dataclass(frozen=True)
class CrossFitted:
    """What `cross_fit` found; every dict has one entry a candidate, the teacher first. `str` of it is the comparison.

    `losses` serve to choose a point. The least of them is too good to be reported, as it was chosen by the same labels:
    `loss`, `accuracy` and their differences score every fold at the point that the other folds choose. That is exact
    if `nested`; else models of the other folds have learnt from its labels, and a part of the optimism is left.
    """

    index: dict[str, int]  # the point to take: least cross-fitted loss, the most regularised of equals
    losses: dict[str, np.ndarray]  # (points, inputs) cross-entropy of each gold label, by models that have not seen it
    hits: dict[str, np.ndarray]  # (points, inputs) whether the most probable class was right, by the same models
    temperatures: dict[str, np.ndarray]  # (folds, points); 1 for candidates that are scored as they are
    fold: np.ndarray  # (inputs,) the fold of each gold input
    picked: dict[str, np.ndarray]  # (folds,) the point that is taken without the labels of each fold

    def loss(self, name: str, less: str | None = None) -> Estimate:
        """Mean cross-fitted loss of a candidate; `less` another, paired input by input.

        The interval is for the risk on fresh inputs of the models that were fitted, averaged over the K folds; that of
        models with all n labels is usually lower, by an amount that it does not know. The K models share most of their
        labels, so losses of different inputs are not independent, and no estimate of the variance is unbiased: the
        standard error over inputs is multiplied by sqrt(1 + K/(K - 1)), after Nadeau and Bengio. Other gold labels may
        move a difference between like candidates further than that.
        """
        return self._mean(self.losses, name, less)

    def accuracy(self, name: str, less: str | None = None) -> Estimate:
        """The same for the share of right answers."""
        return self._mean(self.hits, name, less)

    def _mean(self, table: dict[str, np.ndarray], name: str, less: str | None) -> Estimate:
        for key in (name,) if less is None else (name, less):
            require(key in table, "name", f"{key!r} is none of the candidates {[*table]}")
        inputs, K = np.arange(len(self.fold)), self.fold.max() + 1
        values = [table[key][self.picked[key][self.fold], inputs] for key in (name, less) if key is not None]
        estimate = crossed_mean((values[0] - values[1] if less is not None else values[0])[None])
        return replace(estimate, se=estimate.se * float(1 + K / (K - 1)) ** 0.5)

    def __str__(self) -> str:
        rows = [("", "point", "cross-entropy", "less the teacher's", "accuracy")]
        for name, index in self.index.items():
            less = "" if name == TEACHER else f"{self.loss(name, TEACHER)}"
            point = f"{index} of {len(self.losses[name])}"
            rows.append((name, point, f"{self.loss(name)}", less, f"{self.accuracy(name)}"))
        widths = [max(map(len, column)) for column in zip(*rows)]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows)


def cross_fit(
    labels: Array,
    fit_teachers: Callable[[np.ndarray], Array],
    fit_paths: Callable[[np.ndarray, np.ndarray], Mapping[str, Array]],
    folds: int | Array = 5,
    seed: int = 0,
    nested: bool = False,
) -> CrossFitted:
    r"""Cross-fitted losses of a teacher, of paths of students and of their rivals; the choice, and the comparison.

    labels       : (n,) or (n, classes) gold labels, from which the teacher learns
    fit_teachers : is called once, with train, (teachers, n) booleans: row k marks the gold labels that teacher k may
                   use. Returns logits (teachers, n + u, classes) on the n gold inputs and, behind them, on the u inputs
                   that the teacher labels for others
    fit_paths    : is called once, with these logits as float64 and with train. Returns {name: logits (teachers, points,
                   n, classes)} of all candidates on the gold inputs, points from the least regularised to the most:
                   students see row k of the logits only, strong on gold the labels that row k of train marks, a mixture
                   both. A single model is a path of one point, a grid of weights and penalties one long path.
                   Where it returns n + m inputs, the last m of the u behind the gold ones, each model first gets the
                   one temperature that its own teacher's labels of those m prefer, as in `selection.recommend`: best
                   if they trained none. So for students; models that learn from true labels are scored as they are
    folds, seed  : of `split_folds`; or the fold of each gold input, (n,), where inputs belong together or folds are to
                   be drawn without a look at the labels
    nested       : choose the point that a fold is scored at by models that were fitted without it: K(K - 1)/2 more
                   rows of train. For a comparison of long paths with short ones; the choice `index` is the same
    Rows of train may be fitted as one batch, or one by one and stacked; a row may lack a class that is rare.
    To use the choice, fit teacher and path on all gold labels and take the point index[name].
    Raises ValueError for shapes that do not match, a candidate called "teacher", and nested with two folds.

    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(560, 20))  # 60 gold inputs; the teacher labels 400 for students and 100 for temperatures
    >>> y = (X.sum(1) + 2 * rng.normal(size=560) > 0).astype(int)
    >>> gold, transfer, penalties = slice(60), slice(60, 460), (1, 10, 100, 1000)
    >>> to_score = np.r_[:60, 460:560]  # gold inputs, and those for temperatures
    >>> def ridge(X, z, penalty):  # coefficients
    ...     return np.linalg.solve(X.T @ X + penalty * np.eye(X.shape[1]), X.T @ z)
    >>> def two(margin):  # logits of two classes
    ...     return np.stack([-margin, margin], -1)
    >>> def teachers(train):  # see ten of the features
    ...     return two(np.stack([X[:, :10] @ ridge(X[gold][t, :10], 2 * y[gold][t] - 1, 1) for t in train]))
    >>> def paths(z, train):
    ...     student = [[X[to_score] @ ridge(X[transfer], q[transfer, 1], p) for p in penalties] for q in z]
    ...     strong = [[X[gold] @ ridge(X[gold][t], 2 * y[gold][t] - 1, p) for p in penalties] for t in train]
    ...     return {"student": two(np.array(student)), "strong on gold": two(np.array(strong))}
    >>> found = cross_fit(y[gold], teachers, paths)
    >>> print(found)
                    point   cross-entropy            less the teacher's         accuracy
    teacher         0 of 1  0.6720 [0.4792, 0.8648]                             0.5833 [0.3907, 0.7760]
    student         3 of 4  0.6577 [0.4647, 0.8508]  -0.0142 [-0.0597, 0.0312]  0.5833 [0.3907, 0.7760]
    strong on gold  1 of 4  0.5273 [0.3443, 0.7103]  -0.1447 [-0.2938, 0.0045]  0.7000 [0.5209, 0.8791]
    >>> found.index["student"]
    3
    >>> print(found.loss("student", less="strong on gold"))
    0.1304 [-0.0057, 0.2665]
    """
    require(np.ndim(labels) in (1, 2) and len(labels) > 1, "labels", "need two or more, (n,) or (n, classes)")
    n, own = len(labels), np.ndim(folds) > 0
    fold = np.unique(_own_folds(folds, n), return_inverse=True)[1] if own else split_folds(labels, folds, seed)
    K = int(fold.max()) + 1
    require(K > 2 or not nested, "nested", "needs three folds or more: one to choose by and one to learn from")
    out = [{k} for k in range(K)] + [{j, k} for k in range(K) for j in range(k)] * nested
    train = np.array([~np.isin(fold, [*left]) for left in out])
    z_teacher = _logits(fit_teachers(train), (len(out), n), "fit_teachers")
    y = to_numpy(KL._truth_beside(z_teacher[:, :n], labels, "labels"))
    paths = dict(fit_paths(z_teacher, train))
    require(TEACHER not in paths, "fit_paths", f"the name {TEACHER!r} is that of the teacher; give another")
    tables: list[dict] = [{}, {}, {}, {}, {}]
    for name, logits in {TEACHER: z_teacher[:, None, :n], **paths}.items():
        z = _logits(logits, (len(out), None, n), f"fit_paths, {name}", z_teacher.shape[1:])
        T = np.ones(z.shape[:2])
        if z.shape[2] > n:
            T = fit_temperature(z[:, :, n:], KL.mean(z_teacher[:, None, n - z.shape[2] :]))
        z = z[:, :, :n]
        KL._check_masks(y, z, f"fit_paths, {name}", truth=True)
        loss = -(y * log_softmax(z / T[:, :, None, None])).sum(-1)  # (teachers, points, n)
        seen_by_none = loss[fold, :, np.arange(n)].T  # (points, n)
        hits = (z.argmax(-1) == y.argmax(-1))[fold, :, np.arange(n)].T.astype(float)
        picked = np.array([_least(_without(k, loss, seen_by_none, fold, out, nested)) for k in range(K)])
        for table, value in zip(tables, (_least(seen_by_none), seen_by_none, hits, T[:K], picked)):
            table[name] = value
    index, losses, right, temperatures, chosen = tables
    return CrossFitted(index, losses, right, temperatures, fold, chosen)


def _without(k, loss, seen_by_none, fold, out, nested):
    """Losses (points, inputs outside fold k) to choose by, for the score of fold k."""
    if not nested:
        return seen_by_none[:, fold != k]
    parts = [loss[out.index({j, k})][:, fold == j] for j in range(int(fold.max()) + 1) if j != k]
    return np.concatenate(parts, axis=1)


def _least(losses):
    """The point of least mean loss, the last of equals."""
    means = losses.mean(1)
    return int(np.flatnonzero(means <= means.min())[-1])


def _own_folds(folds, n):
    fold = np.asarray(folds)
    require(fold.shape == (n,), "folds", f"need a number, or the fold of each gold input, {(n,)}; got {fold.shape}")
    require(fold.dtype.kind in "iu" and len(np.unique(fold)) > 1, "folds", "must be whole numbers, two or more folds")
    return fold


def _logits(logits, lead, name, inputs_and_classes=None):
    """Float64 logits (*lead, inputs..., classes) checked; the last of `lead` is the least number of inputs."""
    z = to_numpy(KL.prediction(logits, name))
    *fixed, n = lead
    fits = z.ndim == len(lead) + 1 and all(want in (None, got) for want, got in zip(fixed, z.shape)) and z.size
    if inputs_and_classes is None:
        wanted, fits = f"({', '.join(map(str, fixed))}, {n} or more, classes)", fits and z.shape[-2] >= n
    else:
        m, classes = inputs_and_classes
        wanted = f"({fixed[0]}, points, {n} to {m}, {classes})"
        fits = fits and n <= z.shape[-2] <= m and z.shape[-1] == classes
    require(fits, name, f"need logits of shape {wanted}, got {z.shape}")
    return z
