"""Values outside the range of a knob are named with the whole key."""

import re

import pytest

from refine.options import (
    AnchorOptions,
    BackboneOptions,
    DataOptions,
    IBPPOptions,
    ImageOptions,
    OcclusionStageOptions,
    OptimizerOptions,
    RankingOptions,
    RelationsOptions,
    RoIOptions,
    ScheduleOptions,
    SemanticOptions,
)


@pytest.mark.parametrize(
    ("options", "values", "message"),
    [
        (AnchorOptions, {"sizes_px": [8, 16]}, "data.anchors.sizes_px=[8, 16]: expected five"),
        (BackboneOptions, {"dcn_stages": [0, 2]}, "model.backbone.dcn_stages=[0, 2]: expected la"),
        (BackboneOptions, {"dcn_groups": 3}, "model.backbone.dcn_groups=3: expected a divisor"),
        (BackboneOptions, {"name": "r34"}, "model.backbone.name='r34': expected one of r18, r50"),
        (BackboneOptions, {"name": "r18", "stride_in_1x1": True}, "model.backbone.stride_in_1x1"),
        (DataOptions, {"num_workers": -1}, "data.num_workers=-1: expected 0 or more"),
        (IBPPOptions, {"num_iterations": -1}, "model.ibpp.num_iterations=-1: expected 0 or more"),
        (ImageOptions, {"crop_px": [8]}, "data.image.crop_px=[8]: expected [height, width]"),
        (ImageOptions, {"train_short_sides_px": []}, "data.image.train_short_sides_px=[]"),
        (OcclusionStageOptions, {"heads": {}}, "occlusion.heads={}: expected at least one head"),
        (OptimizerOptions, {"lr_reference_batch_size": 0}, "optimizer.lr_reference_batch_size=0"),
        (RankingOptions, {"kernel_size": 4}, "ranking.kernel_size=4: expected an odd number"),
        (RelationsOptions, {"sigma": 0}, "fusion.relations.sigma=0: expected a number above 0"),
        (RoIOptions, {"cascade_iou_thresh": [2]}, "model.roi.cascade_iou_thresh=[2]: expected fr"),
        (ScheduleOptions, {"gamma": 1.5}, "schedule.gamma=1.5: expected a fraction in [0, 1]"),
        (SemanticOptions, {"channels": 48}, "model.semantic.channels=48: expected a multiple"),
    ],
)
def test_values_outside_their_range_are_named(options, values, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        options(**values)


def test_norms_with_statistics_cannot_be_checkpointed():
    for norm in ("bn", "sync_bn"):
        with pytest.raises(ValueError, match=r"backbone\.norm=gn or frozen_bn"):
            BackboneOptions(norm=norm, activation_checkpointing=True)


def test_defaults_are_not_shared():
    first, second = RoIOptions(), RoIOptions()
    first.cascade_iou_thresh.append(0.9)
    assert second.cascade_iou_thresh == [0.5, 0.6, 0.7]
