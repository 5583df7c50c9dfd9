// A box that scrolls sideways is a tab stop, so that the arrow keys can scroll it; one that does not scroll is none.
window.addEventListener("load", () => {
  const update = (box) => (box.scrollWidth > box.clientWidth ? box.setAttribute("tabindex", "0") : box.removeAttribute("tabindex"));
  // also called when a box appears, as those inside a folded solution do
  const observer = new ResizeObserver((entries) => entries.forEach((entry) => update(entry.target)));
  document.querySelectorAll("div.cell_output figure, .bd-article table, .bd-article pre").forEach((box) => observer.observe(box));
});
