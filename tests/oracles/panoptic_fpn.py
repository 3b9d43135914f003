"""The plain baseline, written out in one go from a network's parts."""

import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, clip_boxes_to_image, roi_align


def predict(network, batch):
    """Boxes, scores, labels, mask logits and semantic logits of one image, nothing iterated."""
    levels = network.backbone(network.normalize(batch))
    semantic = network.ibpp.semantic_predictor(network.semantic_trunk(levels[:4]))
    rpn = network.proposals(levels, batch.images)
    options = network.options.proposals
    proposals = network.proposals.propose(
        rpn, batch.image_sizes, pre_nms=options.pre_nms_eval, post_nms=options.post_nms_eval
    )
    stage, roi = network.box_cascade.stages[0], network.options.roi
    logits, deltas = stage.head(_pool(levels, proposals[0], roi, 7))
    coder, found = BoxCoder(stage.box_coder.weights), []
    for r, scores in enumerate(logits.softmax(dim=1)[:, 1:]):
        for c, score in enumerate(scores):
            if score >= roi.score_thresh:
                box = coder.decode_single(deltas[r, c][None], proposals[0][r][None])
                found.append((clip_boxes_to_image(box, batch.image_sizes[0])[0], score, c))
    boxes = torch.stack([f[0] for f in found])
    scores, labels = torch.stack([f[1] for f in found]), torch.tensor([f[2] for f in found])
    keep = batched_nms(boxes, scores, labels, roi.nms_thresh)[: roi.max_detections]
    pooled = _pool(levels, boxes[keep], roi, 14)
    masks = network.ibpp.mask_heads[0](pooled, labels[keep])
    return boxes[keep], scores[keep], labels[keep], masks, semantic[0]


def _pool(levels, boxes, roi, side):
    """RoIAlign of each box alone, from the level of its size (FPN, eq. 1)."""
    pooled = []
    for box in boxes:
        size = ((box[2] - box[0]) * (box[3] - box[1])).sqrt()
        level = int((4 + torch.log2(size / roi.canonical_size_px + 1e-8)).floor().clamp(2, 5))
        pooled.append(
            roi_align(
                levels[level - 2].contiguous(), [box[None]], side,
                spatial_scale=1 / 2**level, sampling_ratio=roi.sampling_ratio, aligned=True,
            )
        )  # fmt: skip
    return torch.cat(pooled)
