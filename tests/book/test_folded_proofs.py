"""A folded proof has a title to open it by, on the page and in print; an open one is as sphinx-proof makes it."""

import re

from browser import opened
from small_site import build_page

OPEN = "````{prf:proof}\nSince *a*, it holds.\n````\n\n"
FOLDED = "````{prf:proof}\n:class: dropdown\nSince *b*, it holds.\n````\n\n"
EXTENSIONS = ("sphinx_togglebutton", "sphinx_proof", "folded_proofs")


def test_a_folded_proof_has_the_title_proof(tmp_path):
    html, warnings = build_page(tmp_path, f"# Page\n\n{OPEN}{FOLDED}", *EXTENSIONS)
    assert not warnings
    assert re.findall(r'<p class="admonition-title">(.*?)</p>\s*<p>(.*?) <', html) == [("Proof", "Since")]
    assert "<p>Proof. Since " in html and 'id="proof"' not in html


def test_proofs_unfold_one_by_one_and_in_print(tmp_path, browser):
    build_page(tmp_path, f"# Page\n\n{FOLDED}{FOLDED}", *EXTENSIONS)
    with opened(browser, (tmp_path / "html" / "index.html").as_uri()) as (page, _, _):
        first, second = (proof.get_by_text("it holds") for proof in page.locator(".proof").all())
        assert not first.is_visible() and not second.is_visible()
        page.get_by_role("button").first.press("Enter")
        assert first.is_visible() and not second.is_visible()
        page.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
        assert first.is_visible() and second.is_visible()
        page.evaluate("() => window.dispatchEvent(new Event('afterprint'))")
        assert first.is_visible() and not second.is_visible()
