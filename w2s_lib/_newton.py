"""Newton's method with a bracket, for many convex functions of one variable at once."""

from collections.abc import Callable

import numpy as np

from ._checks import require


def argmin_convex(derivatives: Callable, low: float, high: float, start: np.ndarray, name: str) -> np.ndarray:
    """The minimisers over [low, high] of convex functions, (functions,); an end of it where a function is monotone.

    derivatives : of t (functions,), gives first and second derivative of each function there
    A step that leaves the bracket, or is longer than half of the last one, is replaced by half of the bracket. So steps
    or brackets shrink to rounding, always. Where a derivative is not finite the function has ended, and the bracket is
    drawn in; a ValueError under `name` if that is so at `start`.
    """
    lower, upper = np.full(len(start), low), np.full(len(start), high)
    rising, falling = derivatives(lower)[0] >= 0, derivatives(upper)[0] <= 0
    t, done, last = np.where(rising, lower, np.where(falling, upper, start)), rising | falling, upper - lower
    while not done.all():
        slope, curvature = derivatives(t)
        inside = np.isfinite(slope + curvature)
        require(inside[t == start].all(), name, "gives a loss that is not finite; clip it")
        below = np.where(inside, slope < 0, t < start)  # the least point lies above
        lower, upper = np.where(below, t, lower), np.where(below, upper, t)
        step = np.divide(slope, curvature, out=np.full(len(t), np.inf), where=curvature > 0)
        close = abs(step) <= 1e-10 * (1 + abs(t))
        shrinks = (t - step >= lower) & (t - step <= upper) & (abs(step) <= last / 2)
        new = np.where(shrinks | close, np.clip(t - step, lower, upper), (lower + upper) / 2)
        last, t = abs(new - t), np.where(done, t, new)
        done |= close | (upper - lower <= 1e-12 * (1 + abs(t)))
    return t
