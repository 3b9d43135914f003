"""Parameters, operations and training memory of a network, counted without values."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from refine.detector.box_stage import BOX_SIDE
from refine.detector.mask_head import MASK_INPUT_SIDE
from refine.detector.refine_net import RefineNet
from refine.options import AnchorOptions, ModelOptions
from refine.types import STRIDE

WORKSPACE = 1.2
"""Memory that a training takes, over what is counted: workspace of libraries, the allocator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCosts:
    """Costs of one network at one image size.

    Attributes:
        parameters: Their number.
        dense_flops: Operations on an image without its RoIs, a multiply-add being two.
        roi_flops: Operations of the RoIs and the iterations, every thing category on the canvas.
        training_flops: Operations of training on one image: three times those of a forward pass.
        fixed_bytes: Training memory of parameters, gradients, momentum, three maps of logits.
        image_bytes: Training memory per image: what waits for the backward pass, in float32.
    """

    parameters: int
    dense_flops: int
    roi_flops: int
    training_flops: int
    fixed_bytes: int
    image_bytes: int

    def training_bytes(self, images: int, *, is_half: bool = False) -> float:
        """Estimate of the memory of a training on a device.

        Args:
            images: Images in a step on the device.
            is_half: Whether activations have 16 bits.
        """
        kept = self.image_bytes / (2 if is_half else 1)
        return WORKSPACE * (self.fixed_bytes + images * kept)


def cost_of(
    options: ModelOptions,
    size: tuple[int, int],
    *,
    anchors: AnchorOptions,
    num_things: int,
    num_categories: int,
) -> ModelCosts:
    """The costs of a network at ``(height, width)``, rounded up to multiples of 32."""
    numbers = {"num_things": num_things, "num_categories": num_categories}
    height, width = (-(-side // 32) * 32 for side in size)
    return count_costs(build_on_meta(options, anchors=anchors, **numbers), (height, width))


def build_on_meta(
    options: ModelOptions, *, anchors: AnchorOptions, num_things: int, num_categories: int
) -> RefineNet:
    """A network whose tensors have shapes but no values."""
    with torch.device("meta"):
        return RefineNet(
            options, anchors=anchors, num_things=num_things, num_categories=num_categories
        )


def count_costs(network: RefineNet, size: tuple[int, int]) -> ModelCosts:
    """Count a network on the meta device at ``(height, width)``, multiples of 32."""
    roi, boxes = network.options.roi, network.options.proposals.post_nms_eval
    sampled, positive = roi.samples_per_image, int(roi.samples_per_image * roi.positive_fraction)
    logits = network.ibpp.semantic_predictor.predictor.out_channels * size[0] * size[1]
    sizes = [(p.numel(), p.requires_grad) for p in network.parameters()]
    parameters, learning = sum(n for n, _ in sizes), sum(n for n, learns in sizes if learns)
    network.train()
    dense, rois = partial(run_dense, network, size), partial(run_rois, network, size)
    return ModelCosts(
        parameters=parameters,
        dense_flops=(dense_flops := count_flops(dense)),
        roi_flops=count_flops(lambda: rois(boxes, roi.max_detections)),
        training_flops=3 * (dense_flops + count_flops(lambda: rois(sampled, positive))),
        fixed_bytes=4 * (parameters + 2 * learning + 3 * logits),  # float32
        image_bytes=count_saved_bytes(network, lambda: dense() + rois(sampled, positive)),
    )


def run_dense(network: RefineNet, size: tuple[int, int]) -> list[Tensor]:
    """Outputs of all that is computed once per image."""
    levels = network.backbone(torch.empty(1, 3, *size, device=network.pixel_mean.device))
    objectness, deltas = network.proposals.head(levels)
    feature = network.semantic_trunk(levels[:4])
    return [network.ibpp.predict_semantics(feature), *objectness, *deltas]


def run_rois(network: RefineNet, size: tuple[int, int], boxes: int, masks: int) -> list[Tensor]:
    """Outputs of the box stages, the mask heads and the semantic heads of the iterations."""
    device = network.pixel_mean.device

    def pixels(*shape: int) -> Tensor:  # what another part has computed
        return torch.empty(shape, device=device, requires_grad=torch.is_grad_enabled())

    outputs: list[Tensor] = []
    for head in (cast(Any, stage.head) for stage in network.box_cascade.stages):
        channels = head.fc1.in_features // BOX_SIDE**2
        outputs += head(pixels(boxes, channels, BOX_SIDE, BOX_SIDE))
    first_layer = next(m for m in network.ibpp.mask_heads[0].modules() if hasattr(m, "in_channels"))
    crops = (masks, cast(int, first_layer.in_channels), MASK_INPUT_SIDE, MASK_INPUT_SIDE)
    labels = torch.zeros(masks, dtype=torch.int64, device=device)
    if not network.num_iterations:
        return [*outputs, network.ibpp.predict_masks(1, pixels(*crops), labels)]
    planes = torch.arange(network.num_things, device=device)
    categories = network.ibpp.semantic_predictor.predictor.out_channels
    widths = (network.options.semantic.channels, len(planes), categories)
    feature, canvas, logits = (pixels(1, n, size[0] // STRIDE, size[1] // STRIDE) for n in widths)
    for t in range(1, network.num_iterations + 1):
        outputs.append(network.ibpp.predict_masks(t, pixels(*crops), labels))
        outputs.append(network.ibpp.refine_semantics(t, feature, canvas, planes, logits))
    return outputs


def count_flops(run: Callable[[], object]) -> int:
    """Operations of convolutions and matrix products, a multiply-add being two."""

    def deformable(_x: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
        return 2 * torch.Size(out_shape).numel() * torch.Size(weight[1:]).numel()  # as plain

    own = {torch.ops.torchvision.deform_conv2d: deformable}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=own) as counter:
        run()
    return int(counter.get_total_flops())


def count_saved_bytes(network: nn.Module, run: Callable[[], object]) -> int:
    """Bytes that wait for the backward pass of ``run``, without the network's own tensors."""

    def storage(tensor: Tensor) -> int:  # which memory: on the meta device there is no address
        return int(tensor.untyped_storage()._cdata)

    own = {storage(t) for t in (*network.parameters(), *network.buffers())}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        sizes[storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = run()  # alive until the sum, so that no storage is counted for another
    assert outputs
    return sum(size for place, size in sizes.items() if place not in own)
