"""A picture for a wide page and one for a phone, and what a Still refuses."""

import base64
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from bs4 import BeautifulSoup

from w2s_lib import figures

ALT = "A line that rises from the left end of the chart to its right end, in each of two panels."


def panels(columns):
    fig, _ = plt.subplots(2 // columns, columns)
    if columns == 1:
        fig.set_size_inches(fig.get_figwidth(), 5)
    return fig


def noise(columns):
    fig, ax = plt.subplots()
    ax.plot(*np.random.default_rng(0).normal(size=(2, 20_000)))
    return fig


def size(uri):
    """Width and height in points of an SVG in a data URI."""
    svg = base64.b64decode(uri.removeprefix("data:image/svg+xml;base64,")).decode()
    return tuple(float(number) for number in re.search(r'width="(.*?)pt" height="(.*?)pt"', svg).groups())


def test_the_page_shows_the_picture_that_fits():
    still = figures.Still(panels, alt=f'{ALT} "Quoted".')
    assert size(still.wide) == pytest.approx((7.0 * 72, 3.4 * 72))
    assert size(still.narrow) == pytest.approx((3.6 * 72, 5 * 72))
    picture = BeautifulSoup(still._repr_mimebundle_()["text/html"], "html.parser").picture
    assert picture.img["src"] == still.wide and picture.img["alt"] == still.alt
    assert picture.source["srcset"] == still.narrow and picture.source["media"] == "(max-width: 600px)"


def test_a_large_drawing_becomes_a_bitmap():
    assert figures.Still(noise, alt=ALT).wide.startswith("data:image/png;base64,")


def test_a_still_is_the_same_in_every_build():
    assert figures.Still(panels, alt=ALT).html == figures.Still(panels, alt=ALT).html


def test_what_was_drawn_is_closed_and_the_defaults_stay():
    kept, before = plt.figure(), plt.rcParams.copy()
    figures.Still(panels, alt=ALT)
    assert plt.get_fignums() == [kept.number] and plt.rcParams == before
    plt.close(kept)


@pytest.mark.parametrize(
    ("draw", "alt", "message"),
    [
        (panels, "A line.", "alt: .* is too short"),
        (lambda columns: plt.subplots(), ALT, "draw: returned .* for columns=2"),
    ],
)
def test_what_a_still_refuses(draw, alt, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        figures.Still(draw, alt=alt)
    assert not plt.get_fignums()
