"""What the theme leaves to be done for readers who use a keyboard or a screen reader; the rest is in book.css.

- A box that scrolls sideways can be reached by keyboard (accessible.js).
- The bibliography is a list of list items; the role that docutils writes is deprecated and may not stand in a list.
"""


def make_accessible(app, pagename, templatename, context, doctree):
    app.add_js_file("accessible.js", loading_method="defer")
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app):
    app.connect("html-page-context", make_accessible)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
