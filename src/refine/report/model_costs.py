"""What a network costs: parameters, operations, memory of a training step. Nothing is computed.

The network lies on the meta device, where tensors have a shape and no values. So what depends on
values is fixed: how many RoIs there are, and that every thing category is on the canvas.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from refine.detector.box_stage import BOX_SIDE
from refine.detector.mask_head import MASK_INPUT_SIDE
from refine.detector.refine_net import RefineNet
from refine.types import STRIDE

_FLOAT_BYTES = 4
_LOSS_TEMPORARIES = 3
"""Full-size tensors in a semantic loss at its peak: logits, their softmax, its gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCosts:
    """Costs of one network at one image size.

    Attributes:
        parameters: All of them.
        dense_flops: Operations on an image without its RoIs, a multiply-add being two: backbone,
            pyramid, proposal head, semantic trunk and its predictor.
        roi_flops: Of box heads on every proposal, mask heads on every detection, and the semantic
            heads of the iterations. Without sampling (RoIAlign, ROI-Flatten), NMS and fusion.
        fixed_bytes: In training, whatever the batch: parameters, gradients, one momentum, and the
            largest temporaries (the loss of one full-size semantic map).
        image_bytes: In training for each image: what waits for the backward pass, in float32.
    """

    parameters: int
    dense_flops: int
    roi_flops: int
    fixed_bytes: int
    image_bytes: int

    def training_bytes(self, num_images: int) -> int:
        """Least memory of a training step; allocators and libraries come on top."""
        return self.fixed_bytes + num_images * self.image_bytes


def count_costs(network: RefineNet, size: tuple[int, int]) -> ModelCosts:
    """Count a network at the numbers of RoIs of its options.

    Args:
        network: On the meta device.
        size: ``(height, width)`` of the network's input, multiples of 32.
    """
    roi, proposals = network.options.roi, network.options.proposals
    sampled, positive = roi.samples_per_image, int(roi.samples_per_image * roi.positive_fraction)
    values = [p.numel() for p in network.parameters()]
    learning = [p.numel() for p in network.parameters() if p.requires_grad]
    num_logits = network.ibpp.semantic_predictor.predictor.out_channels
    temporary = _LOSS_TEMPORARIES * num_logits * size[0] * size[1]
    network.train()
    return ModelCosts(
        parameters=sum(values),
        dense_flops=count_flops(lambda: run_dense(network, size)),
        roi_flops=count_flops(
            lambda: run_rois(network, size, proposals.post_nms_eval, roi.max_detections)
        ),
        fixed_bytes=_FLOAT_BYTES * (sum(values) + 2 * sum(learning) + temporary),
        image_bytes=count_saved_bytes(
            network, lambda: run_dense(network, size) + run_rois(network, size, sampled, positive)
        ),
    )


def run_dense(network: RefineNet, size: tuple[int, int]) -> list[Tensor]:
    """Outputs of all that is computed once an image."""
    device = network.pixel_mean.device
    levels = network.backbone(torch.empty(1, 3, *size, device=device))
    feature = network.semantic_trunk(levels[:4])
    objectness, deltas = network.proposals.head(levels)
    return [network.ibpp.predict_semantics(feature), *objectness, *deltas]


def run_rois(
    network: RefineNet, size: tuple[int, int], num_boxes: int, num_masks: int
) -> list[Tensor]:
    """Outputs of the box stages, the mask heads and the semantic heads of the iterations."""
    heads = [cast(nn.Module, stage.head) for stage in network.box_cascade.stages]
    outputs: list[Tensor] = []
    for head in heads:
        channels = cast(nn.Linear, head.fc1).in_features // BOX_SIDE**2
        outputs += head(_pixels(network, (num_boxes, channels, BOX_SIDE, BOX_SIDE)))
    first_layer = next(m for m in network.ibpp.mask_heads[0].modules() if hasattr(m, "in_channels"))
    channels = cast(int, first_layer.in_channels)
    shape = (num_masks, channels, MASK_INPUT_SIDE, MASK_INPUT_SIDE)
    labels = torch.zeros(num_masks, dtype=torch.int64, device=network.pixel_mean.device)
    if not network.num_iterations:
        return [*outputs, network.ibpp.predict_masks(1, _pixels(network, shape), labels)]
    height, width = size[0] // STRIDE, size[1] // STRIDE
    feature = _pixels(network, (1, network.options.semantic.channels, height, width))
    canvas = _pixels(network, (1, network.num_things, height, width))
    planes = torch.arange(network.num_things, device=feature.device)
    for t in range(1, network.num_iterations + 1):
        outputs.append(network.ibpp.predict_masks(t, _pixels(network, shape), labels))
        outputs.append(network.ibpp.refine_semantics(t, feature, canvas, planes))
    return outputs


def count_flops(run: Callable[[], object]) -> int:
    """Operations of convolutions and matrix products, a multiply-add being two."""
    deformable = torch.ops.torchvision.deform_conv2d
    counter = FlopCounterMode(display=False, custom_mapping={deformable: _deformable_flops})
    with torch.no_grad(), counter:
        run()
    return int(counter.get_total_flops())


def count_saved_bytes(network: nn.Module, run: Callable[[], object]) -> int:
    """Bytes that wait for the backward pass; parameters and buffers are not counted.

    Args:
        network: Whose parameters and buffers these are.
        run: The forward pass; returns its outputs.
    """
    own = {_storage(t) for t in (*network.parameters(), *network.buffers())}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in own:
            sizes[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = run()  # alive until the sum, so that no storage is counted for another
    total = sum(sizes.values())
    del outputs
    return total


def _storage(tensor: Tensor) -> int:
    """Which memory this is; on the meta device there is no address."""
    return int(tensor.untyped_storage()._cdata)


def _pixels(network: RefineNet, shape: tuple[int, ...]) -> Tensor:
    """What another part has computed."""
    needs_grad = torch.is_grad_enabled()
    return torch.empty(shape, device=network.pixel_mean.device, requires_grad=needs_grad)


def _deformable_flops(
    _input: Any, weight: Any, *_shapes: Any, out_shape: Any, **_options: Any
) -> int:
    """As of the plain convolution; moving the taps is not counted."""
    batch, channels, height, width = out_shape
    return int(2 * batch * channels * height * width * weight[1] * weight[2] * weight[3])
