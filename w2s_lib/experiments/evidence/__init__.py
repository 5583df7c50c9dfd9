"""The evidence of the book: settings of the protocol on real data, and the tables that are kept of them."""

from .table_settings import BASES, CONFIDENCES, IN_THE_BOOK, WIDTHS, settings
from .tables import (
    ESTIMATED,
    PER_RUN,
    Table,
    at_rule,
    condense,
    mean_over_runs,
    modal_point,
    per_run,
    read,
    store,
    sweep,
    write,
)

__all__ = ["BASES", "CONFIDENCES", "ESTIMATED", "IN_THE_BOOK", "PER_RUN", "WIDTHS", "Table", "at_rule", "condense"]
__all__ += ["mean_over_runs", "modal_point", "per_run", "read", "settings", "store", "sweep", "write"]
