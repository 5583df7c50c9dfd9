"""The figures of the book: one style, explorables, labs."""

from .explorable import (
    FORMULAS,
    LIMIT,
    Explorable,
    Lab,
    choice,
    computed,
    concept_color,
    concept_dash,
    formula,
    heading,
    readout,
    slider,
    table,
)
from .live_ledger import LiveLedger
from .style import COLORS, DASHES, MARKERS, audit_picture, digits, intervals, ledgers, report, use_style

__all__ = [
    "COLORS",
    "DASHES",
    "FORMULAS",
    "LIMIT",
    "MARKERS",
    "Explorable",
    "Lab",
    "LiveLedger",
    "audit_picture",
    "choice",
    "computed",
    "concept_color",
    "concept_dash",
    "digits",
    "formula",
    "heading",
    "intervals",
    "ledgers",
    "readout",
    "report",
    "slider",
    "table",
    "use_style",
]
