"""Names and shapes of detectron2's Panoptic-FPN checkpoints, and random ones.

Written down from its modules, layer by layer, without our own network's names.
"""

import numpy as np

BLOCKS = {"r50": (3, 4, 6, 3), "r101": (3, 4, 23, 3)}
NUM_THINGS, NUM_STUFF = 80, 53
SIZES = (32, 64, 128, 256, 512)


def shapes(backbone="r50", *, cascade=False):
    """Name to shape. The cascade has GroupNorm and deformable convolutions in res3 to res5."""
    named = {}
    _add_body(named, BLOCKS[backbone], cascade=cascade)
    norm = "gn" if cascade else None
    for stage in range(2, 6):
        _conv(named, f"backbone.fpn_lateral{stage}", 256, 64 * 2**stage, 1, norm=norm)
        _conv(named, f"backbone.fpn_output{stage}", 256, 256, 3, norm=norm)
    for level in range(5):
        named[f"proposal_generator.anchor_generator.cell_anchors.{level}"] = (3, 4)
    _conv(named, "proposal_generator.rpn_head.conv", 256, 256, 3)
    _conv(named, "proposal_generator.rpn_head.objectness_logits", 3, 256, 1)
    _conv(named, "proposal_generator.rpn_head.anchor_deltas", 12, 256, 1)
    _add_roi_heads(named, cascade=cascade)
    for level, count in ((2, 1), (3, 1), (4, 2), (5, 3)):
        for k in range(count):  # upsamplings stand between the convolutions
            cin = 256 if k == 0 else 128
            _conv(named, f"sem_seg_head.p{level}.{2 * k}", 128, cin, 3, norm="gn")
    _conv(named, "sem_seg_head.predictor", NUM_STUFF + 1, 128, 1)
    return named


def _conv(named, name, cout, cin, kernel, *, norm=None):
    named[f"{name}.weight"] = (cout, cin, kernel, kernel)
    parts = {
        None: ["bias"],
        "gn": ["norm.weight", "norm.bias"],
        "frozen": ["norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"],
    }
    named.update({f"{name}.{part}": (cout,) for part in parts[norm]})


def _add_body(named, blocks, *, cascade):
    norm = "gn" if cascade else "frozen"
    _conv(named, "backbone.bottom_up.stem.conv1", 64, 3, 7, norm=norm)
    width_in = 64
    for stage, count in enumerate(blocks, start=2):
        width, width_out = 64 * 2 ** (stage - 2), 256 * 2 ** (stage - 2)
        for block in range(count):
            name = f"backbone.bottom_up.res{stage}.{block}"
            if block == 0:
                _conv(named, f"{name}.shortcut", width_out, width_in, 1, norm=norm)
            _conv(named, f"{name}.conv1", width, width_in, 1, norm=norm)
            _conv(named, f"{name}.conv2", width, width, 3, norm=norm)
            if cascade and stage > 2:
                _conv(named, f"{name}.conv2_offset", 18, width, 3)
            _conv(named, f"{name}.conv3", width_out, width, 1, norm=norm)
            width_in = width_out


def _add_roi_heads(named, *, cascade):
    def linear(name, cout, cin):
        named[f"{name}.weight"], named[f"{name}.bias"] = (cout, cin), (cout,)

    num_boxes, norm = (1, "gn") if cascade else (NUM_THINGS, None)
    for number in ("0.", "1.", "2.") if cascade else ("",):
        linear(f"roi_heads.box_head.{number}fc1", 1024, 256 * 49)
        linear(f"roi_heads.box_head.{number}fc2", 1024, 1024)
        linear(f"roi_heads.box_predictor.{number}cls_score", NUM_THINGS + 1, 1024)
        linear(f"roi_heads.box_predictor.{number}bbox_pred", 4 * num_boxes, 1024)
    for k in range(1, 5):
        _conv(named, f"roi_heads.mask_head.mask_fcn{k}", 256, 256, 3, norm=norm)
    _conv(named, "roi_heads.mask_head.deconv", 256, 256, 2)
    _conv(named, "roi_heads.mask_head.predictor", NUM_THINGS, 256, 1)


def random_state(backbone="r50", *, cascade=False, seed=0):
    """A checkpoint of float32 arrays whose activations neither die nor explode.

    Its anchors are detectron2's; its detections are plenty and spread over categories.
    """
    rng = np.random.default_rng(seed)
    named = shapes(backbone, cascade=cascade)
    state = {name: _draw(name, shape, rng).astype(np.float32) for name, shape in named.items()}
    for name in state:  # stages that agree, or no category would have a high mean probability
        first = name.replace(".1.", ".0.").replace(".2.", ".0.")
        if name != first and name.startswith(("roi_heads.box_head.", "roi_heads.box_predictor.")):
            state[name] = state[first] + 0.05 * state[name]
    return state


def _draw(name, shape, rng):
    if ".cell_anchors." in name:
        return cell_anchors(SIZES[int(name[-1])])
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape)
    if name.endswith((".norm.weight", "shortcut.norm.weight")):
        return rng.uniform(0.5, 1.0, shape) * (0.3 if ".conv3." in name else 1.0)
    if name.endswith(("bias", "running_mean")):
        return rng.normal(0, 0.1, shape)
    fan_in = np.prod(shape[1:])
    gain = next((g for part, g in _GAINS.items() if part in name), 2.0)
    return rng.normal(0, np.sqrt(gain / fan_in), shape)


_GAINS = {
    "stem.conv1": 2.0 / 60**2,  # pixels less their mean
    "conv2_offset": 0.3,
    "fpn_": 0.5,
    "anchor_deltas": 0.02,
    "bbox_pred": 0.2,
    "cls_score": 40.0,
    "mask_head.predictor": 4.0,
    "sem_seg_head.predictor": 4.0,
}


def cell_anchors(size):
    """``[3, 4]`` around the origin, ratios of height to width 1/2, 1 and 2."""
    rows = []
    for ratio in (0.5, 1.0, 2.0):
        width = (size**2 / ratio) ** 0.5
        height = width * ratio
        rows.append([-width / 2, -height / 2, width / 2, height / 2])
    return np.array(rows)
