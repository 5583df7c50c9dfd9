"""The paper map: no dead link, no result without a place or a reason, no theorem of the book forgotten."""

import ast
import os
import pkgutil
import re
from functools import cache
from pathlib import Path

import pytest
from browser import HTML, ROOT
from bs4 import BeautifulSoup
from paper_map import PARTS, VERDICTS, load, split

TABLE = load()
RESULTS = TABLE["results"]
PAPER = "xu2025bregman"
NUMBERED = ["Lemma 2.1", "Theorem 3.1", "Corollary 3.1", "Theorem 4.1", "Corollary 5.1"]
NEIGHBOURS = {"charikar2024quantifying", "mulgund2025relating", "yao2025revisiting", "dong2025discrepancies"}
NEIGHBOURS |= {"moniri2025mechanisms", "medvedev2025weak", "wu2026improved", "hansen2026nearly", "osooli2026evaluating"}
NEIGHBOURS |= {"burns2023weak", "gupta2022ensembles", "pfau2013generalized", "ghosh2017robust", "wang2019symmetric"}
THEOREM = re.compile(r"^`{3,}\{prf:(?:theorem|proposition|lemma|corollary)\}.*\n:label: (\S+)$", re.MULTILINE)
LABEL = re.compile(r"^`{3,}\{prf:\w+\}.*\n:label: (\S+)$|^    name: (fig-\S+)$", re.MULTILINE)

every_result = pytest.mark.parametrize("result", RESULTS, ids=lambda r: f"{r['source']}: {r['name']}")


@cache
def labels(page):
    """Labels of theorems, definitions and figures in the source of a page."""
    return {theorem or figure for theorem, figure in LABEL.findall((ROOT / "book" / f"{page}.md").read_text())}


def theorems():
    """page#label of every theorem and proposition of the book."""
    pages = {path.relative_to(ROOT / "book").with_suffix(""): path for path in (ROOT / "book").rglob("*.md")}
    return {f"{page}#{label}" for page, path in pages.items() for label in THEOREM.findall(path.read_text())}


@cache
def names_of_tests(file):
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@every_result
def test_entries_are_complete_and_honest(result):
    known = {"part", "source", "name", "result", "verdict", "where", "function", "test", "note"}
    assert {"part", "source", "name", "result", "verdict"} <= result.keys() <= known
    assert result["part"] in PARTS and result["verdict"] in VERDICTS
    assert (result["source"] == PAPER) == (result["part"] != "neighbours")
    assert result["result"].endswith(".") and result.get("note", ".").endswith(".")
    where, verdict = result.get("where", []), result["verdict"]
    assert where or verdict in ("not run", "not accessible"), "neither a place nor a reason"
    if verdict == "proved":
        assert theorems() & set(where), "proved, but no theorem or proposition is named"
    if verdict == "reproduced":
        assert result.get("test") or any("#fig-" in place for place in where) or theorems() & set(where)
    if verdict == "not seen":
        assert result.get("note"), "say under which condition it holds"
    if verdict == "not accessible":
        assert result.keys() & {"where", "function", "test"} == set(), "who could not read it cannot place it"


@every_result
def test_places_functions_and_tests_exist(result):
    for page, label in map(split, result.get("where", [])):
        assert label in labels(page), f"no {label} in book/{page}.md"
    for name in result.get("function", []):
        thing = pkgutil.resolve_name(f"w2s_lib.{name}")
        assert callable(thing), name
    for name in result.get("test", []):
        file, _, test = name.partition("::")
        assert test in names_of_tests(file), name


def test_nothing_published_is_missing():
    assert [r["name"] for r in RESULTS if r["name"] in NUMBERED] == NUMBERED
    assert {r["source"] for r in RESULTS if r["part"] == "neighbours"} == NEIGHBOURS
    bibliography = (ROOT / "book" / "references.bib").read_text()
    assert {PAPER, *NEIGHBOURS} <= set(re.findall(r"^@\w+\{(.+),$", bibliography, re.MULTILINE))
    names = [(r["source"], r["name"]) for r in RESULTS]
    assert len(names) == len(set(names))


def test_every_theorem_of_the_book_is_on_the_map():
    """Of a published result or of the book's own; a new one has to be entered in book/_data/paper_map.yaml."""
    placed = {place for result in RESULTS for place in result.get("where", [])}
    own = set(TABLE["own"])
    assert theorems() - placed - own == set(), "on the map neither under a result nor under own"
    assert own - theorems() == set(), "no such theorem or proposition"


def test_the_page_shows_all_with_links_that_lead_somewhere(book):
    folder = HTML / "book" / "reference"
    page = BeautifulSoup((folder / "paper_map.html").read_text(), "html.parser")
    shown = page.select("dl.papermap > dt")
    assert len(shown) == len(VERDICTS) + len(RESULTS), "a part of the table is not on the page"
    heads = [" ".join(head.get_text().split()) for head in shown[len(VERDICTS) :]]
    ordered = [result for part in PARTS for result in RESULTS if result["part"] == part]
    for head, result in zip(heads, ordered):
        assert head.startswith(result["name"]) and head.endswith(result["verdict"])
    counts = [int(re.search(r"\d+", head.get_text())[0]) for head in shown[: len(VERDICTS)]]
    assert sum(counts) == len(RESULTS)
    targets = {a["href"] for a in page.select("dl.papermap a[href], .bd-article li a[href]")}
    links = {os.path.normpath(Path("reference", target)) for target in targets}
    for result in RESULTS:
        for place in map(split, result.get("where", [])):
            assert "{}.html#{}".format(*place) in links, place
        for name in result.get("function", []):
            assert f"reference/library.html#w2s_lib.{name}" in links, name
    for place in map(split, TABLE["own"]):
        assert "{}.html#{}".format(*place) in links, place
    for target in targets:
        file, _, anchor = target.partition("#")
        built = (folder / file).read_text()
        assert not anchor or f'id="{anchor}"' in built, target
