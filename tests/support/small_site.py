"""A site of one page, to see what a local extension makes of a text and what it says to a wrong one."""

from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace


def build_page(folder, text, *extensions):
    """(html, warnings) of the page `text` in MyST, with these extensions; the page is index.md."""
    (folder / "conf.py").write_text(f'project = "site"\nextensions = {["myst_parser", *extensions]}')
    (folder / "index.md").write_text(text)
    with docutils_namespace(), (folder / "warnings").open("w+") as warnings:
        Sphinx(folder, folder, folder / "html", folder / "doctrees", "html", status=None, warning=warnings).build()
        warnings.seek(0)
        return (folder / "html" / "index.html").read_text(), warnings.read()
