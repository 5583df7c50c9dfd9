"""Order and stages of the tests, and nbval on the chapters of the book (tests/support/chapter_run.py).

The stages, in this order: the chapters, longest first; the build of the book, which takes their outputs; the library;
the pages of the built book. With several workers (`pytest -n 2`) a file is one piece of work, and so are the tests that
share the openings of a page. At the end the time of each stage is printed.
"""

import os
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from nbval.plugin import IPyNbFile

if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):  # read when the libraries are loaded
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

from chapter_run import ChapterRun, is_chapter

STAGES = ("chapters", "build", "library", "pages")
BUILD = "test_the_book_is_built"
BROWSED = ("test_pages.py", "test_moving_figures.py", "test_prediction.py")  # share the openings of a page
PAGE = re.compile(r"\[(?:book/)?(?:\w+/)?(\w+)")
PAGES = {path.stem for path in (Path(__file__).parent / "book").rglob("*.md")}


def pytest_collect_file(file_path, parent):
    options = parent.config.option
    if (options.nbval or options.nbval_lax) and is_chapter(file_path):
        return ChapterRun.from_parent(parent, path=file_path)
    return None


def pytest_collectstart(collector):
    """For `make reproduce`: MyST-NB writes notebooks without the glued numbers; what is compared is their print."""
    if isinstance(collector, IPyNbFile):
        collector.skip_compare += ("application/papermill.record/text/plain",)


# ---------------------------------------------------------------------------------------------- order and workers


def stage(item, late):
    if isinstance(item.parent, ChapterRun):
        return "chapters"
    return "build" if item.name == BUILD else "pages" if item.path in late else "library"


def piece(nodeid):
    """What one worker does in one go."""
    file, _, test = nodeid.partition("::")
    page = PAGE.search(test)
    if page and page[1] in PAGES:
        return page[1] if file.endswith(BROWSED) else f"{file} {page[1]}"
    return file


def pytest_collection_modifyitems(items):
    late = {item.path for item in items if "book" in getattr(item, "fixturenames", ()) and item.name != BUILD}
    cells, pieces = Counter(item.path for item in items if isinstance(item.parent, ChapterRun)), {}
    for item in items:
        item.user_properties.append(("stage", stage(item, late)))
        pieces.setdefault(piece(item.nodeid), len(pieces))
    items.sort(key=lambda item: (STAGES.index(stage(item, late)), -cells[item.path], pieces[piece(item.nodeid)]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class ByPiece(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return piece(nodeid)

    config.option.loadscopereorder = False  # the order of collection, see above
    return ByPiece(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """A folder in which the workers tell each other which chapters have run."""
    if not hasattr(node.config, "shared"):
        node.config.shared = tempfile.mkdtemp()
    node.workerinput["shared"] = node.config.shared


def pytest_unconfigure(config):
    if hasattr(config, "shared"):
        shutil.rmtree(config.shared, ignore_errors=True)


# ------------------------------------------------------------------------------------------------ time of each stage


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter):
    reports = [r for group in terminalreporter.stats.values() for r in group if isinstance(r, pytest.TestReport)]
    stages = defaultdict(list)
    for report in reports:
        stages[dict(report.user_properties).get("stage")].append(report)
    if not stages.keys() & set(STAGES):
        return
    first = min(report.start for report in reports)
    terminalreporter.section("stages")
    for name in filter(stages.get, STAGES):
        tests, own = len({r.nodeid for r in stages[name]}), stages[name]
        start, end = min(r.start for r in own) - first, max(r.stop for r in own) - first
        busy = sum(r.duration for r in own)
        terminalreporter.line(f"{name:10}{tests:5} tests, from {start:4.0f} s to {end:4.0f} s, {busy:5.0f} s in all")
