"""Operations of training order heads on a frozen detector, counted without values."""

from dataclasses import asdict
from functools import partial

import torch

from refine.detector.mask_head import MASK_INPUT_SIDE
from refine.detector.model_costs import count_flops, run_dense, run_rois
from refine.detector.refine_net import RefineNet
from refine.options import OcclusionStageOptions, RankingStageOptions
from refine.order.heads import build_head
from refine.types import STRIDE

INSTANCES, PAIRS = 10, 4
"""Instances and pairs of an image: the means, rounded up, of those with a pair among 100 of COCO's
(9.7 and 3.6)."""


def count_head_flops(
    network: RefineNet, stage: OcclusionStageOptions | RankingStageOptions, size: tuple[int, int]
) -> int:
    """Operations of a stage on one image of ``(height, width)``, multiples of 32.

    Those of the heads count three times, as forward and backward; before occlusion heads the
    detector runs forward once, with the masks of the true boxes. Ranking heads read true outlines.

    Args:
        network: The detector, on the meta device.
        stage: Heads of ``stage=occlusion`` or ``stage=ranking``.
        size: Size of the padded image.
    """
    channels, num_things, side = network.backbone.channels, network.num_things, MASK_INPUT_SIDE
    is_ranking = isinstance(stage, RankingStageOptions)
    kind = "ranking" if is_ranking else "occlusion"
    with torch.device("meta"):
        heads = [
            build_head(
                {"kind": kind, "options": asdict(options)},
                in_channels=channels,
                num_things=num_things,
            )
            for options in stage.heads.values()
        ]
        maps = torch.empty(1, num_things, size[0] // STRIDE, size[1] // STRIDE)
        seen = (
            torch.empty(INSTANCES, channels, side, side),
            torch.empty(INSTANCES, 2 * side, 2 * side),
            torch.zeros(INSTANCES, dtype=torch.int64),
            torch.zeros(2 * PAIRS, 2, dtype=torch.int64),  # each in both orders
        )
    inputs = (maps,) if is_ranking else seen
    learned = 3 * sum(count_flops(partial(head, *inputs)) for head in heads)
    if is_ranking:
        return learned
    return learned + count_flops(partial(_observe, network, size))


def _observe(network: RefineNet, size: tuple[int, int]) -> None:
    run_dense(network, size)
    run_rois(network, size, 0, INSTANCES)
