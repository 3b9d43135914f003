import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from make.errors import refused
from make.predictions import TOY_SIZE, write_toy_cache
from make.runs import SOE, make_evaluation
from refine.fusion.true_order import true_order
from refine.options import FusionOptions, RelationsOptions
from refine.report.cached_images import CachedImages, count_decisions, list_rules, open_pictures
from refine.report.figure_panels import draw_figure, find_changed_images, list_panels


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(scope="module")
def images(root):
    heads = {"heads": ("strong", "ocfusion"), "rankings": ("srm",)}
    return CachedImages(write_toy_cache(root / "cache", root=root / "data", **heads))


@pytest.fixture(scope="module")
def bare(root):
    """A cache without heads."""
    return write_toy_cache(root / "bare", root=root / "data")


def test_images_and_their_truth(images):
    image_id = images.image_ids[1]
    assert images.read_image(image_id).shape == (*TOY_SIZE, 3)
    truth = images.read_truth(image_id)
    fused = images.fuse(images.open_evidence(image_id), FusionOptions(), truth)
    assert fused.segment_map.shape == truth.segment_map.shape == TOY_SIZE
    assert 0 < images.score(fused, truth) < 1


def test_a_cache_of_other_scenes_is_refused(bare, tmp_path):
    copy = shutil.copytree(bare, tmp_path / "copy")
    header = json.loads((copy / "header.json").read_text())
    data = header["checkpoint"]["config"]["data"]
    data["toy"]["num_val"], data["root"] = 2, str(tmp_path / "fewer")
    (copy / "header.json").write_text(json.dumps(header))
    with refused("other images"):
        CachedImages(copy)


def test_pictures_of_two_fusions_of_one_cache(images, bare):
    cache = images.reader.folder
    configs = {
        "baseline": make_evaluation(cache),
        "compared": make_evaluation(cache, relations=SOE),
    }
    source = open_pictures(configs, {"baseline": cache, "compared": cache})
    differs = []
    for image_id in images.image_ids:
        pictures = source(image_id)
        assert list(pictures) == ["ground truth", "baseline", "compared"]
        assert all(p.shape == (4 * TOY_SIZE[0], 4 * TOY_SIZE[1], 3) for p in pictures.values())
        differs.append(not np.array_equal(pictures["baseline"], pictures["compared"]))
    assert any(differs)
    with refused("no occlusion head 'strong'"):
        open_pictures({"run": make_evaluation(bare, relations=SOE)}, {"run": bare})


def test_decisions_are_counted_pair_by_pair(images):
    rules = list_rules(images.reader.header)
    softs = {f"{head}, sigma 2.5" for head in ("strong", "ocfusion")}
    assert {*rules} == {"score", "area", "shr", "srm", "strong", "ocfusion", *softs}
    rules["oracle"] = RelationsOptions(kind="oracle")
    frame = count_decisions(images, rules)
    first_on_top, second_on_top, unknown = count_by_loops(images)
    assert min(first_on_top, second_on_top) >= 1
    assert (frame["unordered"] == unknown).all()
    counts = {rule: frame.loc[rule].tolist()[:4] for rule in rules}
    for count in counts.values():
        assert [count[0] + count[1], count[2] + count[3]] == [first_on_top, second_on_top]
    assert frame["right"]["oracle"] == 1
    assert counts["score"] == [first_on_top, 0, second_on_top, 0]
    assert counts["strong"] == [0, first_on_top, 0, second_on_top]
    nothing = SimpleNamespace(reader=images.reader, image_ids=[])
    assert count_decisions(nothing, rules)["right"].isna().all()
    with refused("no occlusion head 'mine'"):
        count_decisions(images, {"mine": RelationsOptions(kind="occlusion", head="mine")})


def count_by_loops(images):
    """True orders of every pair of which a fifth of either mask lies in the other."""
    counts = [0, 0, 0]
    for image_id in images.image_ids:
        instances = images.open_evidence(image_id).instances(FusionOptions().merge)
        masks = np.zeros((len(instances), *TOY_SIZE), bool)
        for mask, instance in zip(masks, instances, strict=True):
            mask[instance.crop.slices] = instance.crop.mask
        for j in range(len(masks)):
            for i in range(j):
                shared = np.count_nonzero(masks[i] & masks[j])
                if shared < 0.2 * min(masks[i].sum(), masks[j].sum()) or not shared:
                    continue
                (order,) = true_order(instances, np.array([[i, j]]), images.read_truth(image_id))
                counts[0 if order > 0 else 1 if order < 0 else 2] += 1
    return counts


def test_figures_have_a_panel_per_rule(images):
    panels = list_panels(images, FusionOptions())
    assert list(panels) == ["heuristic", "SRM", "OCFusion", "SOE + UE"]
    changes = find_changed_images(images, panels)
    sizes = [abs(after - before) for _, before, after in changes]
    assert sizes
    assert sizes == sorted(sizes, reverse=True)
    for is_close_up in (False, True):
        picture = draw_figure(images, changes[0][0], panels, is_close_up=is_close_up)
        assert picture.dtype == np.uint8
        assert picture.shape[1] > 6 * 384


def test_a_panel_without_its_head_is_grey_and_says_so(bare):
    images = CachedImages(bare)
    panels = dict(list_panels(images, FusionOptions()))
    assert list(panels)[1:3] == ["SRM (not available)", "OCFusion (not available)"]
    picture = draw_figure(images, images.image_ids[0], panels, is_close_up=False)
    width = (picture.shape[1] + 4) // 6
    assert (picture[24:, 3 * width + 8 : 4 * width - 8] == 128).all()
    with refused("nothing to compare", "SRM, OCFusion, SOE + UE lack"):
        find_changed_images(images, panels)
