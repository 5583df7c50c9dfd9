"""Figures that move without a kernel: the scripts, on the pages that need them.

vega.js (Vega, Vega-Lite, vega-embed) is made from the pinned package vl-convert-python at build time; the wrapping
function keeps its top-level names out of the page's. W2S_STATIC tells `w2s_lib.figures` that no kernel will be there.
"""

import os
from pathlib import Path


def make_bundle(app):
    os.environ["W2S_STATIC"] = "1"
    if app.builder.format != "html":
        return
    import vl_convert

    target = Path(app.outdir) / "_static" / "vega.js"
    target.parent.mkdir(parents=True, exist_ok=True)
    scripts = vl_convert.javascript_bundle("window.vegaEmbed=vegaEmbed;")
    target.write_text(f"/* vl-convert-python {vl_convert.__version__} */(function(){{{scripts}}})();")


def add_scripts(app, pagename, templatename, context, doctree):
    if 'class="explorable ' in context.get("body", ""):
        app.add_js_file("vega.js", loading_method="defer")
        app.add_js_file("explorable.js", loading_method="defer")


def setup(app):
    app.connect("builder-inited", make_bundle)
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
