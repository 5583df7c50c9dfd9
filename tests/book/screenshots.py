"""Pictures of every page, wide, narrow and dark, in _build/shots, and the README's: `make shots`, then look at them."""

from browser import HTML, NARROW, NO_BROWSER, ROOT, WIDE, chromium, find_chromium, opened, pages

VIEWS = {"wide": (WIDE, False), "narrow": (NARROW, False), "dark": (WIDE, True)}


def main():
    if not find_chromium():
        raise SystemExit(NO_BROWSER)
    folder = ROOT / "_build" / "shots"
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for name in pages():
            for view, (viewport, dark) in VIEWS.items():
                with opened(browser, (HTML / name).as_uri(), viewport, dark) as (page, _, _):
                    target = folder / f"{name.removesuffix('.html').replace('/', '-')}-{view}.png"
                    page.screenshot(path=target, full_page=True)
                    print(target.relative_to(ROOT))
        still = {"reduced_motion": "reduce", "device_scale_factor": 2}
        with opened(browser, (HTML / "book/index.html").as_uri(), **still) as (page, _, _):
            page.locator(".live-ledger:has(svg[width])").screenshot(path=ROOT / "book/_images/readme_ledger.png")


if __name__ == "__main__":
    main()
