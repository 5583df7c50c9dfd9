"""python -m w2s_lib audit FILE: audit a teacher and a student from a file of predictions.

FILE is a .csv or .parquet with the columns label, teacher_0 ... teacher_K-1, student_0 ... student_K-1, or an .npz with
`truth` or `labels` (inputs,), `teacher` and `student` (inputs, classes): logits, or with --probabilities probabilities.
A label may be missing (empty in a .csv, -1 in an array).
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from ..audit import audit
from .audit_report import as_dict, report
from .prediction_files import in_file, read_predictions


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m w2s_lib audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help=".csv, .npz or .parquet")
    parser.add_argument("--probabilities", action="store_true", help="the predictions are probabilities, not logits")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        arrays = read_predictions(options.file, options.probabilities)
        with in_file(options.file), warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always", UserWarning)
            found = audit(*arrays, probabilities=options.probabilities)
    except (ValueError, OSError, ImportError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    for note in notes:
        print(f"{parser.prog}: warning: {options.file}: {note.message}", file=sys.stderr)
    print(json.dumps(as_dict(found), indent=1, allow_nan=False) if options.json else report(found))
    return 0
