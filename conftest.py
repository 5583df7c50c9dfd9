"""nbval on the book: every code cell of a MyST chapter is one test, run in order in one kernel.

Also for `make reproduce`: MyST-NB takes the glued numbers out of the executed notebooks that it writes, so a re-run has
output fields that they lack. The same numbers are printed, and the print is compared.

With several workers (`pytest -n 2`) a file is one piece of work, and the tests of one page or chapter are one within
their file. The first piece builds the book; the others that need it come last, so that no worker waits for the build.
"""

import os
import re
from pathlib import Path
from unittest.mock import patch

import jupytext
import pytest
from nbval.plugin import IPyNbFile

if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):  # read when the libraries are loaded
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


class Chapter(IPyNbFile):
    def collect(self):
        with patch("nbval.plugin.nbformat.read", lambda *args, **kwargs: jupytext.read(self.path)):
            return list(super().collect())


def pytest_collect_file(file_path, parent):
    options = parent.config.option
    wanted = file_path.suffix == ".md" and (options.nbval or options.nbval_lax)
    if wanted and "kernelspec" in jupytext.read(file_path).metadata:
        return Chapter.from_parent(parent, path=file_path)
    return None


def pytest_collectstart(collector):
    if isinstance(collector, IPyNbFile):
        collector.skip_compare += ("application/papermill.record/text/plain",)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    chapters = {path.stem for path in (Path(__file__).parent / "book").rglob("*.md")}

    class ByPage(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, test = nodeid.partition("::")
            page = re.search(r"\[(?:book/)?(?:\w+/)?(\w+)", test)
            return f"{file} {page[1]}" if page and page[1] in chapters else file

    config.option.loadscopereorder = False  # the order of collection, see below
    return ByPage(config, log)


def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):
        needing = [item for item in items if "book" in getattr(item, "fixturenames", ())]
        files = {item.path for item in needing}
        items.sort(key=lambda item: 0 if item is needing[0] else 2 if item.path in files else 1)
