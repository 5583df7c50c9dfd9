"""The live ledger in Python: its numbers are the library's, its points stay on the curve, and what stands in a page."""

import json
import re

import numpy as np
import pytest
import traitlets

from w2s_lib import figures
from w2s_lib.figures.live_ledger import BOUNDS, GENERATORS, POINTS

every_generator = pytest.mark.parametrize("generator", GENERATORS)


@pytest.fixture
def static(monkeypatch):
    monkeypatch.setenv("W2S_STATIC", "1")
    return figures.LiveLedger()


@every_generator
def test_the_entries_balance(generator):
    rng, (low, high) = np.random.default_rng(0), BOUNDS[generator]
    for points in rng.uniform(low, high, size=(20, 3)):
        live = figures.LiveLedger(generator=generator, **dict(zip(POINTS, points)))
        np.testing.assert_allclose(live.gain, live.misfit - live.residual, rtol=1e-9, atol=1e-12)
        assert live.ledger.generator == generator


def test_a_residual_is_zero_at_the_truth_and_its_sign_tells_the_side():
    live = figures.LiveLedger(teacher=0.2, student=0.7, truth=0.7)
    assert live.residual == 0 and live.gain == pytest.approx(live.misfit)
    live.student = 0.6  # has not arrived
    assert live.residual < 0 < live.misfit < live.gain
    live.student = 0.8  # went past it
    assert live.residual > 0 and live.gain < live.misfit
    live.student = 0.1  # in the wrong direction
    assert live.gain < 0 < live.misfit < live.residual


@every_generator
def test_points_stay_within_the_bounds_of_the_curve(generator):
    low, high = BOUNDS[generator]
    live = figures.LiveLedger(generator=generator, teacher=0, student=1)
    assert (live.teacher, live.student) == (low, high)
    live.truth = -3
    assert live.truth == low


def test_another_generator_moves_points_into_its_bounds():
    live = figures.LiveLedger(teacher=0.05)
    live.generator = "Itakura-Saito"
    assert live.teacher == BOUNDS["Itakura-Saito"][0]
    with pytest.raises(traitlets.TraitError, match="generator"):
        live.generator = "Mahalanobis"


def test_the_points_and_the_generator_are_synced():
    assert {*POINTS, "generator", "bounds", "colors"} <= set(figures.LiveLedger().keys)


def test_a_static_page_needs_no_widget(static):
    assert static.comm is None
    bundle = static._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"} and " at 0x" not in bundle["text/plain"]
    page = bundle["text/html"]
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', page)
    content = json.loads(data)
    assert content["module"] == static._esm and content["values"]["student"] == static.student
    assert page.count("</script>") == 2 and "http:" not in page.replace("http://www.w3.org/", "")
    assert page == static.static_html


def test_live_it_is_a_widget():
    live = figures.LiveLedger()
    data, *_ = live._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == live.model_id


def test_the_still_picture_shows_where_the_points_are(static):
    before = static.still.wide
    static.student = 0.3
    assert static.still.wide != before and len(static.still.alt) > 40
