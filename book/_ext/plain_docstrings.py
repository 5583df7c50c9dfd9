"""The library's docstrings are written to be read in an editor, formulas and all: show them as they stand."""


def as_literal(app, what, name, obj, options, lines):
    text = [f"   {line}" if line else "" for line in lines]
    while text and not text[-1]:
        text.pop()
    if text:
        lines[:] = [".. code-block:: text", "", *text, ""]


def setup(app):
    app.connect("autodoc-process-docstring", as_literal)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
