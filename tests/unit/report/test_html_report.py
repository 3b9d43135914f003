import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest

from made_up_ablation import (
    draw_pictures,
    make_config,
    write_components,
    write_entry,
    write_sweeps,
    write_unfinished,
)
from refine.errors import RefineError
from refine.report.ablation import choose_dataset
from refine.report.curves import Point, Series
from refine.report.entries import read_entries
from refine.report.html.charts import MAX_SERIES, Chart, draw_chart
from refine.report.html.elements import Cell, sortable_table
from refine.report.html.pictures import PictureBudget, draw_changes, read_from_folders
from refine.report.html.report import ReportOptions, build_report
from refine.report.images import ImageChange

VOID = {"meta", "link", "img", "br"}


class Outline(HTMLParser):
    """Tags of a page, with a check that they nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.ids = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        self.addresses += [values[k] for k in ("src", "href") if k in values]
        self.ids += [values["id"]] if "id" in values else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def build(root, **options):
    entries, problems = read_entries([root])
    return build_report(
        entries,
        problems,
        choose_dataset(entries),
        options=ReportOptions(num_resamples=20, **options),
        open_pictures=lambda *_: None,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = write_sweeps(write_components(tmp_path_factory.mktemp("runs"), seeds=(0,)))
    for name in ("plain", "soe_ue"):
        draw_pictures(root / name / "seed0", image_ids=range(100, 106), shade=90)
    write_unfinished(root / "failed", make_config(), error="<b>boom</b> & co")
    return root


def test_the_page_is_whole_and_needs_nothing_else(runs):
    text = build(runs)
    outline = Outline(text)
    assert all(a.startswith(("#", "data:")) for a in outline.addresses)
    assert {a[1:] for a in outline.addresses if a.startswith("#")} <= set(outline.ids)
    assert len(set(outline.ids)) == len(outline.ids)
    assert outline.tags.count("h1") == 1
    assert "url(" not in text
    for title in ("Toy Table 3", "Soft occlusion", "Unknown Erasing", "Worst changes", "All runs"):
        assert title in text


def test_what_runs_say_is_text_not_markup(runs):
    text = build(runs)
    assert "<b>boom" not in text
    assert "&lt;b&gt;boom&lt;/b&gt; &amp; co" in text


def test_the_same_runs_give_the_same_page(runs):
    assert build(runs) == build(runs)


def test_without_any_run_there_is_still_a_page(tmp_path):
    text = build(tmp_path)
    Outline(text)
    assert "0 finished of 0 runs" in text
    assert f"{tmp_path}: no run in it" in text


def test_baseline_and_compared_run_can_be_named(runs):
    names = {"baseline": runs / "ibpp3" / "seed0", "compared": runs / "soe" / "seed0"}
    text = build(runs, **names)
    assert f"{names['compared']} against {names['baseline']}" in text
    for wrong in (runs / "failed", runs / "nowhere"):
        with pytest.raises(RefineError, match="no finished run among those given"):
            build(runs, baseline=wrong)


def test_runs_of_other_images_are_not_compared_picture_by_picture(runs, tmp_path):
    write_entry(tmp_path / "a", make_config(iterations=0, cascade=False))
    write_entry(tmp_path / "b", make_config(num_val=5), num_images=5)
    text = build(tmp_path, baseline=tmp_path / "a", compared=tmp_path / "b")
    assert "Not to be drawn: " in text
    assert "different images" in text


def test_categories_show_their_change(runs):
    rows = re.findall(r'<tr><th scope="row">(c\d)</th>.*?</tr>', build(runs))
    assert "c0" in rows
    line = re.search(r'<tr><th scope="row">c0</th>(.*?)</tr>', build(runs))[1]
    assert re.search(r">\+\d+\.\d<", line)
    assert 'class="gain"' in line


def test_a_table_cell_carries_what_it_is_sorted_by():
    text = sortable_table("T", ["", "n"], [[Cell("<a>"), Cell("50 %", 0.5), Cell("—", None)]])
    assert '<th scope="row">&lt;a&gt;</th>' in text
    assert '<td data-order="0.5">50 %</td><td data-order="">—</td>' in text


def chart(points, **more):
    series = [Series("a & b", [Point(*p) for p in points])]
    return Chart(title="t", x_name="x", y_name="y", series=series, **more)


@pytest.mark.parametrize(
    ("points", "is_log"),
    [
        ([(0.001, 0.5), (100.0, 0.6)], True),
        ([(2.0, 0.5), (4.0, 0.6)], True),
        ([(0, 0.5), (1, 0.5)], False),
        ([(0, 0.5, 0.1), (1, 0.6, 0.0)], False),
        ([(k / 10, 0.5) for k in range(12)], False),
    ],
)
def test_points_and_ticks_lie_within_the_picture(points, is_log):
    text = draw_chart(chart(points, is_log=is_log))
    svg = re.search(r"<svg class=\"plot\".*?</svg>", text)[0]
    xs = [float(v) for v in re.findall(r'(?:x|x1|x2|cx)="([\d.]+)"', svg)]
    ys = [float(v) for v in re.findall(r'(?:y|y1|y2|cy)="([\d.]+)"', svg)]
    assert min(xs) >= 0
    assert max(xs) <= 420
    assert min(ys) >= 0
    assert max(ys) <= 260
    assert svg.count("<circle") == len(points)
    assert svg.count('text-anchor="middle"') >= 3
    assert "a &amp; b" in svg


def test_more_series_than_colours_are_counted():
    series = [Series(str(k), [Point(0, 0.5), Point(1, 0.6)]) for k in range(MAX_SERIES + 2)]
    text = draw_chart(Chart(title="t", x_name="x", y_name="y", series=series))
    assert text.count("<polyline") == MAX_SERIES
    assert "2 more series" in text
    assert text.count('<tr><th scope="row">') == 2 * len(series)


def test_pictures_are_found_by_the_id_in_their_name(tmp_path):
    draw_pictures(tmp_path / "a", image_ids=(7, 8), shade=10)
    draw_pictures(tmp_path / "b", image_ids=(8, 9), shade=200)
    source, common = read_from_folders(
        {"first": tmp_path / "a" / "pictures", "second": tmp_path / "b" / "pictures"}
    )
    assert common == {8}
    pictures = source(8)
    assert list(pictures) == ["first", "second"]
    assert pictures["second"].shape == (60, 240, 3)
    assert read_from_folders({"none": tmp_path / "none"})[1] == set()


def test_pictures_stop_when_the_page_is_full():
    changes = [ImageChange(image_id=k, before=0.5, after=0.4) for k in range(3)]
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    one = len(
        draw_changes(
            "t", changes[:1], lambda _: {"a": noise}, is_strip=False, budget=PictureBudget()
        )
    )
    text = draw_changes(
        "t", changes, lambda _: {"a": noise}, is_strip=False, budget=PictureBudget(2 * one)
    )
    assert text.count("<img") in (1, 2)
    assert "no room for more pictures" in text


def test_style_and_script_are_part_of_the_package():
    for name in ("style.css", "sort.js"):
        assert files("refine.report.html").joinpath(name).read_text()
