"""nbval on the book: every code cell of a MyST chapter is one test, run in order in one kernel.

Also for `make reproduce`: MyST-NB takes the glued numbers out of the executed notebooks that it writes, so a re-run has
output fields that they lack. The same numbers are printed, and the print is compared.
"""

from unittest.mock import patch

import jupytext
from nbval.plugin import IPyNbFile


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
