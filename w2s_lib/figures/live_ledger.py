"""The live ledger: gain = misfit - residual of one input, as areas that balance while the reader drags three points.

live_ledger.js draws it: in a notebook as a widget (anywidget), in a page without a kernel on a small model in place of
the widget's. Without scripts and in print a still picture stands there. In Python the library computes the entries.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anywidget
import matplotlib.pyplot as plt
import numpy as np
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..bregman import GENERALIZED_KL, ITAKURA_SAITO, LOGISTIC, SQUARED, Generator
from ..gain import Ledger, ledger
from .still import Still
from .style import COLORS, HATCHES, MARKERS, ledger_bars

GENERATORS: Mapping[str, Generator] = {g.name: g for g in (LOGISTIC, SQUARED, ITAKURA_SAITO, GENERALIZED_KL)}
# where points may lie, so that the curve fits its picture
BOUNDS = dict.fromkeys(GENERATORS, (0.04, 0.96)) | {ITAKURA_SAITO.name: (0.18, 0.96)}
POINTS = ("teacher", "student", "truth")
ALT = (
    "A rising curve with three points on it, teacher, student and truth. The misfit is the area between the curve and "
    "the teacher's level, from teacher to student; the residual is a rectangle beside the truth. Three bars: the "
    "misfit, from its end back the residual, and what is left, the gain."
)
# the part of a widget's model that the module needs
SCRIPT = """
for (const place of document.querySelectorAll(".live-ledger-place:not(.is-live)")) {
  const { module, values } = JSON.parse(place.querySelector("script").textContent), listeners = {};
  const model = {
    get: (name) => values[name],
    set(name, value) {
      if (values[name] === value) return;
      values[name] = value;
      for (const listener of listeners[`change:${name}`] ?? []) listener();
    },
    save_changes() {},
    on: (event, listener) => (listeners[event] ??= new Set()).add(listener),
    off: (event, listener) => listeners[event]?.delete(listener),
  };
  place.classList.add("is-live");
  const source = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
  const { default: ledger } = await import(source);
  ledger.render({ model, el: place.querySelector(".live-ledger-live") });
  URL.revokeObjectURL(source);
}
"""


def _beside(suffix):
    return Path(__file__).with_suffix(suffix).read_text()


class LiveLedger(anywidget.AnyWidget):
    """Teacher, student and truth of one input, each a number in (0, 1) that the reader drags, and their ledger.

    teacher, student, truth : where the points start; moved into `BOUNDS` of the generator if they lie outside
    generator               : the name of one of `GENERATORS`
    In a notebook these change as the reader drags, and the points move when they are set.

    >>> LiveLedger(teacher=0.2, student=0.8, truth=0.7).gain.round(4)
    np.float64(0.5545)
    """

    _esm, _css = _beside(".js"), _beside(".css")

    teacher = traitlets.Float(0.2).tag(sync=True)
    student = traitlets.Float(0.8).tag(sync=True)
    truth = traitlets.Float(0.7).tag(sync=True)
    generator = traitlets.Enum(list(GENERATORS), LOGISTIC.name).tag(sync=True)
    bounds = traitlets.Dict(BOUNDS, read_only=True).tag(sync=True)
    colors = traitlets.Dict({c: COLORS[c] for c in ("teacher", "student", "gain", "misfit", "residual")}).tag(sync=True)

    @traitlets.validate(*POINTS)
    def _bounded(self, proposal):
        return float(np.clip(proposal["value"], *BOUNDS[self.generator]))

    @traitlets.observe("generator")
    def _bound_again(self, _):
        for name in POINTS:
            setattr(self, name, getattr(self, name))

    @property
    def ledger(self) -> Ledger:
        """The library's ledger of the one input."""
        generator = GENERATORS[self.generator]
        teacher, student = (generator.from_mean(np.array([[f]])) for f in (self.teacher, self.student))
        return ledger(np.array([[self.truth]]), teacher, student, generator)

    @property
    def gain(self) -> float:
        return self.ledger.gain.value

    @property
    def misfit(self) -> float:
        return self.ledger.misfit.value

    @property
    def residual(self) -> float:
        return self.ledger.residual.value

    @property
    def still(self) -> Still:
        """The picture without scripts and in print."""
        return Still(self._draw, ALT)

    def _draw(self, columns: int) -> Figure:
        fig, (areas, bars) = plt.subplots(3 - columns, columns, width_ratios=[1.4, 1][:columns])
        fig.set_size_inches(fig.get_figwidth(), 3.1 * (3 - columns))
        self._draw_areas(areas)
        ledger_bars(bars, {"": self.ledger})
        return fig

    def _draw_areas(self, ax: Axes) -> None:
        w, s, g = self.teacher, self.student, self.truth
        curve, ink = np.linspace(*BOUNDS[self.generator], 200), plt.rcParams["text.color"]
        ax.plot(curve, self._dual(curve), color=ink, zorder=2)
        between, (level, top) = np.linspace(w, s, 200), self._dual(np.array([w, s]))
        ax.fill_between(between, self._dual(between), level, color=COLORS["misfit"], alpha=0.35, lw=0)
        look: dict[str, Any] = {"facecolor": "white", "edgecolor": COLORS["residual"], "hatch": HATCHES["residual"]}
        ax.add_patch(Rectangle((s, level), g - s, top - level, **look))
        for name, f in zip(POINTS, (w, s, g)):
            (z,) = self._dual(np.array([f]))
            look = {"marker": MARKERS.get(name, "D"), "color": COLORS.get(name, ink)}
            ax.plot(f, z, ms=9, mec="white", zorder=3, **look)
            ax.annotate(name, (f, z), (9, -12), textcoords="offset points")
        ax.set(xlabel="prediction f", ylabel="z = φ′(f)", xlim=(0, 1))
        ax.grid(visible=False)

    def _dual(self, f: np.ndarray) -> np.ndarray:
        generator = GENERATORS[self.generator]
        return generator.dual(generator.from_mean(f[:, None]))[:, 0]

    @property
    def static_html(self) -> str:
        """What stands in a page without a kernel; it moves by itself."""
        values = {name: getattr(self, name) for name in (*POINTS, "generator", "bounds", "colors")}
        data = json.dumps({"module": self._esm, "values": values}).replace("</", "<\\/")
        return (
            f'<div class="live-ledger-place tex2jax_ignore mathjax_ignore"><style>{self._css}</style>'
            f'<div class="live-ledger-live"></div><div class="live-ledger-still">{self.still.html}</div>'
            f'<script type="application/json">{data}</script><script type="module">{SCRIPT}</script></div>'
        )

    def open(self) -> None:
        """Tell the kernel's front end of the widget, if there is one: a build of the book, W2S_STATIC, has none."""
        if not os.environ.get("W2S_STATIC"):
            super().open()

    def __repr__(self):
        return f"<LiveLedger, {self.generator}: teacher {self.teacher}, student {self.student}, truth {self.truth}>"

    def _repr_mimebundle_(self, **options):
        if os.environ.get("W2S_STATIC"):
            return {"text/html": self.static_html, "text/plain": repr(self)}
        return super()._repr_mimebundle_(**options)
