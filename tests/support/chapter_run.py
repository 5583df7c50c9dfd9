"""One run of a chapter: nbval runs its cells, generated checks follow in the same kernel, the build takes the outputs.

- Every code cell is one test, `Cell 3`, run in order in one kernel. As in the build, W2S_STATIC is set there: figures
  that move are to stand in a page.
- Behind the last cell come the checks of kernel_checks.py, each a test with a name. An exercise's stub and a negated
  assertion need the namespace of the place where they stand: it is kept when the run passes there.
- A chapter whose cells all passed is entered into the cache of executed chapters, unless it is there, so that the build
  of the book has nothing left to execute.
"""

import copy
import os
import re
import time
from collections import defaultdict
from pathlib import Path
from unittest.mock import patch

import fresh
import jupytext
import nbformat
import pytest
from browser import build_environment
from chapter_source import Chapter, blocks, negated
from filelock import FileLock
from nbval.plugin import IPyNbCell, IPyNbFile

LAB = re.compile(r"\bfigures\.Lab\(")
MOVING = re.compile(r"\bfigures\.(Explorable|Lab)\(")


def is_chapter(path):
    """True for a MyST page with code to run; its head says so."""
    return path.suffix == ".md" and "kernelspec:" in path.read_text()


def cache_folder(root):
    """Where the build of the book below `root` looks for this library's outputs; None where there is no book."""
    return fresh.execution_cache(root) if (root / "_config.yml").exists() else None


def enter(folder, path, notebook, seconds):
    """Add an executed notebook to the cache as MyST-NB does after executing it; one that is there stays."""
    from jupyter_cache import get_cache  # takes its time, and most processes that test never come here
    from jupyter_cache.base import CacheBundleIn

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        cache = get_cache(folder)
        try:
            cache.match_cache_notebook(notebook)
        except KeyError:
            cache.cache_notebook_bundle(CacheBundleIn(notebook, str(path), data={"execution_seconds": seconds}))


def wait_for_chapters(session, seconds=600):
    """Until the chapters of this run that other workers have are through, so that the build need not execute them.

    One that failed is through as well. One whose worker died is not, and is left to the build after `seconds`.
    """
    shared = getattr(session.config, "workerinput", {}).get("shared")
    awaited = {item.parent.path for item in session.items if isinstance(item, ChapterCell)} if shared else set()
    end = time.monotonic() + seconds
    while not all(Path(shared, path.stem).exists() for path in awaited) and time.monotonic() < end:
        time.sleep(0.1)


def checks(chapter):
    """(name, place, call) of a chapter's checks: `place` is the code cell to go back to or None, `call` what to ask."""
    place, last = 0, None
    for cell in chapter.cells:
        if cell.cell_type == "code":
            last = (place, negated(cell.source)) if negated(cell.source) else last
            place += 1
            continue
        for exercise in (block for block in blocks(cell.source) if block.name == "exercise"):
            for stub in exercise.inside("python"):
                name = f"unsolved exercise {exercise.options.get('label')} fails"
                yield name, place, f"unsolved_exercise_fails({stub.body!r}, {place})"
    if last:
        yield "last assertion can fail", last[0], f"last_assertion_can_fail({last[1]!r}, {last[0]})"
    if MOVING.search(chapter.text):
        for call in ("moving_figures_come_alive", "moving_figures_are_small_and_the_same_in_every_build"):
            yield call.replace("_", " "), None, f"{call}()"
    if LAB.search(chapter.text):
        call = "labs_draw_a_picture_of_its_own_for_every_state"
        yield call.replace("_", " "), None, f"{call}()"


class ChapterRun(IPyNbFile):
    def collect(self):
        self.executed = jupytext.read(self.path)
        with patch("nbval.plugin.nbformat.read", lambda *args, **kwargs: copy.deepcopy(self.executed)):
            cells = list(super().collect())
        self.passed, self.seconds, self.code = 0, 0, [c for c in self.executed.cells if c.cell_type == "code"]
        for cell in cells:
            yield ChapterCell.from_parent(
                self, name=cell.name, cell_num=cell.cell_num, cell=cell.cell, options=cell.options
            )
        self.checks = list(checks(Chapter(self.path)))
        for number, (name, _, call) in enumerate(self.checks, len(cells)):
            cell = nbformat.v4.new_code_cell(f"import kernel_checks\nkernel_checks.{call}")
            yield Check.from_parent(self, name=name, cell_num=number, cell=cell, options=defaultdict(bool))

    def setup(self):
        here = str(Path(__file__).parent)
        environment = build_environment(PYTHONPATH=os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
        self.cache = cache_folder(self.config.rootpath)  # of the library as it is now
        with patch.dict(os.environ, environment | {"W2S_STATIC": "1"}, clear=True):
            super().setup()
        # as in the build and in JupyterLab, cells are counted and their values remembered
        self.kernel.execute_cell_input = lambda source, allow_stdin: self.kernel.kc.execute(
            source, allow_stdin=allow_stdin, stop_on_error=False
        )

    def keep(self, place):
        """Let the kernel remember its namespace, if a check wants to come back to this place."""
        if place in (place for _, place, _ in self.checks):
            code = f"__import__('kernel_checks').keep({place})"
            reply = self.kernel.kc.execute(code, silent=True, reply=True, timeout=60)
            assert reply["content"]["status"] == "ok", reply["content"]

    def enter_into_cache(self):
        info = self.kernel.kc.kernel_info(reply=True, timeout=60)
        self.executed.metadata["language_info"] = info["content"]["language_info"]
        enter(self.cache, self.path, self.executed, self.seconds)


class ChapterCell(IPyNbCell):
    def runtest(self):
        run, start = self.parent, time.monotonic()
        run.keep(self.cell_num)
        super().runtest()
        run.passed += 1
        run.seconds += time.monotonic() - start
        run.code[self.cell_num].update(execution_count=self.cell_num + 1, outputs=self.test_outputs)
        if run.passed == len(run.code):
            run.keep(run.passed)
            if run.cache:
                run.enter_into_cache()

    def teardown(self):
        shared = getattr(self.config, "workerinput", {}).get("shared")
        if shared and self.cell_num == len(self.parent.code) - 1:
            Path(shared, self.path.stem).touch()


class Check(IPyNbCell):
    def runtest(self):
        if self.parent.passed < len(self.parent.code):
            pytest.skip("not all cells of the chapter were run and passed")
        super().runtest()

    def reportinfo(self):
        return self.path, 0, f"{self.path.relative_to(self.config.rootpath)}::{self.name}"
