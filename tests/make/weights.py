"""Published weights in small: random networks written in the formats of those who publish them."""

import pickle
import re
import struct

import numpy as np
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import FrozenBatchNorm2d

C2_PARTS = {  # torchvision's name of a part -> Detectron's, and detectron2's own
    "affine": {"weight": "bn_s", "bias": "bn_b"},
    "gn": {"weight": "gn_s", "bias": "gn_b"},
    "bn": {
        "weight": "bn_gamma",
        "bias": "bn_beta",
        "running_mean": "bn_running_mean",
        "running_var": "bn_running_var",
    },
}
_BRANCHES = {
    "conv1": "2a", "bn1": "2a", "conv2": "2b", "bn2": "2b", "conv3": "2c", "bn3": "2c",
    "downsample.0": "1", "downsample.1": "1",
}  # fmt: skip


def tiny_bottlenecks(norm="bn", *, groups=1, stride_in_1x1=False) -> ResNet:
    """One narrow bottleneck a stage, with every parameter and statistic at random."""
    torch.manual_seed(0)
    layers = {
        "bn": nn.BatchNorm2d,
        "affine": FrozenBatchNorm2d,
        "gn": lambda channels: nn.GroupNorm(32, channels),
    }
    net = ResNet(
        Bottleneck, [1, 1, 1, 1], num_classes=2, norm_layer=layers[norm],
        groups=groups, width_per_group=32 // groups,
    )  # fmt: skip
    for block in net.modules():
        if stride_in_1x1 and isinstance(block, Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    return randomise(net).eval()


def randomise(net):
    """No norm is left as it starts, so that a name mixed up shows."""
    for name, value in net.state_dict().items():
        if re.search(r"(bn\d|downsample\.1)\.(weight|running_var)", name):
            value.uniform_(0.5, 1.5)
        elif re.search(r"(bn\d|downsample\.1)\.(bias|running_mean)", name):
            value.normal_(0, 0.1)
    return net


def write_pickle(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def features(net, x):
    """What an ImageNet network sees before it pools."""
    x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
    for k in range(1, 5):
        x = getattr(net, f"layer{k}")(x)
    return x


def to_caffe2(state, kind) -> dict[str, np.ndarray]:
    """Torchvision's names as Caffe2's; ``kind`` is a key of :data:`C2_PARTS`."""
    blobs = {}
    for key, value in state.items():
        if key.startswith("fc."):
            blobs[f"pred_{'w' if key.endswith('weight') else 'b'}"] = value.numpy()
        elif (name := _caffe2_name(key, kind)) is not None:
            blobs[name] = value.numpy()
    return blobs


def _caffe2_name(key, kind):
    layer, part = key.rsplit(".", 1)
    if layer == "conv1":
        return "conv1_w"
    if part not in C2_PARTS[kind] and not _is_conv(layer):
        return None  # counters, and statistics that were folded
    if layer == "bn1":
        return f"{'conv1' if kind == 'gn' else 'res_conv1'}_{C2_PARTS[kind][part]}"
    stage, index, inner = re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", layer).groups()
    suffix = "w" if _is_conv(layer) else C2_PARTS[kind][part]
    return f"res{int(stage) + 1}_{index}_branch{_BRANCHES[inner]}_{suffix}"


def _is_conv(layer):
    return re.search(r"(conv\d|downsample\.0)$", layer) is not None


def python2_pickle(arrays) -> bytes:
    """``{name: float32 array}`` as Python 2 wrote it: with strings of bytes all through."""
    out = [b"\x80\x02}("]
    for name, array in arrays.items():
        raw = np.ascontiguousarray(array, "<f4").tobytes()
        shape = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in array.shape) + b"t"
        empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t"
        out += [_string(name.encode()), empty, _string(b"b"), b"tR"]
        dtype = (
            b"cnumpy\ndtype\n(" + _string(b"f4") + b"K\x00K\x01tR"
            b"(K\x03" + _string(b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        )
        out += [b"(K\x01", shape, dtype, b"\x89", _string(raw), b"tb"]
    return b"".join([*out, b"u."])


def _string(raw: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(raw)) + raw
