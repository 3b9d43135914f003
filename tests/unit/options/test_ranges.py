"""Values outside the range of a knob are named with the whole key."""

import re

import pytest

from refine import options
from refine.config.instantiate import to_options

ONE = options.IBPPOptions(num_iterations=1)
TWO, FOUR = (options.IBPPOptions(num_iterations=n, carry="predictions") for n in (2, 4))
CASCADE = options.RoIOptions(cascade=True)
FEW, MANY = options.LossWeights(roi_stages=[1.0]), options.LossWeights(semantic_iterations=[1, 1])
NO_INPUT = dict.fromkeys(("use_mask", "use_feature", "use_label"), False)
CROSS = {"direction": "ins_to_sem", "carry": "features"}
BOXES = {"direction": "none", "project_to_box": True}
CHECKPOINTED = {"activation_checkpointing": True}
CHECKPOINTING = "model.backbone.activation_checkpointing=True: expected backbone.norm=gn or frozen"
WEIGHTS, IOUS = "model.loss_weights", "model.roi.cascade_iou_thresh"


def test_records_have_young_settings_only_where_they_are_set():
    plain = options.to_plain({"data": options.DataOptions(), "trainer": options.TrainerOptions()})
    assert not {"train", "val"} & plain["data"].keys()
    assert "fast_dev_run" not in plain["trainer"]
    assert plain["data"]["image"]["flip_prob"] == 0.5
    given = options.DataOptions(val=options.SplitOptions(images="photos"))
    assert options.to_plain(given)["val"]["images"] == "photos"
    assert to_options(options.to_plain(given), options.DataOptions) == given


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("Anchor", {"sizes_px": [8, 16]}, "data.anchors.sizes_px=[8, 16]: expected five"),
        ("Backbone", {"dcn_stages": [0, 2]}, "model.backbone.dcn_stages=[0, 2]: expected layers"),
        ("Backbone", {"dcn_groups": 3}, "model.backbone.dcn_groups=3: expected a divisor"),
        ("Backbone", {"name": "r51"}, "model.backbone.name='r51': expected one of r18, r34"),
        ("Backbone", {"name": "r18", "stride_in_1x1": True}, "model.backbone.stride_in_1x1=True"),
        ("Backbone", CHECKPOINTED | {"norm": "bn"}, CHECKPOINTING),
        ("Backbone", CHECKPOINTED | {"norm": "sync_bn"}, CHECKPOINTING),
        ("Data", {"num_workers": -1}, "data.num_workers=-1: expected a number in 0 .. 1024"),
        ("Data", {"batch_size": 10**9}, "data.batch_size=1000000000: expected a number in 1 .."),
        (
            "IBPP",
            {"num_iterations": -1},
            "model.ibpp.num_iterations=-1: expected a number in 0 .. 64",
        ),
        ("IBPP", {"detach": "all"}, "model.ibpp.detach='all': expected one of none, sem_to_ins"),
        ("IBPP", BOXES, "model.ibpp.project_to_box=True: expected false with ibpp.direction=none"),
        ("IBPP", CROSS, "model.ibpp.direction='ins_to_sem': expected another direction"),
        ("Image", {"crop_px": [8]}, "data.image.crop_px=[8]: expected null or [height, width]"),
        ("Image", {"eval_short_side_px": 10**6}, "data.image.eval_short_side_px=1000000"),
        ("Image", {"eval_max_long_side_px": 0}, "data.image.eval_max_long_side_px=0"),
        ("Image", {"train_short_sides_px": []}, "data.image.train_short_sides_px=[]"),
        ("Model", {"ibpp": ONE}, "model.semantic.channels=128: expected backbone.fpn_channels=256"),
        ("Model", {"ibpp": TWO, "loss_weights": FEW}, f"{WEIGHTS}.roi_stages=[1.0]: expected 2 w"),
        ("Model", {"loss_weights": MANY}, f"{WEIGHTS}.semantic_iterations=[1, 1]: expected 1 w"),
        ("Model", {"ibpp": FOUR, "roi": CASCADE}, f"{IOUS}=[0.5, 0.6, 0.7]: expected one IoU"),
        ("Occlusion", NO_INPUT, "occlusion.use_mask=False: expected at least one input"),
        ("OcclusionStage", {"heads": {}}, "occlusion.heads={}: expected at least one head"),
        ("Optimizer", {"lr_reference_batch_size": 0}, "optimizer.lr_reference_batch_size=0"),
        ("Ranking", {"kernel_size": 4}, "ranking.kernel_size=4: expected an odd number"),
        ("Relations", {"sigma": 0}, "fusion.relations.sigma=0: expected a number above 0"),
        ("RoI", {"cascade_iou_thresh": [2]}, f"{IOUS}=[2]: expected fractions in [0, 1]"),
        ("Optimizer", {"lr": float("inf")}, "optimizer.lr=inf: expected a number above 0"),
        ("Optimizer", {"momentum": 5}, "optimizer.momentum=5: expected a fraction in [0, 1]"),
        ("Schedule", {"max_steps": 0}, "schedule.max_steps=0: expected a number above 0"),
        ("Schedule", {"milestones": [2]}, "schedule.milestones=[2]: expected fractions"),
        ("Schedule", {"gamma": 1.5}, "schedule.gamma=1.5: expected a fraction in [0, 1]"),
        ("Toy", {"height_px": 0}, "data.toy.height_px=0: expected a number in 1 .. 4096"),
        ("Trainer", {"max_steps": 0}, "trainer.max_steps=0: expected a number above 0, or -1"),
        ("Trainer", {"precision": "foo"}, "trainer.precision='foo': expected one of 32, 16"),
        ("Trainer", {"precision": "bf16-true"}, "trainer.precision='bf16-true': expected one"),
        ("Semantic", {"channels": 48}, "model.semantic.channels=48: expected a multiple"),
    ],
)
def test_values_outside_their_range_are_named(name, values, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        getattr(options, f"{name}Options")(**values)


@pytest.mark.parametrize(("before", "now"), [(False, "none"), (True, "both"), ("True", "both")])
def test_detach_is_read_as_it_was_written_before(before, now):
    assert to_options({"detach": before}, options.IBPPOptions).detach == now


def test_an_embedding_may_have_another_width_than_the_pyramid():
    narrow = options.SemanticOptions(channels=128)
    crossing = options.IBPPOptions(num_iterations=1, join="embedding")
    assert options.ModelOptions(ibpp=crossing, semantic=narrow).semantic.channels == 128


def test_defaults_are_not_shared():
    first, second = options.RoIOptions(), options.RoIOptions()
    first.cascade_iou_thresh.append(0.9)
    assert second.cascade_iou_thresh == [0.5, 0.6, 0.7]
