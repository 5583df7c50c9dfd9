// Sets the explorable figures of a static page in motion: no kernel, no network. vega.js comes from the pinned package.
document.addEventListener("DOMContentLoaded", () => {
  for (const figure of document.querySelectorAll(".explorable")) {
    const spec = JSON.parse(figure.querySelector("script").textContent);
    const place = figure.querySelector(".explorable-live");
    window.vegaEmbed(place, spec, { actions: false, renderer: "svg", tooltip: false }).then((result) => {
      figure.view = result.view;
      figure.classList.add("is-live");
      // Vega measures its place when the window changes; the page's columns may follow later
      new ResizeObserver(() => window.dispatchEvent(new Event("resize"))).observe(figure);
    });
  }
});
