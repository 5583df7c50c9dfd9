"""Teachers and students: what their labels carry, and what a bag is."""

from dataclasses import replace

import numpy as np
from small_protocol import SMALL

from w2s_lib.experiments.protocol import run
from w2s_lib.experiments.protocol.data_split import load_features, split_data
from w2s_lib.experiments.protocol.teachers_and_students import fit_teachers


def test_confidence_and_noise_reach_the_labels():
    task, X_w, _ = load_features("digits", "left", "pixels")
    clean, noisy = (fit_teachers(task, X_w, replace(SMALL, noise=x, gold=200)) for x in (0.0, 0.5))
    gold = split_data(task, replace(SMALL, gold=200), 0).gold
    right = [(z[0, gold].argmax(1) == task.labels[gold]).mean() for z in (clean, noisy)]
    assert right[0] > 0.95 and right[1] < 0.85
    timid, sure = (run(replace(SMALL, losses=("CE",), confidence=a)) for a in (0.05, 1.0))
    assert (timid["entropy_cal"][0, 0] > sure["entropy_cal"][0, 0]).all()


def test_a_bag_is_the_dual_mean_of_bootstraps():
    task, X_w, _ = load_features("digits", "left", "pixels")
    bags = {b: fit_teachers(task, X_w, replace(SMALL, splits=1, bag=b))[0] for b in (1, 2)}
    drawn = fit_teachers(task, X_w, replace(SMALL, splits=1, teachers=2))
    np.testing.assert_allclose(bags[1], drawn[0], atol=0.05)  # the same bootstrap; fits are exact to a tolerance
    assert abs(bags[1] - drawn[1]).max() > 1
    other = 2 * bags[2] - bags[1]
    assert abs(other - bags[1]).max() > 1
    np.testing.assert_allclose(bags[2].sum(-1), 0, atol=1e-9)
