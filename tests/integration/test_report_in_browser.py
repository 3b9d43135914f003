"""The report in a real browser: no complaint, tables sort, pictures load, nothing overlaps."""

import os
import shutil

import numpy as np
import pytest

from make.runs import draw_pictures, make_config, write_components, write_sweeps, write_unfinished
from refine.report.__main__ import main

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
PROGRAMS = [shutil.which("chromium"), shutil.which("chromedriver")]
pytestmark = pytest.mark.skipif(
    None in PROGRAMS, reason="no chromium on this machine (apt install chromium chromium-driver)"
)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
FLAGS += ("--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND")  # no network

# Rectangles of everything that is seen and holds no other such thing, clipped to what scrolls
RECTANGLES = """
(() => {
  const chosen = "h1,h2,h3,p,li,th,td,summary,figcaption,img,svg text,nav a,.plot";
  const boxes = [];
  for (const e of document.querySelectorAll(chosen)) {
    if (e.matches(".plot,svg text,li") && e.querySelector(chosen)) continue;
    let {left, top, right, bottom} = e.getBoundingClientRect();
    if (!e.checkVisibility() || e.closest("details:not([open]) > :not(summary)")) continue;
    for (let up = e.closest(".scroll"); up; up = up.parentElement.closest(".scroll")) {
      const frame = up.getBoundingClientRect();
      [left, right] = [Math.max(left, frame.left), Math.min(right, frame.right)];
      [top, bottom] = [Math.max(top, frame.top), Math.min(bottom, frame.bottom)];
    }
    if (right - left > 1 && bottom - top > 1)
      boxes.push([left, top, right, bottom, e.tagName + ": " + e.textContent.slice(0, 40)]);
  }
  return boxes;
})()
"""
SORTED = """
[...document.querySelector("table.sortable").tBodies[0].rows].map((row) => row.cells[2].innerText)
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    write_sweeps(write_components(root, seeds=(0, 1)))
    write_unfinished(root / ("a name that is " + "long " * 30), make_config())
    for name in ("plain", "soe_ue"):
        draw_pictures(root / name / "seed0", image_ids=range(100, 106), shade=90)
    path = root / "report.html"
    assert main([str(root), "--out", str(path), "--resamples", "20"]) == 0
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = PROGRAMS[0]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in FLAGS:
        options.add_argument(flag)
    left = {"TMPDIR": str(tmp_path_factory.mktemp("left"))}  # by the browser
    driver = webdriver.Chrome(options, webdriver.ChromeService(PROGRAMS[1], env=os.environ | left))
    yield driver
    driver.quit()


def show(browser, report, width, *, dark=False):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(report.as_uri())
    return lambda expression: browser.execute_script(f"return {expression.strip()}")


def find_overlaps(boxes):
    corners, names = np.array([b[:4] for b in boxes])[:, None], [b[4] for b in boxes]
    sides = np.minimum(corners, corners.swapaxes(0, 1))[..., 2:]
    sides = sides - np.maximum(corners, corners.swapaxes(0, 1))[..., :2]
    return [(names[i], names[j]) for i, j in np.argwhere((sides > 1).all(axis=2)) if i < j]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_overlaps_or_sticks_out(browser, report, width, dark):
    run = show(browser, report, width, dark=dark)
    boxes = run(RECTANGLES)
    assert len(boxes) > 100
    assert find_overlaps(boxes) == []
    assert run("document.documentElement.scrollWidth") == width
    paper, ink = (
        sum(map(int, run(f"getComputedStyle(document.body).{name}")[4:-1].split(",")))
        for name in ("backgroundColor", "color")
    )
    assert (paper < ink) == dark


def test_pictures_load_and_the_console_is_silent(browser, report):
    run = show(browser, report, 1280)
    widths = run(
        "Promise.all([...document.images].map((i) => i.decode().then(() => i.naturalWidth)))"
    )
    assert len(widths) >= 4
    assert min(widths) > 0
    assert browser.get_log("browser") == []


def test_tables_sort_by_click_and_by_key(browser, report):
    run = show(browser, report, 1280)
    button, nothing = "document.querySelectorAll('table.sortable th button')[2]", float("nan")

    def read():
        return [nothing if v == "—" else float(v.split()[0]) for v in run(SORTED)]

    values = np.array(read())
    run(f"{button}.click()")
    assert np.array_equal(read(), np.sort(values), equal_nan=True)  # sorts NaN to the end, too
    run(f"{button}.focus()")
    browser.switch_to.active_element.send_keys(webdriver.Keys.ENTER)
    assert np.array_equal(read(), -np.sort(-values), equal_nan=True)
    sorts = run("[...document.querySelectorAll('th[aria-sort]')].map((h) => h.ariaSort)")
    assert sorts == ["descending"]


def test_everything_is_reached_by_keyboard(browser, report):
    run = show(browser, report, 390)
    chosen = "[...document.querySelectorAll('a, button, summary, [tabindex]')]"
    hidden = "e.closest('details:not([open]) > :not(summary)')"
    wanted = run(f"{chosen}.flatMap((e, k) => {hidden} ? [] : [k])")
    seen = set()
    for _ in range(len(wanted) + 5):
        webdriver.ActionChains(browser).send_keys(webdriver.Keys.TAB).perform()
        seen.add(run(f"{chosen}.indexOf(document.activeElement)"))
    assert seen - {-1} == set(wanted)
