import re
from html.parser import HTMLParser

import numpy as np
import pytest

from make.runs import (
    draw_pictures,
    make_config,
    write_components,
    write_entry,
    write_sweeps,
    write_unfinished,
)
from refine.errors import RefineError
from refine.report.collect import read_runs
from refine.report.page import ReportOptions, build_page, embed_pictures
from refine.report.tables import choose_dataset

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
    runs, problems = read_runs([root])
    options = ReportOptions(num_resamples=20, **options)
    return build_page(runs, problems, choose_dataset(runs), options=options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = write_sweeps(write_components(tmp_path_factory.mktemp("runs"), seeds=(0,)))
    for name in ("plain", "soe_ue"):
        draw_pictures(root / name / "seed0", image_ids=range(100, 106), shade=90)
    write_unfinished(root / "<b>boom</b> & co", make_config())
    return root


@pytest.fixture(scope="module")
def page(runs):
    return build(runs)


def test_the_page_is_whole_needs_nothing_else_and_is_the_same_again(runs, page):
    outline = Outline(page)
    assert all(a.startswith(("#", "data:")) for a in outline.addresses)
    assert {a[1:] for a in outline.addresses if a.startswith("#")} <= set(outline.ids)
    assert len(set(outline.ids)) == len(outline.ids)
    assert outline.tags.count("h1") == 1
    assert set(re.findall(r"url\((.)", page)) == {"#"}
    for title in ("Toy Table 3", "Soft occlusion", "Unknown Erasing", "Worst changes", "All runs"):
        assert title in page
    assert "<b>boom" not in page  # what runs say is text, not markup
    assert "&lt;b&gt;boom&lt;/b&gt; &amp; co" in page
    assert build(runs) == page


def test_cells_show_changes_and_carry_what_they_are_sorted_by(page):
    category, part = (
        re.search(rf'<tr><th scope="row">{name}</th>(.*?)</tr>', page, re.DOTALL)[1]
        for name in ("c0", r"\+ IBPP")
    )
    assert re.search(r'data-order="0\.\d+">\+\d+\.\d<', category)
    assert 'class="gain"' in category
    value, interval = re.search(r'data-order="(0\.\d+)">[\d.]+<br><small>\[(.*?)\]', part).groups()
    low, high = map(float, interval.split(", "))
    assert low <= 100 * float(value) <= high
    assert '<td data-order="">—</td>' in page  # a run without results


def test_without_any_run_there_is_still_a_page(tmp_path):
    text = build(tmp_path)
    Outline(text)
    assert "0 finished of 0 runs" in text
    assert f"{tmp_path}: no run in it" in text


def test_baseline_and_compared_run_can_be_named(runs):
    names = {"baseline": runs / "ibpp3" / "seed0", "compared": runs / "soe" / "seed0"}
    text = build(runs, **names)
    assert f"{names['compared']} against {names['baseline']}" in text
    for wrong in (runs / "<b>boom</b> & co", runs / "nowhere"):
        with pytest.raises(RefineError, match="no finished run among those given"):
            build(runs, baseline=wrong)


def test_runs_of_other_images_are_not_compared_picture_by_picture(tmp_path):
    write_entry(tmp_path / "a", make_config(iterations=0, cascade=False))
    write_entry(tmp_path / "b", make_config(num_val=5), num_images=5)
    text = build(tmp_path, baseline=tmp_path / "a", compared=tmp_path / "b")
    assert "Cannot be drawn: " in text
    assert "different images" in text


def test_pictures_stop_when_the_page_is_full():
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    budget = [100_000]
    ((caption, address, *size),) = embed_pictures({"a": noise}, 48, budget)
    assert (caption, size) == ("a", [48, 32])
    used = 100_000 - budget[0]
    assert used == len(address.partition(",")[2])
    assert embed_pictures({"a": noise, "b": noise}, 48, [2 * used - 1]) is None
