"""The report in a real browser: no complaint, tables sort, pictures load, nothing overlaps."""

import pytest

from browser import CHROMIUM, open_page
from made_up_ablation import (
    draw_pictures,
    make_config,
    write_components,
    write_sweeps,
    write_unfinished,
)
from refine.report.ablation import choose_dataset
from refine.report.entries import read_entries
from refine.report.html.report import ReportOptions, build_report

pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="no chromium on this machine (apt install chromium)"
    ),
]

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
    write_unfinished(root / "failed", make_config(), error="a reason that is " + "long " * 30)
    for name in ("plain", "soe_ue"):
        draw_pictures(root / name / "seed0", image_ids=range(100, 106), shade=90)
    entries, problems = read_entries([root])
    text = build_report(
        entries,
        problems,
        choose_dataset(entries),
        options=ReportOptions(num_resamples=20),
        open_pictures=lambda *_: None,
    )
    path = root / "report.html"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def page():
    with open_page() as opened:
        yield opened


def find_overlaps(boxes):
    boxes = sorted(boxes, key=lambda b: b[1])
    overlaps = []
    for k, (left, top, right, bottom, name) in enumerate(boxes):
        for other in boxes[k + 1 :]:
            if other[1] >= bottom - 1:
                break
            if (
                min(right, other[2]) - max(left, other[0]) > 1
                and min(bottom, other[3]) - max(top, other[1]) > 1
            ):
                overlaps.append((name, other[4]))
    return overlaps


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_overlaps_or_sticks_out(page, report, width, dark):
    page.show(width, dark=dark)
    page.open(report)
    boxes = page.run(RECTANGLES)
    assert len(boxes) > 100
    assert find_overlaps(boxes) == []
    assert page.run("document.documentElement.scrollWidth") == width
    paper, ink = page.run(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (sum(map(int, paper[4:-1].split(","))) < sum(map(int, ink[4:-1].split(",")))) == dark


def test_pictures_load_and_the_console_is_silent(page, report):
    page.show(1280)
    page.open(report)
    widths = page.run(
        "Promise.all([...document.images].map((i) => i.decode().then(() => i.naturalWidth)))"
    )
    assert len(widths) >= 4
    assert min(widths) > 0
    assert page.complaints == []


def test_tables_sort_by_click_and_by_key(page, report):
    page.show(1280)
    page.open(report)
    values = page.run(SORTED)
    numbers = [float(v.split()[0]) for v in values if v != "—"]
    page.run("document.querySelectorAll('table.sortable th button')[2].click()")
    up = page.run(SORTED)
    assert [float(v.split()[0]) for v in up if v != "—"] == sorted(numbers)
    assert up[len(numbers) :] == ["—"] * (len(values) - len(numbers))
    page.run("document.querySelectorAll('table.sortable th button')[2].focus()")
    page.press("Enter", 13)
    down = page.run(SORTED)
    assert [float(v.split()[0]) for v in down if v != "—"] == sorted(numbers, reverse=True)
    assert down[len(numbers) :] == up[len(numbers) :]
    sorts = page.run("[...document.querySelectorAll('th[aria-sort]')].map((h) => h.ariaSort)")
    assert sorts == ["descending"]


def test_everything_is_reached_by_keyboard(page, report):
    page.show(390)
    page.open(report)
    wanted = page.run("document.querySelectorAll('a, button, summary, [tabindex]').length")
    seen = set()
    for _ in range(wanted + 5):
        page.press("Tab", 9)
        seen.add(
            page.run(
                "[...document.querySelectorAll('a, button, summary, [tabindex]')]"
                ".indexOf(document.activeElement)"
            )
        )
    hidden = page.run(
        "[...document.querySelectorAll('details:not([open]) > :not(summary)')].map((e) =>"
        " (e.matches('[tabindex]') ? 1 : 0) + e.querySelectorAll('button, [tabindex]').length)"
        ".reduce((a, b) => a + b, 0)"
    )
    assert len(seen - {-1}) == wanted - hidden
