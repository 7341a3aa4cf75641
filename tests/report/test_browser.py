"""The page in a real Chromium, by its driver: what a reader sees, clicks and prints.

Skipped where Chromium or chromedriver is not installed (`apt-get install chromium-driver`).
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matey.report import build

from .browser import CHROMIUM, DRIVER, Browser, browser
from .conftest import write_results, write_run

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="needs a browser: apt-get install chromium chromium-driver",
)
WIDTHS = (390, 1280)
RIGHT = "\ue014"  # the key, as the protocol writes it
A4 = 688  # CSS pixels between margins of 14 mm
SHEET = {"height": 1000, "deviceScaleFactor": 1, "mobile": False}
PLAYER = "#predictions .player"


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A page with everything: a run, its scores, another model's, and a broken rollout."""
    folder = tmp_path_factory.mktemp("page")
    first, second = write_results(folder / "first"), write_results(folder / "b", name="runs/b")
    scores = json.loads((second / "scores.json").read_text())
    for metric in scores["systems"][1]["metrics"].values():
        metric["mean"]["error"][5:] = [None] * 5
    (second / "scores.json").write_text(json.dumps(scores))
    build([write_run(folder / "runs" / "a"), first, second], folder / "report.html")
    return folder / "report.html"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_opens_without_errors_or_requests_and_fits_the_screen(window, page, width, dark):
    window.errors(), window.requests()
    window.open(page, width, dark=dark)
    assert window.errors() == []
    assert window.requests() == [page.as_uri()]
    sizes = "return [document.documentElement.scrollWidth, innerWidth, window.devicePixelRatio]"
    needed, given, _ = window.run(sizes)
    assert needed <= given == width
    broken = "return [...document.images].filter((i) => i.complete && !i.naturalWidth).length"
    assert window.run(broken) == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_a_screenshot_shows_the_scheme_that_is_asked_for(window, page, tmp_path, width):
    """Ink on paper, either way: most of the page is the paper's shade, and not all of it."""
    means = []
    for dark in (False, True):
        window.open(page, width, dark=dark)
        with Image.open(window.screenshot(tmp_path / "page.png")) as image:
            shade = np.asarray(image.convert("L")) / 255
        assert shade.shape[1] >= width - 20  # a scroll bar takes 15
        assert shade.std() > 0.1
        means.append(float(np.median(shade)))
    assert means[0] > 0.9
    assert means[1] < 0.15


def test_the_page_can_tell_an_error_and_a_request(window, tmp_path):
    """The two checks above can fail, and the page's own policy stops what it does not hold."""
    text = '<img src="other.png"><script>undefined_function()</script>'
    (tmp_path / "bad.html").write_text(f"<!doctype html>{text}")
    window.errors(), window.requests()
    window.open(tmp_path / "bad.html")
    assert any("undefined_function" in error for error in window.errors())
    assert any(url.endswith("other.png") for url in window.requests())


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_first_screen_says_what_was_trained_on_what_how_good_it_is_and_what_it_cost(
    window, tmp_path, width, height
):
    results = write_results(tmp_path / "results")
    build([write_run(tmp_path / "runs" / "a"), results], tmp_path / "report.html")
    window.open(tmp_path / "report.html", width, height)
    seen = window.run(
        """return [...document.querySelectorAll("h1, .verdict h2, .verdict div, .verdict .prose")]
             .filter((e) => e.getBoundingClientRect().bottom <= innerHeight)
             .map((e) => e.textContent).join("\\n")"""
    )
    for text in (
        *("runs/a", "SViT transformer", "shallow_water and burgers"),
        *("72% lower error than persistence one step ahead", "1,000 steps in 3"),
        *("Tokens per frame", "Parameters1.23", "Training3", "Scored on 84 rollouts"),
    ):
        assert text in seen.replace("\u00a0", " ")


def shown(window: Browser) -> list[str]:
    """The steps of the frames that can be seen in the first player, with their first picture."""
    return window.run(
        """return [...document.querySelector(arguments[0]).querySelectorAll(".frame")]
             .filter((f) => f.querySelector(".step").getClientRects().length)
             .map((f) => f.querySelector(".step b").textContent)""",
        PLAYER,
    )


def test_the_slider_moves_the_frame_by_keyboard_and_by_mouse(window, page):
    window.open(page)
    assert shown(window) == ["10 steps ahead"]
    window.press(f"{PLAYER} input", "\ue011")  # Home
    assert shown(window) == ["1 step ahead"]
    window.press(f"{PLAYER} input", RIGHT)
    assert shown(window) == ["5 steps ahead"]
    told = window.run(
        "return document.querySelector(arguments[0]).getAttribute('aria-valuetext')",
        f"{PLAYER} input",
    )
    assert told.startswith("5 steps ahead NRMSE")
    marked = "return document.querySelector(arguments[0]).querySelectorAll('.now[data-x]').length"
    assert window.run(marked, PLAYER) == 2  # the model and persistence
    window.click(f"{PLAYER} input")  # its middle
    assert shown(window) == ["5 steps ahead"]


def test_a_rollout_plays_and_halts(window, page):
    window.open(page)
    window.click(f"{PLAYER} button")
    seen = window.run_later(
        """const done = arguments[1], seen = new Set();
        const label = () => document.querySelector(`${arguments[0]} .now .step b`).textContent;
        const timer = setInterval(() => {
          seen.add(label());
          if (seen.size === 3) { clearInterval(timer); done([...seen].sort()); }
        }, 20);""",
        PLAYER,
    )
    assert seen == ["1 step ahead", "10 steps ahead", "5 steps ahead"]
    named = "return document.querySelector(arguments[0]).getAttribute('aria-label')"
    assert window.run(named, f"{PLAYER} button") == "Pause"
    window.click(f"{PLAYER} button")
    assert window.run(named, f"{PLAYER} button") == "Play"


def column(window: Browser, at: int) -> list[str]:
    """What a column of the score table sorts by, from top to bottom."""
    return window.run(
        """return [...document.querySelector("table.scores").tBodies[0].rows]
             .map((row) => row.cells[arguments[0]])
             .map((cell) => cell.dataset.value ?? cell.textContent.trim())""",
        at,
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_tables_sort_by_click_and_by_key(window, page, width):
    window.open(page, width)
    # Errors at the end of the rollout: one of them diverged, and comes last either way.
    head = "table.scores thead tr:last-child th:nth-child({}) button"
    window.click(head.format(7))
    up = [float(value) for value in column(window, 6)]
    assert up[:-1] == sorted(up[:-1])
    assert np.isnan(up[-1])
    assert not np.isnan(up[:-1]).any()
    window.press(head.format(7), "\ue007")  # Enter
    down = [float(value) for value in column(window, 6)]
    assert down[:-1] == up[-2::-1]
    assert np.isnan(down[-1])
    sorted_as = "return [...document.querySelectorAll('table.scores [aria-sort]')]" + (
        ".map((head) => head.getAttribute('aria-sort'))"
    )
    assert window.run(sorted_as) == ["descending"]
    window.click(head.format(1))
    names = column(window, 0)
    assert names == sorted(names)


def test_everything_that_acts_is_reached_by_the_tab_key_and_has_a_name(window, page):
    window.open(page)
    unnamed = window.run(
        """return [...document.querySelectorAll("button, input, summary, a, [tabindex]")]
             .filter((e) => !(e.textContent.trim() || e.ariaLabel || e.labels?.length
               || e.getAttribute("aria-labelledby")) || e.tabIndex < 0)
             .map((e) => e.outerHTML)"""
    )
    assert unnamed == []
    window.press("body", "\ue004")  # Tab
    outline = "const s = getComputedStyle(document.activeElement); return [s.outlineStyle, "
    style, width = window.run(outline + "parseFloat(s.outlineWidth)]")
    assert style != "none"
    assert width >= 2


def test_every_figure_that_is_not_folded_has_a_picture_or_a_chart_that_can_be_seen(window, page):
    window.open(page)
    empty = """return [...document.querySelectorAll("figure")]
      .filter((f) => f.getClientRects().length)
      .filter((f) => ![...f.querySelectorAll("img, svg.chart")].some((p) => p.clientHeight > 40))
      .map((f) => f.outerHTML.slice(0, 200))"""
    assert window.run(empty) == []


def test_cells_can_be_drawn_over_every_picture(window, page):
    window.open(page)
    count = """return [...document.querySelectorAll(arguments[0] + " .now .cells")]
      .filter((cells) => cells.getClientRects().length).length"""
    gallery = "#predictions .gallery:first-of-type"
    assert window.run(count, gallery) == 0
    window.click(f"{gallery} .head input")
    assert window.run(count, gallery) == 3


def test_the_cells_move_with_the_slider(window, page):
    window.open(page)
    drawn = """return [...document.querySelector(arguments[0]).querySelectorAll(".now use")]
      .map((use) => document.querySelector(use.getAttribute("href")).getAttribute("d"))"""
    last, seen = "document.querySelector('#predictions .last use').getAttribute('href')", []
    for key in ("\ue011", RIGHT, RIGHT):
        window.press(f"{PLAYER} input", key)
        paths = window.run(drawn, PLAYER)
        assert len(paths) == 3 * 2
        assert len(set(paths)) == 1
        seen.append(paths[0])
    seen.append(window.run(f"return document.querySelector({last}).getAttribute('d')"))
    assert len(set(seen)) == 4
    size = "const box = document.querySelector('#predictions .last use').getBoundingClientRect();"
    assert min(window.run(size + "return [box.width, box.height]")) > 100


def contrast(window: Browser) -> list[str]:
    """Texts on the page whose contrast with what they stand on is below 4.5 (WCAG AA)."""
    return window.run(
        """
        const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
        const light = (c) => c.slice(0, 3).map((v) => v / 255)
          .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
          .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const under = (e) => {
          for (; e; e = e.parentElement) {
            const c = numbers(getComputedStyle(e).backgroundColor);
            if (c.length === 3 || c[3] === 1) return c;
          }
          return [255, 255, 255];
        };
        const bad = new Set();
        for (const e of document.querySelectorAll("body *")) {
          const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
          if (!own || !e.getClientRects().length || e.closest("svg, script, style")) continue;
          const [a, b] = [light(numbers(getComputedStyle(e).color)), light(under(e))];
          const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          if (ratio < 4.5) bad.add(`${e.className || e.tagName} ${ratio.toFixed(2)}`);
        }
        return [...bad];
        """
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_what_it_is_written_on(window, page, dark):
    window.open(page, dark=dark)
    assert contrast(window) == []


def test_paper_shows_what_was_folded_and_the_frames_that_matter(window, page, tmp_path):
    window.open(page)
    folded = "return document.querySelectorAll('details:not([open])').length"
    before = window.run(folded)
    assert window.pdf(tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    assert before == window.run(folded) > 0
    window.run("dispatchEvent(new Event('beforeprint'))")
    assert window.run(folded) == 0
    window.tell("Emulation.setEmulatedMedia", media="print")
    assert shown(window) == ["1 step ahead", "5 steps ahead", "10 steps ahead"]
    window.tell("Emulation.setDeviceMetricsOverride", width=A4, **SHEET)
    wide = """return [...document.querySelectorAll("table, figure")]
      .filter((e) => e.getBoundingClientRect().right > document.body.clientWidth)
      .map((e) => e.textContent.slice(0, 80))"""
    assert window.run(wide) == []
    window.tell("Emulation.setEmulatedMedia", media="")


def test_without_a_script_the_frames_that_matter_are_seen(window, page):
    window.tell("Emulation.setScriptExecutionDisabled", value=True)
    try:
        window.open(page)
        assert shown(window) == ["1 step ahead", "5 steps ahead", "10 steps ahead"]
    finally:
        window.tell("Emulation.setScriptExecutionDisabled", value=False)
