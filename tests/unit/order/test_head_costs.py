import torch

from make.batches import NUM_THINGS, tiny_network
from refine.detector.model_costs import count_costs
from refine.options import (
    OcclusionOptions,
    OcclusionStageOptions,
    RankingOptions,
    RankingStageOptions,
)
from refine.order.head_costs import INSTANCES, PAIRS, count_head_flops

SIZE = (64, 96)


def _network():
    with torch.device("meta"):
        return tiny_network(iterations=2)


def test_a_ranking_head_is_two_convolutions_of_category_maps():
    heads = {name: RankingOptions(kernel_size=5) for name in ("one", "other")}
    cells = SIZE[0] // 4 * (SIZE[1] // 4)
    convolution = 2 * cells * NUM_THINGS**2 * 5
    stage = RankingStageOptions(heads=heads)
    assert count_head_flops(_network(), stage, SIZE) == 3 * 2 * 2 * convolution


def test_an_occlusion_head_learns_on_a_detector_that_runs_forward():
    network = _network()
    channels, width, conv = network.backbone.channels, 16, 8
    every = OcclusionOptions(channels=conv, num_convs=2, fc_channels=width)
    label = OcclusionOptions(fc_channels=width, use_mask=False, use_feature=False)
    one, two, both = (
        count_head_flops(network, OcclusionStageOptions(heads=heads), SIZE)
        for heads in ({"a": label}, {"a": label, "b": label}, {"a": label, "b": every})
    )
    ends = 2 * 2 * PAIRS * (width**2 + width)
    assert two - one == 3 * ends
    first = 2 * 2 * INSTANCES * 14 * 14 * 9 * (channels + 1) * conv
    trunk = 2 * 2 * PAIRS * (9 * conv**2 * (14 * 14 + 7 * 7) + conv * 7 * 7 * width)
    assert both - one == 3 * (first + trunk + ends)
    costs = count_costs(network, SIZE)
    assert costs.dense_flops < one - 3 * ends < costs.dense_flops + costs.roi_flops
