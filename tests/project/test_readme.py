"""The README's examples run as printed; the first is ten lines, and it balances."""

import json
import re

from browser import ROOT

README = (ROOT / "README.md").read_text()


def snippets():
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_readme_figure():
    names = {}
    *lines, last = snippets()[3].rstrip().splitlines()
    exec("\n".join(lines), names)
    assert eval(last, names).controls["t"][-1] == 5


def test_readme_picture():
    ((alt, path),) = re.findall(r"!\[(.*?)\]\((.*?)\)", README)
    assert len(alt) > 40
    picture = (ROOT / path).read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) < 200_000


def test_readme_example(capsys):
    code = snippets()[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    account = names["account"]
    assert account.imbalance < 1e-12
    assert account.gain.interval()[0] > 0
    assert "residual" in capsys.readouterr().out


def test_readme_training():
    names = {}
    exec(compile(snippets()[1], "README.md", "exec"), names)
    assert names["logits"].shape == (30, 400, 3)


def test_readme_speeds_are_those_of_the_table():
    """A fifth, a nineteenth: what the committed run of `make bench` measured."""
    seconds = json.loads((ROOT / "book/_data/bench.json").read_text())["comparison"]["seconds"]
    for work, words, times in (("W1 full batch", "takes a fifth", 5), ("W1 minibatch", "a nineteenth", 19)):
        assert words in README
        assert abs(seconds[work]["module loop"] / seconds[work]["core"] - times) < 0.5


def test_readme_experiment(capsys):
    names = {}
    exec(compile(snippets()[2], "README.md", "exec"), names)
    assert {"acc", "gain", "misfit", "residual"} <= names["result"].keys()
    assert 0.5 < float(capsys.readouterr().out.split()[0]) < 1


def test_readme_names_the_nightly_tests():
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    nightly = set(re.findall(r"^@pytest.mark.nightly\n(?:@.*\n)*def (test_\w+)", sources, re.MULTILINE))
    assert nightly == set(re.findall(r"`(test_\w+)`", README))
