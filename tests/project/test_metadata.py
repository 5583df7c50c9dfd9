"""Licence, citation and changelog: they are there, they agree, and they are about this version."""

import pydoc
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
    books = re.sub(r"[{}]", "", (ROOT / "book/references.bib").read_text())
    assert f"title = {paper['title']}," in books


def test_the_newest_entry_of_the_changelog_is_this_version():
    releases = RELEASE.findall((ROOT / "CHANGELOG.md").read_text())
    assert releases[0] == (w2s_lib.__version__, str(CITATION["date-released"]))
    assert CITATION["version"] == w2s_lib.__version__
    assert releases == sorted(releases, key=lambda release: tuple(map(int, release[0].split("."))), reverse=True)


def test_the_new_names_in_the_changelog_exist():
    """The right column of the newest section's tables of what was renamed, released or not."""
    newest = (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1]
    columns = re.findall(r"^\|.*\|(.*)\|$", newest, re.MULTILINE)
    names = [name for column in columns for name in re.findall(r"`(w2s_lib[\w.]*)`", column)]
    assert len(names) > 15
    for name in names:
        assert pydoc.locate(name) is not None, name
