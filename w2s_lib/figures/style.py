"""The one style of the book's figures, for matplotlib and for the figures that move.

A colour for each concept: at least 3:1 against white and against the dark page, told apart with any colour vision
within each of the triples (teacher, student, ceiling), (gain, misfit, residual), (bias, variance, noise); a marker and
a dash pattern say the same again, for grey print. `tests/figures/test_style.py` measures all of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .._checks import require
from ..intervals import Estimate

if TYPE_CHECKING:
    from ..audit import Audit
    from ..gain import Ledger

COLORS = {
    "teacher": "#D55E00",
    "student": "#0072B2",
    "ceiling": "#009E73",
    "gain": "#3E92F4",
    "misfit": "#D6307B",
    "residual": "#B18E02",
    "bias": "#A63FBF",
    "variance": "#2AA198",
    "noise": "#7A7A7A",
}
MARKERS = {"teacher": "o", "student": "s", "ceiling": "^", "gain": "D", "misfit": "v", "residual": "X"}
MARKERS |= {"bias": "P", "variance": "h", "noise": "."}
DASHES: dict[str, list[int]] = {
    "teacher": [],
    "student": [6, 3],
    "ceiling": [2, 2],
    "gain": [],
    "misfit": [6, 3],
    "residual": [2, 2],
}
DASHES |= {"bias": [], "variance": [6, 3], "noise": [2, 2]}
HATCHES = {"misfit": "", "residual": "////", "gain": r"\\\\"}  # of bars, in grey print
MINUS = "\N{MINUS SIGN}"


def use_style() -> None:
    """Set matplotlib's defaults for the book (size in inches, fonts in points, byte-equal files)."""
    plt.rcParams.update(
        {
            "figure.figsize": (7.0, 3.4),
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#DDDDDD",
            "grid.linewidth": 0.6,
            "axes.axisbelow": True,
            "legend.frameon": False,
            "svg.hashsalt": "w2s",
        }
    )


def intervals(ax: Axes, rows: Sequence[tuple[str, str, Estimate]], level: float = 0.95) -> None:
    """Horizontal dot plot with intervals: `rows` is a list of (label, concept, Estimate), first on top."""
    for i, (_, concept, estimate) in enumerate(rows):
        low, high = estimate.interval(level)
        color, marker = COLORS[concept], MARKERS[concept]
        ax.plot([low, high], [i, i], color=color, lw=2, solid_capstyle="butt")
        ax.plot(estimate.value, i, marker=marker, color=color, ms=7)
        ax.annotate(f"{estimate.value:.3f}", (estimate.value, i), (0, 7), textcoords="offset points", ha="center")
    ax.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    ax.set_ylim(len(rows) - 0.5, -0.7)
    ax.grid(axis="y", visible=False)


def ledgers(ax: Axes, ledger: Ledger) -> None:
    """One row a pair of a ledger: misfit and gain, joined by the residual that separates them."""
    gain, misfit = ledger.pair_gain.ravel(), ledger.pair_misfit.ravel()
    rows = np.arange(gain.size)
    for name, value in (("misfit", misfit), ("gain", gain)):
        ax.plot(value, rows, MARKERS[name], color=COLORS[name], ms=6, label=name, zorder=3)
    ax.hlines(rows, gain, misfit, color=COLORS["residual"], lw=2, label="residual")
    ax.axvline(0, color="#444444", lw=1)
    ax.set(ylim=(rows.size - 0.5, -0.5), xlabel="nats", ylabel="pair (seed)")
    ax.locator_params(axis="y", integer=True)


def ledger_bars(ax: Axes, books: dict[str, Ledger]) -> None:
    """The picture of gain = misfit - residual: three bars for each ledger of `books`, under its label.

    Misfit from zero, residual from the misfit back to the gain, gain from zero, each with its number: the numbers
    balance as printed, the residual's last digit gives way. A negative residual points to the right, a negative gain
    lies left of zero. An empty label takes no room. The caller names the unit of the axis.
    """
    ticks, row = {}, 0
    for label, ledger in books.items():
        if label:
            card = {"facecolor": ax.get_facecolor(), "edgecolor": "none", "pad": 1}
            left = ax.get_yaxis_transform()
            ax.text(0, row, label, transform=left, va="center", fontweight="bold", bbox=card, zorder=3)
            row += 1
        gain, misfit = ledger.gain.value, ledger.misfit.value
        spans = {"misfit": (0, misfit), "residual": (gain, misfit), "gain": (0, gain)}
        numbers = _balance(misfit, gain)
        for step, end in enumerate((misfit, gain), row):  # where one bar ends and the next begins
            ax.vlines(end, step, step + 1, color="#444444", lw=1, ls=":")
        for name, ends in spans.items():
            look: dict[str, Any] = {"color": COLORS[name], "hatch": HATCHES[name], "edgecolor": "white", "lw": 0}
            ax.barh(row, max(ends) - min(ends), left=min(ends), height=0.66, **look)
            place = max(ends), row
            ax.annotate(numbers[name], place, (4, 0), textcoords="offset points", va="center")
            ticks[row], row = name, row + 1
    ax.axvline(0, color="#444444", lw=1)
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(row - 0.4, -0.6)
    ax.margins(x=0.16)  # room for the numbers
    ax.grid(axis="y", visible=False)
    ax.spines["left"].set_visible(False)


def _balance(misfit: float, gain: float) -> dict[str, str]:
    """Texts of the three numbers, the larger with three digits; what is rounding reads 0."""
    scale = max(abs(misfit), abs(gain)) or 1.0
    decimals = 2 - int(np.floor(np.log10(scale)))
    shown = {"misfit": round(misfit, decimals), "gain": round(gain, decimals)}
    values = shown | {"residual": shown["misfit"] - shown["gain"]}
    texts = {name: f"{value:,.{max(decimals, 0)}f}".replace("-", MINUS) for name, value in values.items()}
    exact = {"misfit": misfit, "gain": gain, "residual": misfit - gain}
    return {name: text if abs(exact[name]) > 1e-9 * scale else "0" for name, text in texts.items()}


def digits(
    axes: Axes | np.ndarray, pixels: np.ndarray, titles: Sequence[str], hide_right: bool | np.ndarray | None = None
) -> None:
    """Draw images, rows of `pixels` (images, side * side) in [0, 1]; grey out the right half where `hide_right`."""
    side = int(np.sqrt(pixels.shape[1]))
    for i, ax in enumerate(np.asarray(axes, dtype=object).ravel()):
        ax.imshow(pixels[i].reshape(side, side), cmap="gray_r", vmin=0, vmax=1)
        if hide_right is not None and np.broadcast_to(hide_right, len(pixels))[i]:
            ax.axvspan(side / 2 - 0.5, side - 0.5, color=COLORS["teacher"], lw=0)
        ax.set_title(titles[i], fontsize=9)
        ax.set_axis_off()


def report(**numbers: str | int | float | np.integer | Estimate) -> None:
    """Print numbers and hand them to the prose, where `{eval}` shows `number.key` for report(key=...).

    A string is taken as it is, an integer gets thousands separators, a float two significant digits. An Estimate gives
    its value as `number.key` and its 95% interval as `number.key_interval`. The built page finds them in the outputs
    of the cell, a live notebook in its namespace `number`. Call it once a cell, last: each number ends an output block.
    """
    from IPython import get_ipython
    from myst_nb import glue

    texts, older = {}, {}
    for key, value in numbers.items():
        if isinstance(value, Estimate):
            texts[key], texts[f"{key}_interval"] = _number(value.value), _interval(value)
        else:
            texts[key] = _number(value)
            older[key] = f"{value:.3f}".replace("-", MINUS) if isinstance(value, float) else texts[key]
    print("\n".join(f"{key} = {text}" for key, text in (texts | older).items()))
    for key, text in older.items():  # for {glue:text}, with three decimals
        glue(key, text, display=False)
    for key, text in texts.items():
        glue(f"number.{key}", text, display=False)
    if shell := get_ipython():
        if not isinstance(shell.user_ns.get("number"), SimpleNamespace):
            shell.user_ns["number"] = SimpleNamespace()
        vars(shell.user_ns["number"]).update(texts)


def _number(value):
    """Text of a number in prose."""
    if not isinstance(value, str):
        value = f"{value:,}" if isinstance(value, (int, np.integer)) else f"{Decimal(f'{value:.1e}'):,f}"
    return value.replace("-", MINUS)


def _interval(estimate):
    """[low, high], to the decimals that show its width with two significant digits."""
    low, high = estimate.interval()
    decimals = -int(Decimal(f"{(high - low) or 1:.1e}").as_tuple().exponent)
    return "[{}, {}]".format(
        *(f"{round(end, decimals):,.{max(decimals, 0)}f}".replace("-", MINUS) for end in (low, high))
    )


def audit_picture(audit: Audit) -> Figure:
    """Picture of an audit with a ledger: risks, and the gain as misfit less residual. ValueError if it has none."""
    require(audit.book is not None, "audit", "has no ledger to draw: too few labels")
    ledger: Any = audit.book
    rows = [("teacher risk", "teacher", ledger.teacher_risk), ("student risk", "student", ledger.student_risk)]
    rows += [(name, name, getattr(ledger, name)) for name in ("gain", "misfit", "residual")]
    fig, ax = plt.subplots(figsize=(7, 2.8))
    intervals(ax, rows)
    ax.axvline(0, color="#444444", lw=1)
    ax.set_xlabel("cross-entropy (nats)")
    return fig
