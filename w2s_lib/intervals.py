r"""Numbers with intervals: means over models and inputs with crossed standard errors.

Models and inputs are two samples that cross, so the standard error of a mean of v_mi over M models and n inputs is
neither sd/sqrt(M n) nor sd/sqrt(M). With row means over inputs, column means over models and the interaction left,

    se^2 = S2_rows / M + S2_columns / n - S2_interaction / (M n)

(two-way analysis of variance of a random-effects design; Searle, Casella and McCulloch 1992, ch. 4; Cameron, Gelbach
and Miller 2011 for clusters). Models that share something, as students of one teacher do, form one cluster: rows are
summed within clusters first. Degrees of freedom follow Satterthwaite (1946).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from ._checks import Array, require, to_numpy


@dataclass(frozen=True)
class Estimate:
    """A mean over models and inputs with its crossed standard error; `df` are Satterthwaite's degrees of freedom."""

    value: float
    se: float
    df: float
    models: int  # how many models (or pairs of models)
    clusters: int  # how many independent groups of them: 1 means that the interval is conditional on these models
    inputs: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """(low, high), Student's t with `df` degrees of freedom."""
        half = stdtrit(self.df, 0.5 + level / 2) * self.se
        return float(self.value - half), float(self.value + half)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.value:.4f} [{low:.4f}, {high:.4f}]"


def crossed_mean(values: Array, clusters: Array = None, value: float | None = None) -> Estimate:
    """Estimate of the mean of `values`, shape (models, inputs), both axes taken as random samples.

    clusters : (models,) labels; models with equal labels share luck. None: every model for itself.
    value    : report this number instead of the mean; for estimators of which `values` are the influence values.
    One cluster: the standard error is over inputs alone, conditional on the models; one input: over models alone.

    >>> print(crossed_mean([[0.0, 1.0, 2.0], [1.0, 2.0, 4.0], [2.0, 3.0, 4.0]]))
    2.1111 [-0.3756, 4.5978]
    """
    v = to_numpy(values)
    require(v.ndim == 2 and v.size, "values", f"need shape (models, inputs), got {v.shape}")
    labels = np.arange(len(v)) if clusters is None else np.asarray(clusters).ravel()
    require(len(labels) == len(v), "clusters", f"need one label per model: {len(v)}, got {len(labels)}")
    names, group = np.unique(labels, return_inverse=True)
    C, n = len(names), v.shape[1]
    sums = v if clusters is None else np.stack([v[group == c].sum(0) for c in range(C)])  # over a cluster's models
    share = np.bincount(group)[:, None] / len(v)
    # (clusters, inputs), mean zero; clusters of equal size: cluster mean - mean
    deviation = C * (sums / len(v) - share * v.mean())
    rows, columns = deviation.mean(1), deviation.mean(0)
    var_rows = _mean_square(rows, C - 1) / C
    var_columns = _mean_square(columns, n - 1) / n
    interaction = _mean_square(deviation - rows[:, None] - columns, (C - 1) * (n - 1)) / (C * n)
    variance = max(var_rows + var_columns - interaction, interaction) if C * n > 1 else np.nan
    shrunk = sum(part**2 / free for part, free in ((var_rows, C - 1), (var_columns, n - 1)) if free)
    df = (var_rows + var_columns) ** 2 / shrunk if shrunk > 0 else np.inf
    return Estimate(float(v.mean() if value is None else value), float(np.sqrt(variance)), float(df), len(v), C, n)


def _mean_square(x, df):
    return (x**2).sum() / df if df else 0.0


def crossed_ratio(numerator: Array, denominator: Array, clusters: Array = None) -> Estimate:
    """Estimate of mean(numerator) / mean(denominator), both (models, inputs), by linearisation (delta method)."""
    a, b = to_numpy(numerator), to_numpy(denominator)
    require(a.shape == b.shape, "denominator", f"shape {b.shape} must equal the numerator's {a.shape}")
    require(b.mean() != 0, "denominator", "has mean zero: the ratio is undefined")
    ratio = a.mean() / b.mean()
    return crossed_mean((a - ratio * b) / b.mean(), clusters, value=ratio)


def sign(estimate: Estimate, comparisons: int = 1) -> int:
    """+1 or -1 if the 95% interval, by Bonferroni for so many comparisons, lies above or below zero, else 0."""
    require(comparisons >= 1, "comparisons", "must be at least 1")
    low, high = estimate.interval(1 - 0.05 / comparisons)
    return int(low > 0) - int(high < 0)
