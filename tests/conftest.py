"""Fixtures: the built book (built here if it is missing or stale), a browser, and its tabs."""

import http.server
import os
import threading
from functools import partial

import pytest
import torch
from browser import HTML, NO_BROWSER, ROOT, Tabs, build_book, chromium, find_chromium
from chapter_run import wait_for_chapters
from filelock import FileLock
from hypothesis import settings

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)  # the same examples on every run
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_report_header():
    """Tests of the core run on every device present; the report says which those were."""
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device here: not tested on one"
    return f"devices: cpu; {cuda}"


@pytest.fixture(scope="session")
def book(request, tmp_path_factory, worker_id):
    """The folder of the built book. The build itself knows what is stale; of several workers one builds."""
    folder = tmp_path_factory.getbasetemp()
    outcome = (folder if worker_id == "master" else folder.parent) / "built"  # of this run
    with FileLock(f"{outcome}.lock"):
        if not outcome.exists():
            wait_for_chapters(request.session)
            try:
                build_book(ROOT)
                outcome.write_text("")
            except AssertionError as error:
                outcome.write_text(str(error))
    assert not (error := outcome.read_text()), error
    return HTML


@pytest.fixture(scope="session")
def served(book):
    """http address of the built book."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=HTML)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium. In CI a missing browser is an error; elsewhere the page tests are skipped and say why."""
    if not find_chromium():
        if os.environ.get("CI"):
            pytest.fail(NO_BROWSER)
        pytest.skip(NO_BROWSER)
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def tab(browser, book, served):
    """tab(name, mode): the page in one of the modes of browser.MODES, opened once for all tests of the page."""
    tabs = Tabs(browser, served)
    yield tabs
    tabs.close()
