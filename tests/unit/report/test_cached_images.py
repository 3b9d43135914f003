import numpy as np
import pytest

from make.predictions import TOY_SIZE, refused, write_toy_cache
from make.runs import SOE, make_evaluation
from refine.fusion.evidence import Evidence
from refine.fusion.true_order import true_order
from refine.options import FusionOptions, RelationsOptions
from refine.report.cached_images import CachedImages, open_pictures
from refine.report.figure_panels import (
    draw_figure,
    find_changed_images,
    list_panels,
)
from refine.report.pair_decisions import count_decisions, list_rules


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(scope="module")
def cache(root):
    return write_toy_cache(
        root / "cache", root=root / "data", heads=("strong", "ocfusion"), rankings=("srm",)
    )


@pytest.fixture(scope="module")
def images(cache):
    return CachedImages(cache)


def test_images_and_their_truth(images):
    image_id = images.image_ids[1]
    assert images.read_image(image_id).shape == (*TOY_SIZE, 3)
    truth = images.read_truth(image_id)
    assert truth.segment_map.shape == TOY_SIZE
    fused = images.fuse(images.open_evidence(image_id), FusionOptions(), truth)
    assert fused.segment_map.shape == TOY_SIZE
    assert 0 < images.score(fused, truth) < 1


def test_a_dataset_elsewhere_is_named(cache, tmp_path):
    with refused("other images"):
        CachedImages(write_other(cache, tmp_path), data_root=None)


def write_other(cache, tmp_path):
    """The same cache, for scenes of another number."""
    import json
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(cache, copy)
    header = json.loads((copy / "header.json").read_text())
    header["checkpoint"]["config"]["data"]["toy"]["num_val"] = 2
    header["checkpoint"]["config"]["data"]["root"] = str(tmp_path / "fewer")
    (copy / "header.json").write_text(json.dumps(header))
    return copy


def test_pictures_of_two_fusions_of_one_cache(cache, images):
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


def test_pictures_need_the_head_in_the_cache(root):
    bare = write_toy_cache(root / "bare", root=root / "data")
    with refused("no occlusion head 'strong'"):
        open_pictures({"run": make_evaluation(bare, relations=SOE)}, {"run": bare})


def test_decisions_are_counted_pair_by_pair(images):
    rules = list_rules(images.reader.header)
    heads = {"strong", "ocfusion"}
    assert set(rules) == {
        "score",
        "area",
        "shr",
        "srm",
        *heads,
        *(f"{h}, sigma 2.5" for h in heads),
    }
    rules["oracle"] = RelationsOptions(kind="oracle")
    counts = count_decisions(images, rules, fusion=FusionOptions())
    first_on_top, second_on_top, unknown = count_by_loops(images)
    assert min(first_on_top, second_on_top) >= 1
    for rule in counts.values():
        assert rule.confusion.sum(axis=1).tolist() == [first_on_top, second_on_top]
        assert rule.num_unknown == unknown
    assert counts["oracle"].accuracy == 1
    assert counts["score"].confusion.tolist() == [[first_on_top, 0], [second_on_top, 0]]
    assert counts["strong"].confusion.tolist() == [[0, first_on_top], [0, second_on_top]]


def count_by_loops(images):
    """True orders of every pair of which a fifth of either mask lies in the other."""
    counts = [0, 0, 0]
    for image_id in images.image_ids:
        evidence: Evidence = images.open_evidence(image_id)
        instances = evidence.instances(FusionOptions().merge)
        masks = []
        for instance in instances:
            mask = np.zeros(TOY_SIZE, bool)
            mask[instance.crop.slices] = instance.crop.mask
            masks.append(mask)
        for j in range(len(masks)):
            for i in range(j):
                shared = np.count_nonzero(masks[i] & masks[j])
                if shared < 0.2 * min(masks[i].sum(), masks[j].sum()) or not shared:
                    continue
                (order,) = true_order(instances, np.array([[i, j]]), images.read_truth(image_id))
                counts[0 if order > 0 else 1 if order < 0 else 2] += 1
    return counts


def test_no_pairs_have_no_accuracy(images):
    (rule,) = count_decisions(
        images, {"score": RelationsOptions()}, fusion=FusionOptions(), image_ids=[]
    ).values()
    assert np.isnan(rule.accuracy)


def test_a_missing_head_is_refused(images):
    with refused("no occlusion head 'mine'"):
        count_decisions(
            images,
            {"mine": RelationsOptions(kind="occlusion", head="mine")},
            fusion=FusionOptions(),
        )


def test_figures_have_a_panel_a_rule(images):
    panels = list_panels(images, FusionOptions())
    assert list(panels) == ["heuristic", "SRM", "OCFusion", "SOE + UE"]
    changes = find_changed_images(images, panels)
    assert changes
    sizes = [abs(after - before) for _, before, after in changes]
    assert sizes == sorted(sizes, reverse=True)
    for is_close_up in (False, True):
        picture = draw_figure(images, changes[0][0], panels, is_close_up=is_close_up)
        assert picture.dtype == np.uint8
        assert picture.shape[1] > 6 * 384


def test_a_panel_without_its_head_is_grey_and_says_so(root):
    cache = write_toy_cache(root / "strong", root=root / "data", heads=("strong",))
    images = CachedImages(cache)
    panels = list_panels(images, FusionOptions())
    assert list(panels)[1:3] == [
        "SRM (not available)",
        "OCFusion (not available)",
    ]
    picture = draw_figure(images, images.image_ids[0], panels, is_close_up=False)
    width = (picture.shape[1] + 4) // 6
    srm = picture[24:, 3 * width + 8 : 4 * width - 8]
    assert (srm == 128).all()


def test_nothing_to_compare_is_one_line(root):
    images = CachedImages(write_toy_cache(root / "none", root=root / "data"))
    panels = dict(list_panels(images, FusionOptions()))
    del panels["heuristic"]
    with refused("nothing to compare", "SRM, OCFusion, SOE + UE lack"):
        find_changed_images(images, panels)
