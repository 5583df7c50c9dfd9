"""The README's examples run as printed; the first is ten lines, and its books balance."""

import re

from browser import ROOT


def snippets():
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_readme_figure():
    names = {}
    *lines, last = snippets()[1].rstrip().splitlines()
    exec("\n".join(lines), names)
    assert eval(last, names).controls["t"][-1] == 5


def test_readme_picture():
    ((alt, path),) = re.findall(r"!\[(.*?)\]\((.*?)\)", (ROOT / "README.md").read_text())
    assert len(alt) > 40
    picture = (ROOT / path).read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) < 200_000


def test_readme_example(capsys):
    code = snippets()[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    book = names["book"]
    assert book.imbalance < 1e-12
    assert book.gain.interval()[0] > 0
    assert "residual" in capsys.readouterr().out
