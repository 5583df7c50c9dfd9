"""Figures that stand still, drawn for a wide page and for a phone: no picture is scrolled sideways."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from .._checks import require

SIZES = {2: (7.0, 3.4), 1: (3.6, 3.4)}  # columns of panels: inches of the figure
VECTORS = 150_000  # bytes; a larger SVG becomes a PNG
PHONE = "(max-width: 600px)"


class Still:
    """A matplotlib figure whose panels stand beside each other on a wide page and below each other on a phone.

    draw : called as draw(columns) with columns 2 (a wide page) and 1 (a phone), with `figure.figsize` set to match;
           returns one figure, which is closed. Stacked panels need height: fig.set_size_inches.
    alt  : what the picture shows, for those who cannot see it; two sentences rather than two words
    Raises ValueError for an alt text of fewer than 40 characters, and if `draw` returns anything but a figure.
    """

    def __init__(self, draw: Callable[[int], Figure], alt: str):
        require(len(alt) >= 40, "alt", f"{alt!r} is too short; say what the picture shows")
        self.alt = alt
        self.wide, self.narrow = (_picture(draw, columns) for columns in (2, 1))

    @property
    def html(self) -> str:
        """What stands in the page: both pictures, of which the browser shows the one that fits."""
        return (
            f'<picture class="still"><source media="{PHONE}" srcset="{self.narrow}">'
            f'<img alt="{html.escape(self.alt)}" src="{self.wide}"></picture>'
        )

    def __repr__(self):
        return f"<Still: {self.alt}>"

    def _repr_mimebundle_(self, **_):
        return {"text/html": self.html, "text/plain": repr(self)}


def _picture(draw, columns):
    """The figure as a data URI, the same in every build."""
    opened = set(plt.get_fignums())
    with plt.rc_context({"figure.figsize": SIZES[columns], "svg.hashsalt": "w2s"}):
        try:
            figure = draw(columns)
            require(isinstance(figure, Figure), "draw", f"returned {figure!r} for columns={columns}; return the figure")
            data, kind = _saved(figure, format="svg", metadata={"Date": None}), "svg+xml"
            if len(data) > VECTORS:
                data, kind = _saved(figure, format="png", dpi=160), "png"
        finally:
            for number in set(plt.get_fignums()) - opened:  # else the notebook shows it once more
                plt.close(number)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _saved(figure, **options):
    file = io.BytesIO()
    figure.savefig(file, **options)
    return file.getvalue()
