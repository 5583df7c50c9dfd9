"""The palette measured, what is glued and what is drawn."""

import itertools
from decimal import Decimal
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from colorspacious import cspace_convert
from matplotlib.colors import to_rgb
from test_audit import pair

from w2s_lib import Estimate, figures
from w2s_lib.audit import audit
from w2s_lib.figures import COLORS, DASHES, MARKERS

TRIPLES = [("teacher", "student", "ceiling"), ("gain", "misfit", "residual"), ("bias", "variance", "noise")]
SEEN_BY = [None, "deuteranomaly", "protanomaly", "tritanomaly"]
WHITE, DARK = "#FFFFFF", "#14181E"  # the theme's pages


def luminance(color):
    """Relative luminance, WCAG 2.1."""
    c = np.array(to_rgb(color))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def as_seen(color, by):
    """CAM02-UCS coordinates of a colour, for full severity of a deficiency (Machado et al. 2009)."""
    if by:
        color = cspace_convert(to_rgb(color), {"name": "sRGB1+CVD", "cvd_type": by, "severity": 100}, "sRGB1")
    return cspace_convert(np.clip(color if by else to_rgb(color), 0, 1), "sRGB1", "CAM02-UCS")


@pytest.mark.parametrize("concept", COLORS)
def test_colors_stand_out_on_both_pages(concept):
    assert contrast(COLORS[concept], WHITE) >= 3  # WCAG 1.4.11 for parts of a picture
    assert contrast(COLORS[concept], DARK) >= 3


@pytest.mark.parametrize("by", SEEN_BY)
@pytest.mark.parametrize("triple", TRIPLES, ids=" ".join)
def test_colors_of_a_triple_differ_for_every_eye(triple, by):
    for a, b in itertools.combinations(triple, 2):
        assert np.linalg.norm(as_seen(COLORS[a], by) - as_seen(COLORS[b], by)) >= 9.9, (a, b)


@pytest.mark.parametrize("triple", TRIPLES, ids=" ".join)
def test_a_triple_is_told_apart_without_colour(triple):
    assert len({MARKERS[c] for c in triple}) == 3 and len({tuple(DASHES[c]) for c in triple}) == 3


def test_all_colors_differ_and_every_concept_has_all_three():
    assert len(set(COLORS.values())) == len(COLORS)
    assert set(COLORS) == set(MARKERS) == set(DASHES) == set(itertools.chain(*TRIPLES))


@pytest.fixture
def glued(monkeypatch):
    texts = {}
    monkeypatch.setattr("myst_nb.glue", lambda name, text, display: texts.update({name: text}))
    return texts


def test_report_prints_what_it_glues(capsys, glued):
    figures.report(n=12345, gap=-0.1234, text="7%")
    old, new = {"n": "12,345", "gap": "−0.123", "text": "7%"}, {"n": "12,345", "gap": "−0.12", "text": "7%"}
    assert glued == old | {f"number.{key}": text for key, text in new.items()}
    assert capsys.readouterr().out.splitlines() == [f"{key} = {text}" for key, text in old.items()]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.50"), (-9.96, "−10"), (1234.5, "1,200"), (0.000987, "0.00099"), (0.0, "0.0"), (np.float64(2), "2.0")],
)
def test_a_float_has_two_significant_digits(value, text, glued):
    figures.report(x=value)
    assert glued["number.x"] == text


@pytest.mark.parametrize(
    ("value", "se", "text", "interval"),
    [
        (0.0123, 0.0031, "0.012", "[0.006, 0.019]"),
        (-0.91532, 0.0012, "−0.92", "[−0.9177, −0.9129]"),
        (1234.5, 100.0, "1,200", "[1,030, 1,440]"),
        (0.5, 0.0, "0.50", "[0.5, 0.5]"),
    ],
)
def test_an_estimate_gives_its_value_and_its_interval(value, se, text, interval, glued):
    figures.report(x=Estimate(value, se, 50.0, 10, 10, 100))
    assert glued == {"number.x": text, "number.x_interval": interval}


def test_a_notebook_has_the_numbers_too(monkeypatch, glued):
    shell = SimpleNamespace(user_ns={"number": "a variable of the page"})
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    figures.report(a=1)
    figures.report(b=0.25)
    assert vars(shell.user_ns["number"]) == {"a": "1", "b": "0.25"}


def test_intervals_draw_the_interval():
    fig, ax = plt.subplots()
    estimate = Estimate(0.5, 0.1, 20.0, 21, 21, 100)
    figures.intervals(ax, [("bias", "bias", estimate)])
    np.testing.assert_allclose(ax.lines[0].get_xdata(), estimate.interval())
    plt.close(fig)


def book(misfit, residual):
    """Ledger of these entries."""
    entries = {"gain": misfit - residual, "misfit": misfit, "residual": residual}
    return SimpleNamespace(**{name: Estimate(value, 0.1, 20.0, 21, 21, 100) for name, value in entries.items()})


@pytest.mark.parametrize(("misfit", "residual"), [(0.5, 0.2), (0.5, -0.2), (0.5, 0.7), (0.5, 0.0)])
def test_bars_of_a_ledger_lead_from_misfit_to_gain(misfit, residual):
    gain = misfit - residual
    fig, ax = plt.subplots()
    figures.ledger_bars(ax, {"one": book(misfit, residual), "": book(1.0, 0.5)})
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["misfit", "residual", "gain"] * 2
    ends = [sorted((bar.get_x(), bar.get_x() + bar.get_width())) for bar in ax.patches[:3]]
    np.testing.assert_allclose(ends, [sorted(pair) for pair in ((0, misfit), (misfit, gain), (0, gain))])
    assert len({bar.get_hatch() for bar in ax.patches}) == 3
    written = [text.get_text() for text in ax.texts]
    assert written[0] == "one" and len(written) == 7 and written[4:] == ["1.00", "0.50", "0.50"]
    low, high = ax.get_xlim()
    assert low <= min(0, gain) and max(misfit, gain, 1) < high
    plt.close(fig)


@pytest.mark.parametrize(("misfit", "residual"), [(1.2466, 0.7143), (0.583, 0.447), (0.0027, 0.00135), (40.4, -3.26)])
def test_the_numbers_of_the_bars_balance_as_printed(misfit, residual):
    fig, ax = plt.subplots()
    figures.ledger_bars(ax, {"": book(misfit, residual)})
    m, r, g = (Decimal(text.get_text().replace(figures.style.MINUS, "-")) for text in ax.texts)
    assert m - r == g and abs(float(m) - misfit) < 0.006 * misfit
    plt.close(fig)


def test_a_bar_that_is_rounding_reads_zero():
    fig, ax = plt.subplots()
    figures.ledger_bars(ax, {"": book(0.5, -1.5e-15)})
    assert [text.get_text() for text in ax.texts] == ["0.500", "0", "0.500"]
    plt.close(fig)


def test_the_picture_of_an_audit_shows_its_ledger():
    labels, teacher, student = pair()
    figure = figures.audit_picture(audit(labels, teacher, student))
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()][2:] == ["gain", "misfit", "residual"]
    plt.close(figure)
    with pytest.raises(ValueError, match=r"^audit: has no ledger"):
        figures.audit_picture(audit(np.full(600, np.nan), teacher, student))
