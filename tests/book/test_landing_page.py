"""The live ledger in a real browser: on a page of its own from file://, and on the book's first page."""

import re
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from browser import NARROW, WIDE, opened, unexpected

from w2s_lib import figures
from w2s_lib.figures.live_ledger import BOUNDS, GENERATORS, POINTS

LANDING = "book/index.html"
MOVES, MEDIAN, P95 = 200, 8, 16  # ms of the main thread for a move of the pointer
READY = "() => document.querySelector('.live-ledger svg')?.getAttribute('width')"
# the next frame is drawn: a message sent in a frame arrives after it
FRAME = """() => {
  const {port1, port2} = new MessageChannel();
  return new Promise(done => {
    port1.onmessage = () => done();
    requestAnimationFrame(() => port2.postMessage(null));
  });
}"""
# the module of the page, once more, and what it computes
COMPUTED = """async ([generator, points]) => {
  const {module} = JSON.parse(document.querySelector('.live-ledger-place script').textContent);
  const {ledger} = await import(URL.createObjectURL(new Blob([module], {type: 'text/javascript'})));
  return points.map(([teacher, student, truth]) => ledger(generator, {teacher, student, truth}));
}"""
# (left, right) of the texts that show
SPANS = """selector => [...document.querySelectorAll(selector)]
  .filter(e => e.checkVisibility({visibilityProperty: true}))
  .map(e => e.getBoundingClientRect()).map(({left, right}) => [left, right])"""
ENDS = (("Home", "Home", "Home"), ("End", "End", "End"), ("Home", "End", "Home"), ("End", "Home", "End"))


@pytest.fixture(scope="module")
def alone(browser, tmp_path_factory):
    """alone(**options) as (page, errors): the live ledger in an empty page, opened from its file."""
    file = tmp_path_factory.mktemp("page") / "live_ledger.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("W2S_STATIC", "1")
        file.write_text(f"<!doctype html><title>Alone</title>{figures.LiveLedger().static_html}")

    @contextmanager
    def open_page(viewport=WIDE, reduced_motion="reduce", **options):
        with opened(browser, file.as_uri(), viewport, reduced_motion=reduced_motion, **options) as (page, _, errors):
            page.wait_for_function(READY)
            page.evaluate(FRAME)
            yield page
            assert unexpected(errors) == []

    return open_page


def handle(page, name):
    return page.get_by_role("slider", name=name)


def values(page):
    """{point: its value}, as assistive technology reads it."""
    page.evaluate(FRAME)
    return {name: float(handle(page, name).get_attribute("aria-valuenow")) for name in POINTS}


def centre(page, name):
    box = handle(page, name).locator(".target").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def entries(page):
    """{entry: number on show}, of the balance."""
    page.evaluate(FRAME)
    said = page.locator(".live-ledger svg [role=img]").get_attribute("aria-label").replace("−", "-")
    return dict(zip(("misfit", "residual", "gain"), map(float, re.findall(r"-?\d+\.\d+", said))))


def place(page, **points):
    """Move points by the keyboard: to the left end, then by large and small steps."""
    for name, value in points.items():
        handle(page, name).focus()
        page.keyboard.press("Home")
        steps = round(100 * (value - values(page)[name]))
        for key, times in (("Shift+ArrowRight", steps // 10), ("ArrowRight", steps % 10)):
            for _ in range(times):
                page.keyboard.press(key)
    assert values(page) | points == pytest.approx(values(page))


@pytest.mark.parametrize("generator", GENERATORS)
def test_the_browser_computes_what_the_library_computes(generator, alone):
    points = np.random.default_rng(0).uniform(*BOUNDS[generator], size=(50, 3))
    with alone() as page:
        computed = page.evaluate(COMPUTED, [generator, points.tolist()])
    for (w, s, g), numbers in zip(points, computed):
        live = figures.LiveLedger(generator=generator, teacher=w, student=s, truth=g)
        own = {entry: getattr(live, entry) for entry in numbers}
        assert numbers == pytest.approx(own, rel=1e-9, abs=1e-12)


def test_the_keyboard_moves_every_point_within_its_bounds(alone):
    with alone() as page:
        for name in POINTS:
            start, (low, high) = values(page)[name], BOUNDS["binary logistic"]
            steps = {"ArrowRight": 0.01, "Shift+ArrowLeft": -0.1, "PageDown": -0.1, "ArrowDown": -0.01, "ArrowUp": 0.01}
            steps |= {"PageUp": 0.1, "Shift+ArrowRight": 0.1, "ArrowLeft": -0.01}
            handle(page, name).focus()
            for key, step in steps.items():
                before = values(page)[name]
                page.keyboard.press(key)
                assert values(page)[name] == pytest.approx(np.clip(before + step, low, high)), f"{name}: {key}"
            page.keyboard.press("End")
            page.keyboard.press("ArrowRight")
            assert values(page)[name] == high
            page.keyboard.press("Home")
            assert values(page)[name] == low != start
            assert handle(page, name).get_attribute("aria-valuetext").startswith(f"{low:.2f}, log-odds of f: ")


def test_the_tab_key_visits_points_and_controls_and_shows_where_it_is(alone):
    with alone() as page:
        for name in ("teacher", "truth", "student"):
            page.keyboard.press("Tab")
            assert handle(page, name).evaluate("e => e === document.activeElement")
            ring = handle(page, name).locator(".ring")
            assert ring.evaluate("e => getComputedStyle(e).strokeOpacity") == "1"
        for _ in range(3):
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.closest('.live-ledger-controls') !== null")


def test_numbers_on_show_balance_and_words_follow(alone):
    told = {
        "went past the truth, and still beats": {"teacher": 0.2, "truth": 0.7, "student": 0.8},
        "moved towards the truth": {"teacher": 0.2, "truth": 0.7, "student": 0.4},
        "found the truth": {"teacher": 0.2, "truth": 0.7, "student": 0.7},
        "copies its teacher": {"teacher": 0.2, "truth": 0.7, "student": 0.2},
        "wrong direction": {"teacher": 0.5, "truth": 0.7, "student": 0.3},
        "too far past": {"teacher": 0.5, "truth": 0.55, "student": 0.9},
        "teacher was right": {"teacher": 0.5, "truth": 0.5, "student": 0.3},
    }
    with alone() as page:
        for words, points in told.items():
            place(page, **points)
            numbers = entries(page)
            assert numbers["gain"] == pytest.approx(numbers["misfit"] - numbers["residual"], abs=1e-9)
            live = figures.LiveLedger(**points)
            assert numbers == pytest.approx({entry: getattr(live, entry) for entry in numbers}, abs=0.0011)
            assert words in page.locator(".live-ledger-words").text_content()


def test_the_mouse_drags_the_nearest_point(alone):
    with alone() as page:
        before, (x, y) = values(page), centre(page, "student")
        page.mouse.move(x + 3, y)  # it keeps its distance from the pointer
        page.mouse.down()
        page.mouse.move(x + 3 - 120, y - 40, steps=4)
        page.mouse.up()
        after = values(page)
        assert after["student"] < before["student"] - 0.1 and after | {"student": 0} == before | {"student": 0}
        assert centre(page, "student")[0] == pytest.approx(x - 120, abs=1)
        page.mouse.move(x, y)
        assert values(page) == after  # let go
        place(page, teacher=0.49, truth=0.5, student=0.51)
        left, _ = centre(page, "teacher")
        page.mouse.move(left - 4, centre(page, "teacher")[1])  # the teacher lies below the others
        page.mouse.down()
        page.mouse.move(left - 60, y)
        page.mouse.up()
        assert values(page)["teacher"] < 0.45 and values(page)["student"] == 0.51


def test_a_finger_drags_a_point_and_scrolls_elsewhere(alone):
    with alone(NARROW, has_touch=True) as page:
        before, (x, y) = values(page), centre(page, "student")
        devtools = page.context.new_cdp_session(page)

        def touch(kind, *moved):
            points = [{"x": x + step, "y": y + step} for step in moved]
            devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
            page.evaluate(FRAME)

        touch("touchStart", 0)
        for step in range(-10, -70, -10):
            touch("touchMove", step)
        touch("touchEnd")
        after = values(page)
        assert centre(page, "student")[0] == pytest.approx(x - 60, abs=1)
        assert after["teacher"] == before["teacher"] and page.evaluate("scrollY") == 0
        action = "e => getComputedStyle(e).touchAction"
        assert handle(page, "truth").evaluate(action) == "none"
        assert page.locator(".live-ledger svg").evaluate(action) == "auto"


def test_handles_are_large_enough_for_a_finger(alone):
    with alone(NARROW) as page:
        for name in POINTS:
            symbol, target = (handle(page, name).locator(part).bounding_box() for part in (".symbol", ".target"))
            assert min(symbol["width"], symbol["height"]) >= 24 and min(target["width"], target["height"]) >= 44


def test_a_random_pair_jumps_for_those_who_want_no_motion_and_glides_for_others(alone):
    for motion in ("reduce", "no-preference"):
        with alone(reduced_motion=motion) as page:
            before = values(page)
            call = page.locator(".student .ring").evaluate("e => getComputedStyle(e).animationName")
            assert (call == "none") == (motion == "reduce")
            page.get_by_role("button", name="Random pair").click()
            first = values(page)
            page.wait_for_timeout(700)
            last = values(page)
            assert (first == last) == (motion == "reduce")
            assert last["teacher"] != before["teacher"] and last["student"] != before["student"]
            assert last["truth"] == before["truth"]
            page.get_by_role("button", name="Reset").click()
            page.wait_for_timeout(700)
            assert values(page) == before


def test_another_loss_keeps_the_points_on_its_curve(alone):
    with alone() as page:
        place(page, teacher=0.05)
        for generator in GENERATORS:
            page.get_by_label("Loss").select_option(generator)
            now, (low, high) = values(page), BOUNDS[generator]
            assert all(low <= value <= high for value in now.values())
            live = figures.LiveLedger(generator=generator, **now)
            assert entries(page)["misfit"] == pytest.approx(live.misfit, abs=0.0011)


def test_what_is_read_out_waits_until_the_points_rest(alone):
    with alone() as page:
        said = page.locator(".live-ledger-spoken")
        assert said.get_attribute("aria-live") == "polite"
        page.wait_for_timeout(1000)
        before = said.text_content()
        handle(page, "student").focus()
        for _ in range(20):
            page.keyboard.press("ArrowLeft")
            page.evaluate(FRAME)
            assert said.text_content() == before
        page.wait_for_timeout(1000)
        assert said.text_content().startswith(page.locator(".live-ledger-words strong").text_content()) != before


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_nothing_overflows_and_no_names_collide(viewport, alone):
    with alone(viewport) as page:
        for generator in GENERATORS:
            page.get_by_label("Loss").select_option(generator)
            for ends in ENDS:
                for name, key in zip(POINTS, ends):
                    handle(page, name).focus()
                    page.keyboard.press(key)
                page.evaluate(FRAME)
                left, right = np.transpose(page.evaluate(SPANS, ".live-ledger svg text"))
                assert left.min() >= 0 and right.max() <= viewport["width"]
                labels = sorted(page.evaluate(SPANS, ".live-ledger .label"))
                assert all(a[1] <= b[0] for a, b in pairwise(labels))
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


# --------------------------------------------------------------------------------------------- the book's first page


def test_the_first_screen_shows_all_of_it_before_any_code(tab):
    with tab(LANDING, "file") as (page, _, _):
        page.wait_for_function(READY)
        page.evaluate("scrollTo(0, 0)")
        ledger = page.locator(".live-ledger").bounding_box()
        assert ledger["y"] + ledger["height"] <= WIDE["height"]
        code = page.locator(".bd-article div.highlight, .bd-article details").first
        assert code.bounding_box()["y"] > ledger["y"] + ledger["height"]


@pytest.mark.parametrize("mode", ["http", "file"])
def test_it_takes_the_colours_of_the_page(mode, tab):
    with tab(LANDING, mode) as (page, _, _):
        page.wait_for_function(READY)
        text, curve, truth = (
            page.locator(selector).first.evaluate(f"e => getComputedStyle(e).{style}")
            for selector, style in ((".bd-article p", "color"), (".curve", "stroke"), (".truth .symbol", "fill"))
        )
        assert text == curve == truth


def test_a_move_of_the_pointer_redraws_within_half_a_frame(tab):
    """CPU time of the page's main thread, layout and paint included, not wall time: the machine may be shared."""
    with tab(LANDING, "file") as (page, _, _):
        page.wait_for_function(READY)
        devtools = page.context.new_cdp_session(page)
        devtools.send("Performance.enable", {"timeDomain": "threadTicks"})

        def busy():
            metrics = devtools.send("Performance.getMetrics")["metrics"]
            return next(m["value"] for m in metrics if m["name"] == "TaskDuration")

        def cost(x, y):
            """ms of a move, and all that the browser does until the next frame is drawn."""
            before = busy()
            page.mouse.move(x, y)
            page.evaluate(FRAME)
            return 1000 * (busy() - before)

        for _ in range(3):  # a busy neighbour can only slow it down: the first quiet round counts
            x, y = centre(page, "student")
            page.mouse.move(x, y)
            page.mouse.down()
            costs = [cost(x - 200 + 200 * np.cos(step / 8), y) for step in range(MOVES)]
            moved = x - centre(page, "student")[0]
            page.mouse.up()
            median, p95 = np.quantile(costs, [0.5, 0.95])
            if median <= MEDIAN and p95 <= P95:
                break
        report = f"median {median:.1f} ms, 95% {p95:.1f} ms"
        print(report)
        assert moved == pytest.approx(200 - 200 * np.cos((MOVES - 1) / 8), abs=1), "the point did not follow"
        assert median <= MEDIAN and p95 <= P95, report


def test_print_shows_the_still_picture(tab):
    with tab(LANDING, "file") as (page, _, _):
        page.wait_for_function(READY)
        page.emulate_media(media="print")
        assert page.locator(".live-ledger-still img").is_visible() and not page.locator(".live-ledger").is_visible()
        page.emulate_media(media="null")


def test_without_scripts_the_still_picture_stands(tab):
    with tab(LANDING, "no scripts") as (page, _, _):
        assert page.locator(".live-ledger-still img").is_visible()
