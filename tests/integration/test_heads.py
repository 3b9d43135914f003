"""Stage 2 and the whole recipe: heads learn on a detector that stays bit for bit as it was."""

import shutil

import pytest
import torch

from make.commands import evaluate, steps_of
from make.errors import refused
from refine.prediction_cache.cache import PredictionReader
from refine.runs.checkpoint import read_checkpoint
from refine.training.detector_module import DetectorModule
from refine.training.order_module import OrderModule

_STAGE = [
    "occlusion.batch_size=4", "occlusion.schedule.max_steps=4", "ranking=toy",
    "ranking.batch_size=4", "ranking.schedule.max_steps=3",
]  # fmt: skip
TABLE6 = ("strong", "ocfusion", "mask", "feature", "label")


def _small(names):
    sizes = {"channels": 8, "num_convs": 1, "fc_channels": 16}
    return [f"occlusion.heads.{name}.{k}={v}" for name in names for k, v in sizes.items()]


HEADS = ["occlusion=toy", *_small(["strong"]), *_STAGE]
ALL_HEADS = ["occlusion=toy_table6", *_small(TABLE6), *_STAGE]
RECIPE = ["stage=all", "fusion=soe", "trainer.max_steps=4", "trainer.val_check_interval=4", *HEADS]


@pytest.fixture(scope="module")
def detector(run):
    return run / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def heads(start, detector, tmp_path_factory):
    """Five occlusion heads, trained together, and the metrics of their validation."""
    run_dir = tmp_path_factory.mktemp("heads") / "pair"
    metrics = start(run_dir, *_on(detector), *ALL_HEADS)
    return run_dir / "checkpoints" / "last.ckpt", metrics


def _on(detector, stage="occlusion"):
    return [f"stage={stage}", f"detector_ckpt_path={detector}"]


def test_frozen_means_frozen(detector, heads):
    before, after = read_checkpoint(detector), read_checkpoint(heads[0])
    assert before.network.keys() == after.network.keys()
    for name, tensor in before.network.items():
        assert torch.equal(tensor, after.network[name]), name
    assert set(after.heads) == {*TABLE6, "category"}


def test_validation_compares_heads_with_baselines(heads):
    _, metrics = heads
    accuracies = {k: v for k, v in metrics.items() if k.startswith("pair_accuracy_")}
    names = {*TABLE6, "score", "area", "category"}
    assert accuracies.keys() == {f"pair_accuracy_{name}" for name in names}
    assert all(0 <= value <= 1 for value in accuracies.values())
    assert metrics["num_pairs"] > 0


def _assert_equal(a, b, names):
    for name in names:
        for key, tensor in a.head(name).items():
            assert torch.equal(tensor, b.head(name)[key]), (name, key)


def test_heads_trained_together_learn_as_if_alone(start, detector, heads, tmp_path):
    start(tmp_path / "alone", *_on(detector), *HEADS)
    alone = read_checkpoint(tmp_path / "alone" / "checkpoints" / "last.ckpt")
    _assert_equal(alone, read_checkpoint(heads[0]), ["strong"])


def test_an_interrupted_stage_2_resumes_bit_for_bit(start, detector, heads, tmp_path):
    with steps_of(OrderModule, cut_at=2):
        start(tmp_path / "cut", *_on(detector), *ALL_HEADS)
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    start(tmp_path / "rest", *_on(detector), *ALL_HEADS, f"ckpt_path={last}")
    rest = read_checkpoint(tmp_path / "rest" / "checkpoints" / "last.ckpt")
    _assert_equal(read_checkpoint(heads[0]), rest, TABLE6)


def test_cached_answers_of_heads_give_the_network_s_own_pq(start, detector, heads, tmp_path):
    start(tmp_path / "srm", *_on(detector, "ranking"), *_STAGE)
    srm = tmp_path / "srm" / "checkpoints" / "last.ckpt"
    named = [
        f"ckpt_path={detector}", f"occlusion_ckpts={{strong: {heads[0]}, mask: {heads[0]}}}",
        f"ranking_ckpts={{srm: {srm}}}",
    ]  # fmt: skip
    cache = tmp_path / "cache"
    save = [f"save_predictions={cache}", "predictions_form=full"]
    for name, fusion in (
        ("soe", ["fusion=soe"]),
        ("mask", ["fusion=soe", "fusion.relations.kind=occlusion", "fusion.relations.head=mask"]),
        ("srm", ["fusion=srm"]),
    ):
        chosen = [*fusion, "fusion.merge.score_thresh=0.3"]
        folders = tmp_path / f"{name}_direct", tmp_path / f"{name}_cached"
        direct = evaluate(folders[0], *named, *chosen, *save)
        save = []  # once
        cached = evaluate(folders[1], f"predictions={cache}", *chosen)
        assert direct["pq"] == cached["pq"]
        read = [(folder / "per_image.csv").read_text() for folder in folders]
        assert read[0] == read[1]
    header = PredictionReader(cache).header
    assert set(header.occlusion_heads) == {"strong", "mask"}
    assert header.ranking_heads == ("srm",)


def test_the_recipe_resumes_where_it_was_interrupted(start, tmp_path):
    run_dir = tmp_path / "recipe"
    with steps_of(OrderModule, cut_at=2):
        start(run_dir, *RECIPE)
    assert (run_dir / "panoptic" / "DONE").is_file()
    assert not (run_dir / "DONE").exists()
    with steps_of(DetectorModule) as again, steps_of(OrderModule) as rest:
        metrics = start(run_dir, *RECIPE)
    assert again == []  # the detector is not trained again
    assert rest == [2, 3]
    assert (run_dir / "DONE").is_file()
    assert metrics["num_images"] == 4  # a trial of four steps validates four
    assert start(run_dir, *RECIPE) == metrics
    with refused("another occlusion"):
        start(run_dir, *RECIPE, "occlusion.max_pairs=3")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stage=occlusion"], "detector_ckpt_path"),
        (["stage=relations"], "stage='relations': expected one of panoptic"),
        (["fusion=soe"], "stage=panoptic does not train"),
        ([*RECIPE, "ckpt_path=x.ckpt"], "resumes by itself"),
        ([*RECIPE, "all_stages=[occlusion]"], "the detector comes first"),
        (["stage=occlusion", "occlusion.max_pairs=0", "detector_ckpt_path={it}"], "max_pairs"),
        (["stage=occlusion", "detector_ckpt_path=nowhere.ckpt"], "nowhere.ckpt"),
    ],
    ids=str,
)
def test_bad_stages_are_one_line(start, detector, tmp_path, overrides, message):
    with refused(message):
        start(tmp_path, *(o.replace("{it}", str(detector)) for o in overrides))


def test_without_outlines_there_are_no_pairs(start, toy_root, detector, tmp_path):
    root = tmp_path / "toy"
    shutil.copytree(toy_root, root)
    for path in (root / "annotations").glob("instances_*.json"):
        path.unlink()
    with refused("instances"):
        start(tmp_path / "run", f"data.root={root}", "data.toy=null", *_on(detector))


def test_a_head_of_another_detector_is_refused(detector, heads, tmp_path):
    content = torch.load(detector, weights_only=True)
    next(iter(content["state_dict"].values())).add_(1)
    other = tmp_path / "other.ckpt"
    torch.save(content, other)
    for name, message in (
        ("strong", "another detector"),
        ("nobody", "has no head 'nobody'; its heads: strong, "),
    ):
        head = f"occlusion_ckpts={{{name}: {heads[0]}}}"
        with refused(message):
            evaluate(tmp_path / "e", f"ckpt_path={other}", head)
