import pytest
import torch

from refine.detector.blocks import group_norm
from refine.detector.box_stage import BoxHead
from refine.detector.mask_head import MaskHead
from refine.detector.semantic_head import SemanticPredictor, SemanticTrunk


@pytest.mark.parametrize("norm", ["none", "gn"])
@pytest.mark.parametrize("count", [0, 4, 19])
def test_mask_of_a_label_is_the_channel_a_full_predictor_would_give(norm, count):
    torch.manual_seed(0)
    head = MaskHead(32, 5, channels=32, num_convs=2, norm=norm)
    head.predictor_bias.data.normal_()
    x, labels = torch.randn(count, 32, 14, 14), torch.randint(5, (count,))
    hidden = torch.relu(head.deconv(head.convs(x)))
    every = torch.nn.functional.conv2d(
        hidden, head.predictor_weight[:, :, None, None], head.predictor_bias
    )
    torch.testing.assert_close(head(x, labels), every[torch.arange(count), labels])


def test_semantic_head_sums_levels_at_stride_4():
    trunk = SemanticTrunk(16, 32, (4, 8, 16, 32))
    feature = trunk([torch.randn(2, 16, 64 // s, 96 // s) for s in (1, 2, 4, 8)])
    assert feature.shape == (2, 32, 64, 96)
    assert SemanticPredictor(32, 7)(feature).shape == (2, 7, 64, 96)
    # log2(stride / 4) blocks a level, at least one
    convs = [
        [m for m in level.modules() if isinstance(m, torch.nn.Conv2d)] for level in trunk.levels
    ]
    assert [len(of_level) for of_level in convs] == [1, 1, 2, 3]


@pytest.mark.parametrize(("channels", "groups"), [(32, 4), (64, 8), (96, 12), (128, 32), (256, 32)])
def test_narrow_layers_keep_eight_channels_a_group(channels, groups):
    norm = group_norm(channels)
    assert (norm.num_groups, norm.num_channels) == (groups, channels)


@pytest.mark.parametrize("count", [0, 5, 20])
def test_box_head_reads_either_memory_format(count):
    head = BoxHead(3, 4, fc_channels=16).double()
    x = torch.randn(count, 3, 7, 7, dtype=torch.float64)
    results = []
    for form in (torch.contiguous_format, torch.channels_last):
        head.zero_grad()
        leaf = x.clone(memory_format=form).requires_grad_()
        logits, deltas = head(leaf)
        (logits.sum() + deltas.square().sum()).backward()
        results.append([logits, deltas, leaf.grad, head.fc1.weight.grad])
    torch.testing.assert_close(*results)
