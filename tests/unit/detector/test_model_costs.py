import pytest
import torch
from torch import nn
from torchvision.models import ResNet50_Weights, resnet50

from make.batches import NUM_CATEGORIES, NUM_THINGS, tiny_options
from make.commands import load_script
from refine.detector import model_costs as costs
from refine.detector.backbone import build_backbone
from refine.detector.deformable import DeformableConv
from refine.detector.refine_net import RefineNet
from refine.options import AnchorOptions, BackboneOptions

SIZE = (64, 96)


def _network(device="meta", **options):
    with torch.device(device):
        return RefineNet(
            tiny_options(**options),
            anchors=AnchorOptions(),
            num_things=NUM_THINGS,
            num_categories=NUM_CATEGORIES,
        )


def test_operations_are_those_that_torchvision_publishes():
    with torch.device("meta"):
        model = resnet50()
        counted = costs.count_flops(lambda: model(torch.zeros(1, 3, 224, 224)))
    published = ResNet50_Weights.IMAGENET1K_V1.meta["_ops"]  # multiply-adds in 1e9
    assert counted / 2e9 == pytest.approx(published, abs=1e-3)


def test_a_deformable_convolution_costs_its_offsets_on_top():
    with torch.device("meta"):
        conv, x = nn.Conv2d(16, 32, 3, padding=1, groups=4), torch.zeros(2, 16, 8, 12)
        plain = costs.count_flops(lambda: conv(x))
        deformable = DeformableConv(conv, groups=2)
        offsets = costs.count_flops(lambda: deformable.offsets(x))
        whole = costs.count_flops(lambda: deformable(x))
    assert plain == 2 * 2 * 8 * 12 * 32 * 4 * 9
    assert whole == plain + offsets > plain


@pytest.mark.parametrize("options", [{}, {"cascade": True}, {"iterations": 2}], ids=str)
def test_a_network_without_values_counts_like_a_real_one(options):
    def count(device):
        network = _network(device, **options)
        # convolutions on the meta device leave channels first whatever their weights are
        network.to(memory_format=torch.contiguous_format)

        def run():
            return costs.run_dense(network, SIZE) + costs.run_rois(network, SIZE, 5, 3)

        return costs.count_flops(run), costs.count_saved_bytes(network, run)

    meta, real = count("meta"), count("cpu")
    assert meta[0] == real[0]
    assert meta[1] == pytest.approx(real[1], rel=0.02)  # kernels keep a few vectors of their own


def test_iterations_cost_more_and_frozen_parameters_need_no_gradient():
    plain, cascade, two = (
        costs.count_costs(_network(**o), SIZE) for o in ({}, {"cascade": True}, {"iterations": 2})
    )
    assert plain.dense_flops == cascade.dense_flops == two.dense_flops
    for larger in (cascade, two):
        for name in ("parameters", "roi_flops", "image_bytes"):
            assert getattr(plain, name) < getattr(larger, name)
    free, frozen = (costs.count_costs(_network(frozen_stages=n), SIZE) for n in (0, 3))
    assert free.parameters == frozen.parameters
    assert free.parameters == sum(p.numel() for p in _network().parameters())
    with torch.device("meta"):
        stages = build_backbone(BackboneOptions(name="r18", norm="gn", fpn_channels=32)).stages
    stem = 3 * 64 * 49 + 2 * 64
    held = sum(p.numel() for k in ("layer1", "layer2") for p in stages[k].parameters()) + stem
    assert free.fixed_bytes - frozen.fixed_bytes == 2 * 4 * held
    assert frozen.image_bytes < free.image_bytes


def test_what_is_saved_is_counted_once_and_parameters_not_at_all():
    layer = nn.Linear(4, 4, bias=False)
    x = torch.zeros(3, 4, requires_grad=True)

    def run():
        hidden = layer(x)  # keeps x and its weight
        return hidden * hidden, hidden.sin()  # keep hidden three times

    assert costs.count_saved_bytes(layer, run) == 2 * 3 * 4 * 4


def test_the_table_has_what_the_paper_prints(capsys):
    script = load_script("model_table")
    assert script.main(["r50_panoptic_fpn"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "`r50_pan" in line)
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[0] == "`r50_panoptic_fpn`"
    assert cells[-2:] == ["39.6", "not run"]
    assert 45 < float(cells[1].split()[0]) < 47
