"""Newton's method finds what is inside the bracket, an end of it where a function is monotone, and refuses NaN."""

import numpy as np
import pytest

from w2s_lib._newton import argmin_convex


@pytest.mark.parametrize("centre", [-30.0, -10.0, -3.0, 0.0, 7.0, 10.0, 30.0])
def test_the_bracket_of_newton(centre):
    """Functions whose derivative is flat away from the least point, where plain Newton's steps leap far away."""
    scale = np.array([1e-3, 1.0, 1e3])

    def derivatives(t):
        slope = np.tanh(scale * (t - centre))
        return slope, scale * (1 - slope**2)

    t = argmin_convex(derivatives, -10.0, 10.0, np.full(3, 2.0), "x")
    np.testing.assert_allclose(t, np.clip(centre, -10, 10), atol=1e-9)
    with pytest.raises(ValueError, match=r"^x: gives a loss that is not finite"):
        argmin_convex(lambda t: (np.nan * t, t), -1.0, 1.0, np.zeros(2), "x")


@pytest.mark.parametrize("end", [np.nan, np.inf])
def test_a_function_may_end_inside_the_bracket(end):
    """t / 4 - log(a + t) ends at t = -a, its mirror image at t = a; both are least where a + t = 4, or its mirror."""
    a = np.array([0.1, 3.0, 9.0, 0.1, 3.0, 9.0])
    side = np.array([1, 1, 1, -1, -1, -1])

    def derivatives(t):
        inside = np.where(a + side * t > 0, a + side * t, 1)
        slope = np.where(a + side * t > 0, side * (1 / 4 - 1 / inside), side * -end)
        return slope, 1 / inside**2

    t = argmin_convex(derivatives, -10.0, 10.0, np.zeros(6), "x")
    np.testing.assert_allclose(t, side * (4 - a), rtol=1e-8)


def test_slow_steps_are_replaced_by_halves():
    """Newton's steps on t^10 shrink by a ninth each: 195 of them would be needed."""
    calls = []

    def derivatives(t):
        calls.append(t)
        return (t - 0.3) ** 9, 9 * (t - 0.3) ** 8

    (t,) = argmin_convex(derivatives, -10.0, 10.0, np.full(1, 2.0), "x")
    assert t == pytest.approx(0.3, abs=1e-9) and len(calls) < 120
