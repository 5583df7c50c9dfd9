"""Lets nbval run the MyST sources: every code cell of a chapter is one test, run in order in one kernel."""

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
