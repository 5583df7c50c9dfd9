"""The README's example runs as printed, in ten lines, and its books balance."""

import re

from browser import ROOT


def test_readme_example(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    book = names["book"]
    assert book.imbalance < 1e-12
    assert book.gain.interval()[0] > 0
    assert "residual" in capsys.readouterr().out
