"""How long each page is and what it still owes its reader: python tests/support/measure_pages.py [--write] [PAGE ...]

Without a page, all of them. --write puts the computed reading times into the pages, where the line stands. A page may
belong to another copy of the repository. What it owes is printed for the pages that are named.
"""

import argparse
from pathlib import Path

from browser import ROOT
from chapter_source import Chapter, course
from editorial import complaints
from reading import length, with_reading_time

COLUMNS = ("words", "lines", "figures", "exercises", "minutes", "complaints")


def every_page():
    return [ROOT / "book" / "index.md", *course(), ROOT / "book" / "chapter_template.md"]


def write_reading_time(path):
    page = Chapter(path)
    if (text := with_reading_time(page)) != page.text:
        path.write_text(text)


def row(page, found):
    measured = length(page)
    numbers = (*(getattr(measured, column) for column in COLUMNS[:-1]), len(found))
    return f"{page.path.stem:42}" + "".join(f"{number:>{len(name) + 2}}" for number, name in zip(numbers, COLUMNS))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE")
    parser.add_argument("--write", action="store_true", help="write the reading times")
    arguments = parser.parse_args()
    paths = arguments.pages or every_page()
    if arguments.write:
        for path in paths:
            write_reading_time(path)
    pages = {page: complaints(page) for page in map(Chapter, paths)}
    for page in pages if arguments.pages else ():
        for line, rule, text in pages[page]:
            print(f"{page.path}:{line}: {rule}: {text}")
    print(f"{'page':42}" + "".join(f"  {name}" for name in COLUMNS))
    print(*(row(page, found) for page, found in pages.items()), sep="\n")


if __name__ == "__main__":
    main()
