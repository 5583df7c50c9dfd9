"""The picture first: "How this figure is made" stands below the figure that a folded cell draws, not above it."""

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform


class CodeBelowFigure(SphinxPostTransform):
    default_priority = 200  # behind MyST-NB's own, which folds the code
    formats = ("html",)

    def run(self, **kwargs):
        for cell in list(self.document.findall(nodes.container)):
            if cell.get("hide_mode") == "input" and any(cell.findall(nodes.figure)):
                cell.children.reverse()  # the fold, the outputs


def setup(app):
    app.add_post_transform(CodeBelowFigure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
