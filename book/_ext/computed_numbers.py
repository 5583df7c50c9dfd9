"""Numbers in the prose: {eval}`number.key` is what a cell of the page reported by figures.report(key=...).

The text is read from the outputs of the page, executed before; a key that no cell reports is a warning. The role has
the name of MyST-NB's own, which asks a running kernel, because in JupyterLab (jupyterlab-myst 2.7) it does just that:
text whose cell has been run shows the values, so after Run All Cells every number; before, the keys. Lab keeps the
values in the metadata of the cells, and book/jupytext.toml keeps them out of the pages.
"""

from docutils import nodes
from myst_nb.core.variables import RetrievalError, create_warning, format_plain_text
from myst_nb.ext.glue.utils import retrieve_glue_data
from myst_nb.ext.utils import RoleBase


class computed(nodes.inline):
    """A number that a cell of the page computed."""


class Computed(RoleBase):
    def run(self):
        try:
            data = retrieve_glue_data(self.document, self.text).data
        except RetrievalError:
            message = f"no cell of this page reports {self.text!r}; see figures.report"
            return [], [create_warning(message, self.document, self.line, "eval")]
        text = format_plain_text(data["text/plain"], "s")
        node = computed(self.rawtext, text, classes=["computed"])
        self.set_source_info(node)
        return [node], []


def visit(writer, node):
    writer.body.append(writer.starttag(node, "span", "", title="computed by the code of this page"))


def depart(writer, node):
    writer.body.append("</span>")


def setup(app):
    app.setup_extension("myst_nb")
    app.add_node(computed, html=(visit, depart))  # other builders take it for the inline that it is
    app.add_role("eval", Computed(), override=True)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
