"""Never a stale page: what Sphinx, MyST-NB and Jupyter Book do not notice by themselves.

- Execution: Jupyter Book caches a chapter's outputs by the chapter's code alone. Here the cache's folder is named by a
  hash of everything else that outputs depend on (EXECUTION), so a change of the library runs every chapter again.
- Site: pages are written again when a static file, an extension or the configuration changes (SITE); otherwise Sphinx
  would leave the old file in the built site.
- Outputs: MyST-NB writes a chapter that it found in the cache to _build/jupyter_execute without its outputs, so that
  `make reproduce` would compare nothing. They are put back, and a cell's print, which the kernel sends in any number of
  pieces, is put together.
- Failure: after a build with warnings the environment is dropped, so the next build reports the same warnings instead
  of passing because nothing changed.
"""

import hashlib
import os
import shutil
import sys
from pathlib import Path

LIBRARY = ("w2s_lib/**/*.py", "w2s_lib/**/*.js", "w2s_lib/**/*.css")
EXECUTION = (*LIBRARY, "requirements.txt", "pyproject.toml", "book/_data/**/*")
UNUSED = ("book/_data/paper_map.yaml",)  # read by an extension, by no chapter
SITE = ("book/_static/**/*", "book/_ext/**/*.py", "_config.yml", "_toc.yml")


def fingerprint(root, patterns, extra=()):
    """SHA-256 over names and contents of the files below `root` that match, and over the strings in `extra`."""
    digest = hashlib.sha256("\0".join(extra).encode())
    unused = {Path(root, name) for name in UNUSED}
    for path in sorted({p for pattern in patterns for p in Path(root).glob(pattern) if p.is_file()} - unused):
        content = path.read_bytes()
        digest.update(f"\0{path.relative_to(root)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def user_data():
    """Name, size and time of each file in the folder that W2S_DATA names: it may be large, so it is not read."""
    folder = os.environ.get("W2S_DATA", "")
    files = sorted(p for p in Path(folder).resolve().rglob("*") if p.is_file()) if folder else []
    return [f"{p} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files]


def execution_cache(root):
    """Folder of the outputs of chapters that are valid now; the tests, which run the chapters, enter theirs too."""
    return Path(root, "_build", ".jupyter_cache", fingerprint(root, EXECUTION, (sys.version, *user_data())))


def set_fingerprints(app, config):
    cache = execution_cache(app.srcdir)
    config.execution_fingerprint = cache.name
    config.site_fingerprint = fingerprint(app.srcdir, SITE, (cache.name,))
    config.nb_execution_cache_path = str(cache)
    for old in cache.parent.glob("*"):
        if old != cache:
            shutil.rmtree(old)


def keep_outputs(start_client):
    def start_and_keep(self):
        given = self.notebook  # the object that is written at the end
        start_client(self)
        for cell, executed in zip(given.cells, self.notebook.cells):
            cell.update(executed)
            if "outputs" in cell:
                cell.outputs = merge_streams(cell.outputs)
        given.metadata.update(self.notebook.metadata)
        self._notebook = given  # as after an execution: what is taken out for the page is taken out here

    return start_and_keep


def merge_streams(outputs):
    """The outputs of a cell with its print as one, errors as another."""
    streams, merged = {}, []
    for output in outputs:
        if output.output_type == "stream" and output.name in streams:
            streams[output.name].text += output.text
        else:
            merged.append(output)
            if output.output_type == "stream":
                streams[output.name] = output
    return merged


def forget_failure(app, exception):
    if exception or app._warncount:  # app.statuscode is set only after this event
        Path(app.doctreedir, "environment.pickle").unlink(missing_ok=True)


def setup(app):
    from myst_nb.core.execute.cache import NotebookClientCache

    app.add_config_value("execution_fingerprint", "", "env")  # a change reads every page again
    app.add_config_value("site_fingerprint", "", "html")  # a change writes every page again, with the static files
    NotebookClientCache.start_client = keep_outputs(NotebookClientCache.start_client)
    app.connect("config-inited", set_fingerprints, priority=100)
    app.connect("build-finished", forget_failure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
