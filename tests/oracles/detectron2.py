"""detectron2's Panoptic-FPN written out rule by rule, on a checkpoint by its own names.

Slow and plain on purpose: what detectron2 does with tensors of a batch is done here box by box.
Its choices are facts read in its source (Apache-2.0); this is not its code.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d, roi_align

from oracles.detectron2_names import cell_anchors
from oracles.masks import paste_values

MEAN_BGR = (103.53, 116.28, 123.675)
CLAMP = math.log(1000 / 16)


# --- dense part: state is name -> float32 tensor


def preprocess(image_rgb, multiple=32):
    """``[3, H, W]`` uint8 to ``[1, 3, H', W']`` BGR less its mean, zero in the padding."""
    bgr = image_rgb.flip(0).float() - torch.tensor(MEAN_BGR).view(3, 1, 1)
    height, width = bgr.shape[1:]
    return F.pad(bgr, (0, -width % multiple, 0, -height % multiple))[None]


def conv(state, name, x, *, stride=1, relu=False):
    """A convolution, its normalisation if it has one, and perhaps a ReLU."""
    weight = state[f"{name}.weight"]
    x = F.conv2d(x, weight, state.get(f"{name}.bias"), stride, weight.shape[-1] // 2)
    x = normalise(state, name, x)
    return x.relu() if relu else x


def normalise(state, name, x):
    affine = [state.get(f"{name}.norm.{part}") for part in ("weight", "bias")]
    if f"{name}.norm.running_var" in state:
        statistics = [state[f"{name}.norm.running_{part}"] for part in ("mean", "var")]
        return F.batch_norm(x, *statistics, *affine)
    return x if affine[0] is None else F.group_norm(x, 32, *affine)


def bottleneck(state, name, x, *, stride, stride_in_1x1):
    first, second = (stride, 1) if stride_in_1x1 else (1, stride)
    out = conv(state, f"{name}.conv1", x, stride=first, relu=True)
    if f"{name}.conv2_offset.weight" in state:
        offset = conv(state, f"{name}.conv2_offset", out, stride=second)
        out = deform_conv2d(out, offset, state[f"{name}.conv2.weight"], stride=second, padding=1)
        out = normalise(state, f"{name}.conv2", out).relu()
    else:
        out = conv(state, f"{name}.conv2", out, stride=second, relu=True)
    out = conv(state, f"{name}.conv3", out)
    has_shortcut = f"{name}.shortcut.weight" in state
    short = conv(state, f"{name}.shortcut", x, stride=stride) if has_shortcut else x
    return (out + short).relu()


def pyramid(state, images, *, stride_in_1x1):
    """P2 to P6."""
    x = conv(state, "backbone.bottom_up.stem.conv1", images, stride=2, relu=True)
    x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    stages = []
    for stage in range(2, 6):
        block = 0
        while f"backbone.bottom_up.res{stage}.{block}.conv1.weight" in state:
            stride = 2 if stage > 2 and block == 0 else 1
            name = f"backbone.bottom_up.res{stage}.{block}"
            x = bottleneck(state, name, x, stride=stride, stride_in_1x1=stride_in_1x1)
            block += 1
        stages.append(x)
    above, levels = None, []
    for stage in range(5, 1, -1):
        inner = conv(state, f"backbone.fpn_lateral{stage}", stages[stage - 2])
        if above is not None:
            inner = inner + above.repeat_interleave(2, 2).repeat_interleave(2, 3)
        levels.insert(0, conv(state, f"backbone.fpn_output{stage}", inner))
        above = inner
    return [*levels, levels[-1][:, :, ::2, ::2]]


def semantic_logits(state, levels):
    """``[1, 54, h, w]`` at stride 4."""
    total = 0
    for level, x in zip(range(2, 6), levels, strict=False):
        for k in range(max(1, level - 2)):
            x = conv(state, f"sem_seg_head.p{level}.{2 * k}", x, relu=True)
            if level > 2:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        total = total + x
    return conv(state, "sem_seg_head.predictor", total)


# --- proposals


def anchors(height, width, *, stride, size):
    """Around the upper left corner of every cell, row by row."""
    corners = [(stride * x, stride * y) for y in range(height) for x in range(width)]
    boxes = np.concatenate([cell_anchors(size) + np.tile(corner, 2) for corner in corners])
    return torch.from_numpy(boxes).float()


def decode_all(deltas, boxes, weights):
    """One box out of each code."""
    rows = []
    for delta, (x0, y0, x1, y1) in zip(deltas.tolist(), boxes.tolist(), strict=True):
        dx, dy, dw, dh = (d / w for d, w in zip(delta, weights, strict=True))
        x, y = (x0 + x1) / 2 + dx * (x1 - x0), (y0 + y1) / 2 + dy * (y1 - y0)
        width = (x1 - x0) * math.exp(min(dw, CLAMP))
        height = (y1 - y0) * math.exp(min(dh, CLAMP))
        rows.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    return torch.tensor(rows).reshape(-1, 4)


def clip(boxes, size):
    limit = torch.tensor([size[1], size[0], size[1], size[0]])
    return torch.minimum(boxes.clamp(min=0), limit)


def has_area(boxes):
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if union > 0 else 0.0


def suppress(boxes, scores, groups, threshold):
    """Greedy NMS inside each group; positions that stay, best first."""
    kept, rows = [], boxes.tolist()
    for k in sorted(range(len(rows)), key=lambda k: -float(scores[k])):
        rivals = [j for j in kept if groups[j] == groups[k]]
        if all(iou(rows[j], rows[k]) <= threshold for j in rivals):
            kept.append(k)
    return kept


def find_proposals(objectness, deltas, boxes, size, *, pre_nms, post_nms, threshold=0.7):
    """Of one image: one ``[A]``, ``[A, 4]`` and ``[A, 4]`` a level to ``[<= post_nms, 4]``."""
    found, scores, levels = [], [], []
    for level, (logits, codes, grid) in enumerate(zip(objectness, deltas, boxes, strict=True)):
        best = sorted(range(len(logits)), key=lambda k: -float(logits[k]))[:pre_nms]
        clipped = clip(decode_all(codes[best], grid[best], (1, 1, 1, 1)), size)
        kept = has_area(clipped)
        found.append(clipped[kept])
        scores += logits[best][kept].tolist()
        levels += [level] * int(kept.sum())
    found = torch.cat(found)
    return found[suppress(found, scores, levels, threshold)[:post_nms]]


# --- boxes and masks


def level_of(box):
    """2 to 5."""
    size = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    return min(max(math.floor(4 + math.log2(size / 224 + 1e-8)), 2), 5)


def pool(levels, boxes, side):
    crops = [torch.zeros(0, levels[0].shape[1], side, side)]
    for box in boxes:
        level = level_of(box.tolist())
        rois = torch.cat([torch.zeros(1), box])[None]
        crops.append(
            roi_align(levels[level - 2], rois, side, 1 / 2**level, sampling_ratio=0, aligned=True)
        )
    return torch.cat(crops)


def run_box_head(state, number, pooled):
    """Probabilities ``[N, 81]``, background last, and codes ``[N, 80 or 1, 4]``."""

    def linear(name, x):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    x = linear(f"roi_heads.box_head.{number}fc1", pooled.flatten(1)).relu()
    x = linear(f"roi_heads.box_head.{number}fc2", x).relu()
    scores = linear(f"roi_heads.box_predictor.{number}cls_score", x).softmax(1)
    return scores, linear(f"roi_heads.box_predictor.{number}bbox_pred", x).unflatten(1, (-1, 4))


def detect(boxes, scores, size, *, score_thresh=0.05, nms_thresh=0.5, top=100):
    """Boxes ``[R, K or 1, 4]`` and probabilities ``[R, K + 1]`` to boxes, scores, labels."""
    found = []
    for r in range(len(boxes)):
        for category in range(scores.shape[1] - 1):
            if scores[r, category] > score_thresh:
                box = boxes[r, category if boxes.shape[1] > 1 else 0]
                found.append((clip(box[None], size)[0], float(scores[r, category]), category))
    flat, their_scores, labels = zip(*found, strict=True)
    kept = suppress(torch.stack(flat), their_scores, labels, nms_thresh)[:top]
    return (
        torch.stack(flat)[kept],
        torch.tensor(their_scores)[kept],
        torch.tensor(labels)[kept],
    )


def run_cascade(state, levels, proposals, size):
    """Boxes, scores and labels; with one stage, of the plain head."""
    is_cascade = "roi_heads.box_head.0.fc1.weight" in state
    boxes, total = proposals, 0
    stages = ("0.", "1.", "2.") if is_cascade else ("",)
    for k, number in enumerate(stages, start=1):
        scores, codes = run_box_head(state, number, pool(levels, boxes, 7))
        total = total + scores
        weights = (10 * k, 10 * k, 5 * k, 5 * k)
        decoded = torch.stack(
            [decode_all(codes[:, c], boxes, weights) for c in range(codes.shape[1])], dim=1
        )
        boxes = clip(decoded[:, 0], size)
    return detect(decoded, total / len(stages), size)


def mask_probabilities(state, levels, boxes, labels):
    """``[N, 28, 28]`` of each label."""
    x = pool(levels, boxes, 14)
    for k in range(1, 5):
        x = conv(state, f"roi_heads.mask_head.mask_fcn{k}", x, relu=True)
    name = "roi_heads.mask_head.deconv"
    x = F.conv_transpose2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=2).relu()
    logits = conv(state, "roi_heads.mask_head.predictor", x)
    return logits[torch.arange(len(labels)), labels].sigmoid()


# --- after the network


def resize_semantic(logits, image_size, original_size):
    """``[54, h, w]`` at stride 4 to logits ``[54, H, W]``: times 4, crop, resize."""
    large = F.interpolate(logits[None], scale_factor=4, mode="bilinear", align_corners=False)
    large = large[:, :, : image_size[0], : image_size[1]]
    return F.interpolate(large, size=original_size, mode="bilinear", align_corners=False)[0]


def combine(masks, scores, labels, semantic, *, overlap=0.5, area=4096, confidence=0.5):
    """A segment map and ``(id, is thing, category)``; stuff categories count from 1."""
    canvas, segments = np.zeros(semantic.shape, np.int64), []
    for k in sorted(range(len(masks)), key=lambda k: -float(scores[k])):
        size = masks[k].sum()
        if scores[k] < confidence or size == 0:
            continue
        if (masks[k] & (canvas > 0)).sum() / size > overlap:
            continue
        canvas[masks[k] & (canvas == 0)] = len(segments) + 1
        segments.append((len(segments) + 1, True, int(labels[k])))
    for category in np.unique(semantic).tolist():
        free = (semantic == category) & (canvas == 0)
        if category == 0 or free.sum() < area:
            continue
        canvas[free] = len(segments) + 1
        segments.append((len(segments) + 1, False, category))
    return canvas, segments


def panoptic(boxes, scores, labels, probabilities, logits, image_size, original_size, **limits):
    """:func:`combine` on what the network says, at original size."""
    factors = torch.tensor([o / i for o, i in zip(original_size, image_size, strict=True)])
    scaled = clip(boxes * factors.flip(0).repeat(2), original_size)
    kept = has_area(scaled)
    masks = paste_values(probabilities[kept].numpy(), scaled[kept], original_size) >= 0.5
    semantic = resize_semantic(logits, image_size, original_size).argmax(0).numpy()
    return combine(masks, scores[kept], labels[kept], semantic, **limits)
