"""Estimates of what rules pick, and the components of variance."""

from dataclasses import replace

import numpy as np
import pytest
from small_protocol import SMALL

from w2s_lib.experiments.protocol import run
from w2s_lib.experiments.protocol.estimates import BETAS, nested_components


def test_isotonic_and_sharpened_students(result):
    ce, weak = result["ce"], result["choice_weak"]
    chosen = np.array([[ce[i, weak[i, r], r] for r in range(3)] for i in range(9)])
    np.testing.assert_allclose(result["beta_ce"][:, BETAS.index(1.0)], chosen, rtol=1e-4)
    assert (np.diff(result["beta_entropy"], axis=1) < 0).all()
    assert (result["ce_isotonic"] > 0).all() and (result["ce_isotonic"] < 5).all()


def test_components_of_variance_are_told_apart():
    found = run(replace(SMALL, losses=("CE",), splits=2, teachers=2, students=2))
    assert found["acc"].shape == (2, 4, 8) and found["components_acc"].shape == (2, 4, 3)
    one = run(replace(SMALL, losses=("CE",), splits=2, teachers=2, students=2, width=0))
    assert abs(one["components_logit"][0, 0, 2]) < 1e-6  # a linear student has no initialisation
    assert one["components_logit"][0, 0, 1] > 1e-3


def test_nested_components_are_unbiased():
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3000, 4, 1, 1)), rng.normal(size=(3000, 4, 3, 1)), rng.normal(size=(3000, 4, 3, 2))
    x = 3.0 * a + 2.0 * b + c
    found = nested_components(np.moveaxis(x, 0, 3))
    for part, truth in zip(found, (9.0, 4.0, 1.0)):
        assert abs(part.mean() - truth) < 4 * part.std() / 3000**0.5
    with pytest.raises(ValueError, match="values"):
        nested_components(np.zeros((1, 3, 3)))


def test_nested_components_of_a_plain_array_by_hand():
    """One number a draw, shape (3, 4, 2): mean squares of nested analysis of variance."""
    v = np.random.default_rng(6).normal(size=(3, 4, 2))
    within = ((v - v.mean(2, keepdims=True)) ** 2).sum() / (3 * 4)
    middle = 2 * ((v.mean(2) - v.mean((1, 2))[:, None]) ** 2).sum() / (3 * 3)
    outer = 8 * ((v.mean((1, 2)) - v.mean()) ** 2).sum() / 2
    found = nested_components(v)
    assert found.shape == (3,)
    np.testing.assert_allclose(found, [(outer - middle) / 8, (middle - within) / 2, within])
    np.testing.assert_allclose(nested_components(np.stack([v, 2 * v], -1)), np.stack([found, 4 * found], -1))


@pytest.mark.parametrize("values", [np.ones((2, 2)), np.ones((2, 1, 2))])
def test_nested_components_need_two_draws_at_each_level(values):
    with pytest.raises(ValueError, match=r"^values: "):
        nested_components(values)
