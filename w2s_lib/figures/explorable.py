"""Figures that the reader moves: explorables, which need no kernel, and labs, which recompute.

An `Explorable` is an Altair chart with bound controls. In the static page its formulas run in the reader's browser, in
a live notebook it is a widget (altair.JupyterChart, offline), in print a still picture. A `Lab` recomputes with the
library, live; the static page shows its explorable twin alone.
"""

from __future__ import annotations

import base64
import html
import itertools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import altair as alt
import numpy as np

from .._checks import require
from .style import COLORS, DASHES

LIMIT = 500_000  # bytes of one explorable in a page
WIDTH = 560  # pixels, where no page gives a width
# generators of one number in (0, 1), for formulas evaluated in the browser: phi, its derivative z, the inverse of z
FORMULAS = {
    "squared norm": {"phi": "{0}*{0}", "z": "2*{0}", "inverse": "({0})/2"},
    "binary logistic": {
        "phi": "{0}*log({0})+(1-{0})*log(1-{0})",
        "z": "log({0}/(1-{0}))",
        "inverse": "1/(1+exp(-({0})))",
    },
    "Itakura-Saito": {"phi": "-log({0})", "z": "-1/{0}", "inverse": "-1/({0})"},
    "generalised KL": {"phi": "{0}*log({0})", "z": "1+log({0})", "inverse": "exp({0}-1)"},
}


def concept_color(field: str, concepts: Iterable[str]) -> alt.Color:
    """Altair colour channel of a field that holds names of concepts."""
    scale = alt.Scale(domain=list(concepts), range=[COLORS[c] for c in concepts])
    return alt.Color(field, scale=scale, legend=alt.Legend(symbolType="stroke"))


def concept_dash(field: str, concepts: Iterable[str]) -> alt.StrokeDash:
    """Altair dash channel of the same field; the legend shows colour and dash as one."""
    scale = alt.Scale(domain=list(concepts), range=[DASHES[c] or [1, 0] for c in concepts])
    return alt.StrokeDash(field, scale=scale, legend=alt.Legend(symbolType="stroke"))


def slider(name: str, low: float, high: float, step: float, value: float, label: str) -> alt.Parameter:
    """A number that the reader moves from `low` to `high` in steps of `step`; formulas call it `name`."""
    return alt.param(name=name, value=value, bind=alt.binding_range(min=low, max=high, step=step, name=label))


def choice(name: str, options: Iterable, label: str, value: Any = None) -> alt.Parameter:
    """A menu of `options`; formulas call the chosen one `name`."""
    options = list(options)
    value = options[0] if value is None else value
    return alt.param(name=name, value=value, bind=alt.binding_select(options=options, name=label))


def formula(part: str, x: str) -> str:
    """Vega expression of `part` (phi, z or inverse) at `x`, for the generator that the control `generator` names."""
    cases = (f"generator=='{name}'?({parts[part].format(x)})" for name, parts in FORMULAS.items())
    return f"({':'.join(cases)}:NaN)"


def computed(data: Any = None, **formulas: str) -> alt.Chart:
    """Chart on `data` (None: a single row) with a column for each Vega expression, evaluated as the reader moves."""
    chart = alt.Chart(alt.Data(values=[{}]) if data is None else data)
    return chart.transform_calculate(**formulas)


def heading(chart: alt.Chart, field: str, lines: int = 1) -> alt.Chart:
    """Bold text above the plot, from a field of `chart` with newlines between its lines."""
    text = chart.mark_text(align="left", baseline="bottom", fontWeight="bold", lineBreak="\n")
    return text.encode(x=alt.value(0), y=alt.value(-6 - 14 * (lines - 1)), text=field)


def readout(**formulas: str) -> alt.Chart:
    """Heading with the values of Vega expressions, to three decimals, each after its label; a line fits a phone."""
    lines: list[str] = []
    room = 0
    for label, formula in formulas.items():
        part, length = f"'{label.replace('_', ' ')} = ' + format({formula}, '.3f')", len(label) + 8
        if length > room:
            lines, room = [*lines, part], 36
        else:
            lines[-1] += f" + '\u2003\u2003' + {part}"
        room -= length + 3
    return heading(computed(text=" + '\\n' + ".join(lines)), "text:N", len(lines))


def table(**columns: Any) -> alt.Data:
    """Inline data of a chart from columns of equal length (or single values), floats to five digits."""
    rows = zip(*(column.tolist() for column in np.broadcast_arrays(*columns.values())))
    short = ([float(f"{x:.5g}") if isinstance(x, float) else x for x in row] for row in rows)
    return alt.Data(values=[dict(zip(columns, row)) for row in short])


def _theme():
    text: dict[str, Any] = {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
    }  # the page's own colour, light or dark
    text |= {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    lines = {"domainColor": "currentColor", "tickColor": "currentColor", "gridColor": "currentColor"}
    return {
        "background": "#FFFFFF00",
        "font": "sans-serif",
        "view": {"stroke": None},
        "axis": {**text, **lines, "gridOpacity": 0.15},
        "legend": {**text, "orient": "bottom", "title": None, "symbolStrokeWidth": 3, "symbolSize": 200},
        "header": text,
        "title": {"color": "currentColor", "fontSize": 12, "fontWeight": "normal"},
        "text": {"color": "currentColor", "fontSize": 12},
        "rule": {"color": "currentColor", "aria": False},  # a helper line has no name to be read out
        "point": {"size": 90, "filled": True, "opacity": 1},
    }


class Explorable:
    """A figure that the reader moves: an Altair chart whose controls are bound parameters.

    chart : any altair chart with at least one `slider` or `choice` among its top-level parameters
    alt   : what the picture shows, for those who cannot see it; two sentences rather than two words
    Raises ValueError without a control, for a control without a label, with a single state or starting between its
    states, for an alt text of fewer than 40 characters, and for a figure of more than 500 kB: thin or round its arrays.
    """

    def __init__(self, chart: Any, alt: str):
        require(len(alt) >= 40, "alt", f"{alt!r} is too short; say what the picture shows")
        self.alt, self.chart = alt, chart.configure(**_theme()).properties(description=alt)
        bound = [p for p in self.spec.get("params", []) if "bind" in p]
        require(bound, "chart", "has no control; add figures.slider(...) or figures.choice(...) with add_params")
        for p in bound:
            require(p["bind"].get("name"), "chart", f"control {p['name']} has no label for the reader")
            require(len(_states(p)) > 1, "chart", f"control {p['name']} has a single state; it would be dead")
        self.controls = {p["name"]: _states(p) for p in bound}
        for p in bound:
            states = self.controls[p["name"]]
            require(p["value"] in states, "chart", f"control {p['name']} starts at {p['value']!r}, none of its states")
        size = len(self.static_html.encode())
        require(size <= LIMIT, "chart", f"the figure takes {size:,} bytes, more than {LIMIT:,}; thin or round its data")

    @cached_property
    def spec(self) -> dict:
        """The Vega-Lite specification, a dict."""
        return self.chart.to_dict()

    @cached_property
    def still(self) -> str:
        """SVG text of the figure with its controls where they start."""
        import vl_convert

        wide = {"width": WIDTH} if self.spec.get("width") == "container" else {}
        return vl_convert.vegalite_to_svg(self.spec | wide)

    @cached_property
    def static_html(self) -> str:
        """What stands in the built page; `book/_static/explorable.js` sets it in motion."""
        spec = json.dumps(self.spec, separators=(",", ":")).replace("</", "<\\/")
        still = base64.b64encode(self.still.encode()).decode()
        return (
            '<div class="explorable tex2jax_ignore mathjax_ignore"><div class="explorable-live"></div>'
            f'<img class="explorable-still" alt="{html.escape(self.alt)}" src="data:image/svg+xml;base64,{still}">'
            f'<script type="application/json">{spec}</script></div>'
        )

    @cached_property
    def live(self):
        """The widget of a live notebook; `live.params` holds the values that the reader has set."""
        alt.JupyterChart.enable_offline()
        chart = self.chart
        if self.spec.get("width") == "container":  # a widget has no width of its own
            chart = chart.properties(width=WIDTH)
        return alt.JupyterChart(chart, embed_options={"actions": False, "renderer": "svg"})

    def __repr__(self):
        return f"<Explorable, controls {', '.join(self.controls)}: {self.alt}>"

    def _repr_mimebundle_(self, **_):
        return {**_widget(self), "text/html": self.static_html, "text/plain": repr(self)}


class Lab:
    """Recompute with the library as the reader moves: live in Jupyter, below the twin; the static page has the twin.

    draw   : called as draw(**values); trains or resamples, and shows a matplotlib figure
    twin   : the Explorable that stands in the built page
    states : for each argument of `draw` the values of its slider, by name
    """

    def __init__(self, draw: Callable[..., None], twin: Explorable, **states: Sequence):
        require(states and all(len(s) > 1 for s in states.values()), "states", "each needs two values or more")
        self.draw, self.twin, self.states = draw, twin, states

    def grid(self) -> list[dict]:
        """Every combination of states, as dicts: what a test calls `draw` with."""
        return [dict(zip(self.states, values)) for values in itertools.product(*self.states.values())]

    @cached_property
    def live(self):
        """The widgets of a live notebook: the twin, and below it one slider an argument, which recompute."""
        import ipywidgets

        style = {"continuous_update": False, "style": {"description_width": "initial"}}
        sliders = {
            name: ipywidgets.SelectionSlider(options=list(s), description=name.replace("_", " "), **style)
            for name, s in self.states.items()
        }
        moved = ipywidgets.interactive(lambda **values: self.draw(**values), **sliders)
        return ipywidgets.VBox([self.twin.live, moved])

    def __repr__(self):
        return f"<Lab, controls {', '.join(self.states)}>"

    def _repr_mimebundle_(self, **_):
        note = (
            '<p class="explorable-note">Computed beforehand. To have it recomputed as you move sliders, for '
            f"{' and '.join(name.replace('_', ' ') for name in self.states)}, run <code>make lab</code> and open this "
            "chapter.</p>"
        )
        return {**_widget(self), "text/html": self.twin.static_html + note, "text/plain": repr(self)}


def _states(param):
    """All values that a bound parameter can take."""
    bind = param["bind"]
    if "options" in bind:
        return list(bind["options"])
    count = int((bind["max"] - bind["min"]) / bind["step"] + 1e-9) + 1
    return [round(bind["min"] + i * bind["step"], 10) for i in range(count)]


def _widget(figure):
    """What shows `figure.live` in a notebook with a kernel; nothing in a build of the book, which sets W2S_STATIC."""
    import IPython

    if os.environ.get("W2S_STATIC") or not getattr(IPython.get_ipython(), "kernel", None):
        return {}
    bundle = figure.live._repr_mimebundle_()
    return bundle[0] if isinstance(bundle, tuple) else bundle  # anywidget adds metadata
