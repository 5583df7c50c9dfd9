"""Licence, citation and changelog: they are there, they agree, and they are about this version."""

import re
import tomllib

import yaml
from browser import ROOT

import w2s_lib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
RELEASE = re.compile(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)$", re.MULTILINE)


def test_licence():
    text = (ROOT / "LICENSE").read_text()
    assert text.startswith("MIT License\n\nCopyright (c) 2026 The w2s book authors\n")
    assert PROJECT["license"] == CITATION["license"] == "MIT"


def test_citation_names_the_book_and_the_paper():
    assert {"cff-version", "message", "title", "authors"} <= CITATION.keys()  # what the format asks for
    (paper,) = CITATION["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Xu", "Yao", "Wang", "Liu"]
    assert paper["identifiers"][0]["value"] == "arXiv:2505.24313"
    entry = re.search(r"^@misc\{xu2025bregman,.*?^\}", (ROOT / "book/references.bib").read_text(), re.MULTILINE | re.DOTALL)
    assert paper["title"] in re.sub(r"[{}]", "", entry[0])


def test_the_newest_entry_of_the_changelog_is_this_version():
    releases = RELEASE.findall((ROOT / "CHANGELOG.md").read_text())
    assert releases[0] == (w2s_lib.__version__, str(CITATION["date-released"]))
    assert CITATION["version"] == w2s_lib.__version__
    assert releases == sorted(releases, key=lambda release: tuple(map(int, release[0].split("."))), reverse=True)


def test_names_of_the_changelog_exist():
    """What the newest entry says things are called now: in its table of names, the right column."""
    newest = RELEASE.split((ROOT / "CHANGELOG.md").read_text())[3]
    names = [name for row in re.findall(r"^\| .* \| (.*) \|$", newest, re.MULTILINE) for name in re.findall(r"`([\w.]+)`", row)]
    assert len(names) > 20
    missing = []
    for name in names:
        module, _, attribute = name.rpartition(".")
        try:
            thing = __import__(f"w2s_lib.{module}".rstrip("."), fromlist=["_"])
            assert hasattr(thing, attribute) or __import__(f"w2s_lib.{name}", fromlist=["_"])
        except (ImportError, AttributeError):
            missing.append(name)
    assert not missing, missing
