"""A site that needs no network and opens from file://.

- MathJax comes from the pinned package sphinx-mathjax-offline; only what its CommonHTML output needs is copied (1.6 of
  the package's 24 MB).
- The theme asks the browser to preload its icon fonts across origins, which file:// forbids: the hint is dropped, and
  the fonts load through the style sheet as they do anyway.
- The site has no icon and says so, else a browser asks the server for /favicon.ico.
"""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

NEEDED = ("tex-chtml.js", "output/chtml/fonts")
PRELOAD = re.compile(r'\s*<link rel="preload" as="font"[^>]*>')


def drop_preloads(app):
    if app.builder.format == "html":
        render = app.builder.templates.render
        app.builder.templates.render = lambda template, context: PRELOAD.sub("", render(template, context))


def declare_no_icon(app, pagename, templatename, context, doctree):
    context["metatags"] = context.get("metatags", "") + '<link rel="icon" href="data:,">'


def copy_mathjax(app, exception):
    if exception or app.builder.format != "html":
        return
    source = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    for name in NEEDED:
        if not (target / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (source / name).is_dir() else shutil.copy2)(source / name, target / name)


def setup(app):
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.connect("builder-inited", drop_preloads)
    app.connect("html-page-context", declare_no_icon)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
