"""Predictions: a question with answers to choose from, and the figure after it, veiled until the reader has chosen.

    ````{admonition} Before you move it
    :class: prediction
    One question?

    1. first answer
    2. second answer

    ```{dropdown} The answer
    **Answer 2.** Why.
    ```
    ````

The build marks the admonition (choices), its right answer (right) and the next figure (veiled); book.css veils,
prediction.js makes buttons of the answers. What is not of this form, or has no figure behind it, is a warning. An
admonition without a list is left as it is. In JupyterLab there is no veil, but a list and a folded answer.
"""

import re

from docutils import nodes
from sphinx.util import logging

ANSWER = re.compile(r"Answer (\d+)\.$")
LOG = logging.getLogger(__name__)


def is_prediction(node):
    return isinstance(node, nodes.admonition) and "prediction" in node["classes"]


def right_answer(prediction, choices):
    """The item of the list `choices` that the folded answer names; ValueError if the prediction has another form."""
    if not 2 <= len(choices) <= 4:
        raise ValueError(f"{len(choices)} answers; two to four")
    if any(len(choice) != 1 or not isinstance(choice[0], nodes.paragraph) for choice in choices):
        raise ValueError("an answer is one paragraph")
    folded = [part for part in prediction if part.get("design_component") == "dropdown"]
    bold = [strong.astext() for part in folded for strong in part.findall(nodes.strong)]
    named = [int(match[1]) for text in bold if (match := ANSWER.match(text))]
    if len(named) != 1 or not 1 <= named[0] <= len(choices):
        raise ValueError("one {dropdown} has to begin with **Answer N.**, where N is one of the answers")
    return choices[named[0] - 1]


def mark(app, doctree):
    waiting = None
    for node in doctree.findall(lambda node: is_prediction(node) or isinstance(node, nodes.figure)):
        if isinstance(node, nodes.figure):
            if waiting:
                node["classes"].append("veiled")
            waiting = None
        elif choices := next((part for part in node if isinstance(part, nodes.enumerated_list)), None):
            if waiting:
                LOG.warning("prediction: no figure before the next one", location=waiting)
            try:
                right_answer(node, choices)["classes"].append("right")
                node["classes"].append("choices")
                waiting = node
            except ValueError as error:
                LOG.warning("prediction: %s", error, location=node)
    if waiting:
        LOG.warning("prediction: no figure behind it", location=waiting)


def add_script(app, pagename, templatename, context, doctree):
    if doctree and any("choices" in node["classes"] for node in doctree.findall(is_prediction)):
        app.add_js_file("prediction.js", loading_method="defer")


def setup(app):
    app.connect("doctree-read", mark)
    app.connect("html-page-context", add_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
