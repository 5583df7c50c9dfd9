r"""Files of predictions for the audit: .csv, .npz and .parquet as arrays (labels, teacher, student). No pickle is read.

What is wrong with a file or an array is a ValueError that names the place and the remedy. A place is counted as the
reader of the message counts: the rows of a .csv as an editor does, with the header in row 1; those of arrays from 0.
"""

from __future__ import annotations

import csv
import importlib
import math
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..audit import TWO_CLASSES
from .prediction_rows import Numbers, RowError, check_rows

Arrays = tuple[Numbers, Numbers, Numbers]  # labels, teacher, student
LAYOUT = "the columns must be label, teacher_0, teacher_1, ..., student_0, student_1, ..."
WRITE_NPZ = "write it with np.savez(file, truth=..., teacher=..., student=...)"
INDEX = re.compile(r"|unnamed: \d+(\.\d+)?|__index_level_\d+__")  # columns that pandas writes for a table's index
MISSING = ["", "NA", "NaN", "nan"]  # how a .csv may write a missing label


def _in_file(error: RowError, path: Path) -> str:
    """The message of a RowError in terms of a file."""
    if path.suffix.lower() == ".npz":
        return f"array {'of labels' if error.name == 'truth' else error.name}, {error.place()}: {error.problem}"
    row = str(_line(path, error.row)) if path.suffix.lower() == ".csv" else f"{error.row} (counted from 0)"
    if error.name == "truth":
        columns = "column label"
    elif error.column is None:
        columns = f"columns {error.name}_0, {error.name}_1, ..."
    else:
        columns = f"column {error.name}_{error.column}"
    return f"row {row}, {columns}: {error.problem}"


@contextmanager
def in_file(path: Path) -> Iterator[None]:
    """Name the file, and the place in it, in every ValueError that is raised inside."""
    try:
        yield
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not text in UTF-8; save it in the encoding UTF-8") from None
    except RowError as error:
        raise ValueError(f"{path}: {_in_file(error, path)}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_predictions(path: str | Path, probabilities: bool = False) -> Arrays:
    """(labels, teacher, student) of a .csv, .npz or .parquet file, as float64: (inputs,), two of (inputs, classes).

    Columns are label, teacher_0, ..., student_0, ...; arrays truth (or labels), teacher, student. A missing label is
    NaN or -1. Capitals, quotes, another order, a byte-order mark, semicolons or tabs for commas and the index column of
    pandas change nothing. `probabilities`: they are no logits, and must be above 0 with a sum of one.
    Raises ValueError that names the file, row and column (or array) and the remedy; OSError where there is no file;
    ImportError if pyarrow, which reads .csv and .parquet, is missing.
    """
    path = Path(path)
    readers = {".csv": _read_csv, ".npz": _read_npz, ".parquet": _read_parquet}
    with in_file(path):
        reader = readers.get(path.suffix.lower())
        if reader is None:
            raise ValueError("must be a .csv, .npz or .parquet file")
        if not path.stat().st_size:
            raise ValueError("is empty; write the predictions to it")
        arrays = reader(path)
        check_rows(*arrays, probabilities)
    return arrays


def _read_npz(path: Path) -> Arrays:
    with path.open("rb") as stream:  # anything else NumPy would take for a pickle
        archive = stream.read(4) in (b"PK\3\4", b"PK\5\6") and zipfile.is_zipfile(stream)
    if not archive:
        raise ValueError(f"is no .npz file: truncated, or of another format; {WRITE_NPZ}")
    with np.load(path, allow_pickle=False) as arrays:
        labels = [name for name in ("truth", "labels") if name in arrays]
        if len(labels) > 1:
            raise ValueError(f"has two arrays of labels, truth and labels; {WRITE_NPZ}")
        absent = [name for name in (*(labels or ["truth"]), "teacher", "student") if name not in arrays]
        if absent:
            raise ValueError(f"has no array named {', '.join(absent)}; {WRITE_NPZ}")
        return _array(arrays, labels[0]), _array(arrays, "teacher"), _array(arrays, "student")


def _array(arrays: Any, name: str) -> Numbers:
    try:
        array = np.asarray(arrays[name])
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        broken = "is damaged, or holds Python objects, which are never read"
        raise ValueError(f"array {name} {broken}; save real numbers, np.asarray(x, float)") from None
    if array.dtype.kind not in "biuf":
        raise ValueError(f"array {name} holds {array.dtype}; save real numbers, np.asarray(x, float)")
    return array.astype(np.float64, copy=False)


def _read_parquet(path: Path) -> Arrays:
    arrow, parquet = _arrow("lib"), _arrow("parquet")
    with path.open("rb") as stream:
        try:
            file = parquet.ParquetFile(stream)
            header = file.schema_arrow.names
            order = [header[position] for position in _positions(header)]
            table = file.read(columns=order).select(order)
        except (arrow.ArrowException, OSError):
            remedy = "write it with DataFrame.to_parquet"
            raise ValueError(f"is no .parquet file: truncated, or of another format; {remedy}") from None
    columns = []
    for name, column in zip(order, table.columns):
        try:
            columns.append(column.cast("float64"))
        except arrow.ArrowException:
            raise ValueError(f"column {name} holds {column.type}; write it as real numbers") from None
    return _split(columns)


def _read_csv(path: Path) -> Arrays:
    arrow, reader = _arrow("lib"), _arrow("csv")
    with path.open(newline="", encoding="utf-8-sig") as file:
        line, row = file.readline(), next((line for line in file if line.strip()), None)
    if "\0" in line:
        raise ValueError("is not text in UTF-8; save it in the encoding UTF-8")
    delimiter = max(",;\t", key=line.count)
    header = next(_rows(csv.reader([line], delimiter=delimiter)), [])
    positions = _positions(header, "row 1: ")
    if row is None:
        raise ValueError("has no rows below the header; an audit needs one at least")
    names, wanted = [str(i) for i in range(len(header))], [str(i) for i in positions]  # names in a header may repeat
    try:
        table = reader.read_csv(
            path,
            # a row has to fit into a block
            reader.ReadOptions(column_names=names, skip_rows=1, block_size=max(2**20, 100 * len(header))),
            reader.ParseOptions(delimiter=delimiter),
            reader.ConvertOptions(
                column_types=dict.fromkeys(wanted, arrow.float64()), include_columns=wanted, null_values=MISSING
            ),
        )
    except arrow.ArrowException as error:  # names no row
        _find_cell(path, header, positions, delimiter)
        raise ValueError(f"cannot be read as .csv: {str(error).splitlines()[0]}") from None
    arrays = _split(table.columns)
    del table
    arrow.default_memory_pool().release_unused()  # it would keep a copy of all numbers
    if not all(np.isfinite(x).all() for x in arrays[1:]):
        _find_cell(path, header, positions, delimiter)
    return arrays


def _find_cell(path: Path, header: Sequence[str], positions: Sequence[int], delimiter: str) -> None:
    """Raise the ValueError of the first row of wrong length, or cell that is no number; slow, after a failure only."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader, line = csv.reader(file, delimiter=delimiter), 1
        rows = _rows(reader)
        next(rows)
        for cells in rows:
            line, start = reader.line_num, line + 1  # of a row that a quote stretches over lines, the first
            if cells and len(cells) != len(header):
                count = f"{len(cells)} cells, the header has {len(header)}"
                raise ValueError(f"row {start}: {count}; write one cell a column")
            for position in positions if cells else ():
                name, cell, label = header[position].strip(), cells[position], position == positions[0]
                if not _is_number(cell, or_missing=label):
                    remedy = "write 0, 1, ... or nothing" if label else "write it like -1.5e-3, or drop the row"
                    raise ValueError(f"row {start}, column {name}: {cell[:40]!r} is not a finite number; {remedy}")


def _rows(reader: Any) -> Iterator[list[str]]:
    """The rows of a csv.reader; its own errors as ValueErrors that name the row."""
    try:
        yield from reader
    except csv.Error as error:
        raise ValueError(f"row {reader.line_num}: {error}; is a quote left open?") from None


def _is_number(cell: str, or_missing: bool) -> bool:
    """Whether pyarrow reads a finite number from the cell; `or_missing`: or that a label is missing."""
    try:
        number = float(cell)
    except ValueError:
        return or_missing and cell in MISSING
    return "_" not in cell and (or_missing or math.isfinite(number))


def _line(path: Path, row: int) -> int:
    """The number of the line of a .csv in which `row`, counted from 0 below the header, stands."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = (number for number, line in enumerate(file, 1) if line.strip("\r\n"))  # empty lines are no rows
        return next(number for count, number in enumerate(lines) if count == row + 1)


def _positions(header: Sequence[str], place: str = "") -> list[int]:
    """Where label, teacher_0, ..., student_0, ... stand in a header; a ValueError says what differs, and where."""
    names = [name.strip().lower() for name in header]
    most = max(sum(bool(re.fullmatch(rf"{role}_\d+", name)) for name in names) for role in ("teacher", "student"))
    wanted = ["label", *(f"{role}_{k}" for role in ("teacher", "student") for k in range(max(most, 2)))]
    counts, known = Counter(names), set(wanted)
    differences = {
        "no column": [name for name in wanted if not counts[name]],
        "more than one column": [name for name in wanted if counts[name] > 1],
        "the unknown column": [repr(x[:40]) for x in names if x not in known and not INDEX.fullmatch(x)],
    }
    lists = {what: ", ".join(columns[:5]) + ", ..." * (len(columns) > 5) for what, columns in differences.items()}
    if any(lists.values()):
        words = "; ".join(f"has {what} {columns}" for what, columns in lists.items() if columns)
        separators = "" if len(header) > 1 or not place else ", separated by commas, semicolons or tabs"
        two = f"; {TWO_CLASSES}" if most < 2 and any(name.startswith(("teacher", "student")) for name in names) else ""
        raise ValueError(f"{place}{words}; {LAYOUT}{separators}{two}")
    place_of = {name: position for position, name in enumerate(names)}
    return [place_of[name] for name in wanted]


def _split(columns: Sequence[Any]) -> Arrays:
    """(labels, teacher, student) of pyarrow's columns in this order; what is missing is NaN."""
    K = len(columns) // 2
    numbers = np.empty((len(columns[0]), len(columns)), order="F")
    for position, column in enumerate(columns):
        numbers[:, position] = column.to_numpy()
    return numbers[:, 0], numbers[:, 1 : K + 1], numbers[:, K + 1 :]


def _arrow(module: str) -> Any:
    try:
        return importlib.import_module(f"pyarrow.{module}")
    except ImportError as error:
        raise ImportError("pyarrow reads .csv and .parquet files: pip install 'w2s_lib[audit]'") from error
