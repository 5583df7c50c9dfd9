"""The formulas of the browser held against the library, what an Explorable refuses, and a Lab."""

import json
import re

import altair as alt
import numpy as np
import pytest

from w2s_lib import GENERALIZED_KL, ITAKURA_SAITO, LOGISTIC, SQUARED, figures
from w2s_lib.figures import FORMULAS

ALT = "A line that rises with the slider from the left end of the chart to its right end."


@pytest.mark.parametrize(
    ("name", "generator"),
    {
        "squared norm": SQUARED,
        "binary logistic": LOGISTIC,
        "Itakura-Saito": ITAKURA_SAITO,
        "generalised KL": GENERALIZED_KL,
    }.items(),
)
def test_formulas_of_the_browser_equal_the_library(name, generator):
    """The expressions are Python too, if log and exp are given."""

    def at(part, x):
        return eval(FORMULAS[name][part].format("x"), {"x": x, "log": np.log, "exp": np.exp})

    a, b = np.random.default_rng(0).uniform(0.02, 0.98, size=(2, 200))
    own_a, own_b = generator.from_mean(a[:, None]), generator.from_mean(b[:, None])
    divergence = at("phi", a) - at("phi", b) - at("z", b) * (a - b)
    np.testing.assert_allclose(divergence, generator.divergence(own_a, own_b), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(at("z", a), generator.dual(own_a)[:, 0])
    np.testing.assert_allclose(at("inverse", at("z", a)), a)


def rising(*controls, values=20):
    data = figures.table(x=np.arange(values), y=np.random.default_rng(0).normal(size=values))
    return alt.Chart(data).mark_line().encode(x="x:Q", y="y:Q").add_params(*controls)


@pytest.fixture
def explorable():
    return figures.Explorable(rising(figures.slider("t", 0, 1, 0.25, 0.5, "time")), alt=ALT)


def test_explorable_in_a_static_page(explorable):
    bundle = explorable._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    (spec,) = re.findall(r'<script type="application/json">(.*?)</script>', bundle["text/html"])
    assert json.loads(spec)["description"] == ALT
    assert f'alt="{ALT}"' in bundle["text/html"] and "http" not in spec.replace("https://vega.github.io/schema", "")
    assert explorable.still.startswith("<svg") and explorable.controls == {"t": [0, 0.25, 0.5, 0.75, 1]}
    assert " at 0x" not in repr(explorable) and "t" in repr(explorable)


def test_a_figure_is_the_same_in_every_build():
    control = figures.slider("t", 0, 1, 0.25, 0.5, "time")
    first, second = (figures.Explorable(rising(control), alt=ALT).static_html for _ in range(2))
    assert first == second


def test_a_script_in_the_data_stays_data():
    chart = rising(figures.choice("word", ["</script>", "b"], "word"))
    assert figures.Explorable(chart, alt=ALT).static_html.count("</script>") == 1


@pytest.mark.parametrize(
    ("chart", "alt_text", "message"),
    [
        (rising(), ALT, "chart: has no control"),
        (rising(figures.slider("t", 0, 1, 0.5, 0, "")), ALT, "chart: control t has no label"),
        (rising(figures.slider("t", 0, 1, 2, 0, "time")), ALT, "chart: control t has a single state"),
        (rising(figures.slider("t", 0, 1, 0.5, 0.3, "time")), ALT, "chart: control t starts at 0.3, none of"),
        (rising(figures.choice("t", ["only"], "time")), ALT, "chart: control t has a single state"),
        (rising(figures.slider("t", 0, 1, 0.5, 0, "time")), "A line.", "alt: .* is too short"),
        (rising(figures.slider("t", 0, 1, 0.5, 0, "time"), values=12_000), ALT, "chart: the figure takes .* more than"),
    ],
)
def test_what_an_explorable_refuses(chart, alt_text, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        figures.Explorable(chart, alt=alt_text)


def test_live_the_explorable_is_a_widget(explorable):
    assert explorable.live.spec["description"] == ALT
    assert len(explorable.live._esm) > 500_000, "JupyterChart would load its scripts from the network"
    assert explorable.live.params.t == 0.5


def test_lab(explorable):
    seen = []
    lab = figures.Lab(lambda **values: seen.append(values), explorable, speed=[1, 2, 3], start=["a", "b"])
    assert lab.grid() == [{"speed": s, "start": a} for s in (1, 2, 3) for a in "ab"]
    sliders = lab.live.children[1].children[:2]
    assert [slider.options for slider in sliders] == [(1, 2, 3), ("a", "b")]
    seen.clear()
    sliders[0].value = 3
    assert seen == [{"speed": 3, "start": "a"}]
    page = lab._repr_mimebundle_()["text/html"]
    assert explorable.static_html in page and "make lab" in page
    with pytest.raises(ValueError, match=r"^states: "):
        figures.Lab(print, explorable, speed=[1])


def test_table_is_short_and_checks_its_columns():
    assert figures.table(x=[1.23456789, 2], y="a").to_dict() == {
        "values": [{"x": 1.2346, "y": "a"}, {"x": 2.0, "y": "a"}]
    }
    with pytest.raises(ValueError, match="shape"):
        figures.table(x=[1, 2], y=[1, 2, 3])
