"""Proofs that fold: a {prf:proof} of class dropdown gets a title, which sphinx-togglebutton makes its handle.

sphinx-proof has the word Proof in the first line instead, and gives all proofs of a page the same id.
"""

from docutils import nodes
from sphinx_proof.nodes import proof_node


def give_titles(app, doctree):
    for proof in doctree.findall(proof_node):
        (box,) = proof
        box["ids"] = []
        if "dropdown" in box["classes"]:
            word = next(box.findall(nodes.Text))
            word.parent.replace(word, nodes.Text(word.removeprefix("Proof. ")))
            box.insert(0, nodes.title("", "Proof"))


def setup(app):
    app.setup_extension("sphinx_proof")
    app.connect("doctree-read", give_titles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
