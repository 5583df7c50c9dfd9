r"""python -m w2s_lib evidence: compute the tables of evidence from raw data.

python -m w2s_lib evidence                    all data sets at full size: an hour or two on two cores
python -m w2s_lib evidence --data mnist       one of them
python -m w2s_lib evidence --size default     minutes, on digits alone
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..experiments.evidence import BASES, IN_THE_BOOK, sweep, write
from ..training import Compute


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m w2s_lib evidence", description="Compute the tables of evidence.")
    parser.add_argument("--data", nargs="+", choices=list(BASES), help=f"default: {' '.join(IN_THE_BOOK)}, or digits")
    parser.add_argument("--size", choices=("full", "default", "tiny"), default="full")
    parser.add_argument("--folder", type=Path, default=Path("evidence"), help="of the finished cells")
    parser.add_argument("--out", type=Path, default=Path("evidence/tables"), help="of the tables")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--device", default="cpu", help="to train on: cpu, cuda, cuda:1")
    options = parser.parse_args(arguments)
    for name in options.data or (IN_THE_BOOK if options.size == "full" else ["digits"]):
        try:
            compute = Compute(device=options.device)
            table = sweep(name, options.folder, size=options.size, jobs=options.jobs, compute=compute)
            write(table, options.out / f"{name}.npz")
        except KeyboardInterrupt:
            print(
                f"interrupted; finished cells are kept in {options.folder}: the same command goes on", file=sys.stderr
            )
            return 130
        except (ValueError, OSError, ImportError, RuntimeError) as error:
            parser.exit(2, f"{parser.prog}: {name}: {error}\n")
        print(f"{options.out / name}.npz: {len(table.configs)} settings")
    return 0
