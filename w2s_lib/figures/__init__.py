"""The figures of the book: one style, explorables, labs, stills, and the live ledger."""

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
from .still import Still
from .style import (
    COLORS,
    DASHES,
    MARKERS,
    audit_picture,
    digits,
    intervals,
    ledger_bars,
    ledgers,
    report,
    use_style,
)

__all__ = [
    "COLORS",
    "DASHES",
    "FORMULAS",
    "LIMIT",
    "MARKERS",
    "Explorable",
    "Lab",
    "LiveLedger",
    "Still",
    "audit_picture",
    "choice",
    "computed",
    "concept_color",
    "concept_dash",
    "digits",
    "formula",
    "heading",
    "intervals",
    "ledger_bars",
    "ledgers",
    "readout",
    "report",
    "slider",
    "table",
    "use_style",
]
