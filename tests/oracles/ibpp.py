"""Two-way iterations written out: whole canvases, embedding before pooling, one RoI at a time."""

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

from oracles.roi_flatten import flatten


def iterate(state, rois, pooled, feature, *, num_iterations, num_things):
    """Masks and semantic logits of each iteration of a sound start, for one image.

    Heads have one 3x3 convolution each, group normalisation in the semantic ones; ``state`` is the
    state dict of :class:`refine.detector.ibpp.IBPP`, ``rois`` boxes, labels and scores.
    """
    boxes, labels, scores = rois
    embedded = F.conv2d(feature, state["embedding.weight"], state["embedding.bias"])
    logits = F.conv2d(feature, *_layer(state, "semantic_predictor.predictor"))
    outputs = []
    for t in range(num_iterations):
        mask, refined = f"mask_heads.{t}", f"refined_heads.{t}"
        masks = []
        for k, box in enumerate(boxes):
            f_sem, p_sem = (_pool(plane, box) for plane in (embedded, logits))
            x = torch.cat([pooled[k : k + 1] + f_sem, p_sem], dim=1)
            x = F.conv2d(x, *_layer(state, f"{mask}.convs.0.0"), padding=1).relu()
            x = F.conv_transpose2d(x, *_layer(state, f"{mask}.deconv"), stride=2).relu()
            weight = state[f"{mask}.predictor_weight"][:, :, None, None]
            every = F.conv2d(x, weight, state[f"{mask}.predictor_bias"])
            masks.append(every[0, labels[k]])
        masks = torch.stack(masks)
        weighed = (masks.sigmoid() * scores[:, None, None]).detach().double().numpy()
        size = tuple(feature.shape[-2:])
        canvas, _ = flatten(
            weighed, boxes.numpy(), labels.numpy(), np.zeros((num_things, *size)),
            num_planes=num_things, size=size,
        )  # fmt: skip
        x = torch.cat([torch.from_numpy(canvas).float()[None], feature], dim=1)
        x = F.conv2d(x, state[f"{refined}.convs.0.0.weight"], padding=1)
        width = x.shape[1]
        x = F.group_norm(x, width // 8, *_layer(state, f"{refined}.convs.0.1")).relu()
        logits = logits + F.conv2d(x, *_layer(state, f"{refined}.predictor"))
        outputs.append((masks, logits))
    return outputs


def _layer(state, name):
    return state[f"{name}.weight"], state[f"{name}.bias"]


def _pool(plane, box):
    return roi_align(plane, [box[None]], 14, spatial_scale=1 / 4, sampling_ratio=2, aligned=True)
