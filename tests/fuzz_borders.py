"""Feeds damaged and hostile files to every reader: each case ends well or in a RefineError.

``make fuzz`` runs 10 000 cases. Case ``k`` is a function of the seed and ``k`` alone. A process of
its own reads them, 10 s of processor time and 2 GB of memory each; if it dies, that case has
failed, and the next process goes on behind it.
"""

import argparse
import copy
import json
import logging
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import resnet18

from make.dataset import instances_json, panoptic_json, write_tree
from make.layouts import (
    rectangle_scenes,
    write_cityscapes,
    write_coco,
    write_label_pngs,
    write_labelme,
    write_panoptic,
)
from make.predictions import SMALL, a_header, fake_prediction, write_all
from make.weights import to_caffe2, write_pickle
from refine.categories import CategoryTable
from refine.coco_format.layout import open_dataset
from refine.config import compose
from refine.config.settings import ConvertDatasetSettings, Sections
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.data.images import decode_image
from refine.errors import MAX_LENGTH, RefineError, is_printable
from refine.options import ImageOptions
from refine.prediction_cache.cache import PredictionReader
from refine.runs.checkpoint import make_record, read_checkpoint
from refine.runs.restore import build_pipeline, restore_pipeline
from refine.weights.formats import read_weights
from refine.workflows.convert_annotations import open_layout
from refine.workflows.score_results import score_results

CPU_SECONDS, MEMORY_BYTES = 10, 2 << 30
SPLIT = "val2017"
READ, REFUSED = "read", "refused"

HOSTILE = [
    None, True, -1, 0, 1, 2, 0.5, 1e9, 1e308, float("inf"), float("nan"), 10**30, 2**62, 2**31,
    2**24, "", "x", "x" * 5000, "\ud800", "\x1b[31m", "../x", "/etc/passwd", "a\nb", [], {}, [[]],
    [None], [1e9] * 6, [0, 0, 1e8, 0, 1e8, 1e8], {"size": [2**20, 2**20], "counts": [2**40]},
    {"size": [8, 12], "counts": "0" * 99}, [10**400],
]  # fmt: skip
TENSORS = [
    torch.zeros(0), torch.full((3,), float("nan")), torch.zeros(2, 3, 4, 5, 6),
    torch.zeros(3, dtype=torch.bool), torch.zeros(2, dtype=torch.complex64), np.array([object()]),
    np.array(["a"]), torch.tensor(float("inf")), np.zeros((2, 2), np.int8),
]  # fmt: skip


# --- what the cases start from ---------------------------------------------------------------


def make_originals(root):
    """Every kind of file, sound."""
    write_tree(root / "data", SPLIT, instances=instances_json())
    packed = root / "zipped"
    write_tree(root / "unpacked", SPLIT)
    (packed / "annotations").mkdir(parents=True)
    annotations = root / "unpacked" / "annotations"
    (packed / "annotations" / f"panoptic_{SPLIT}.json").write_text(json.dumps(panoptic_json()))
    for target, folder in (
        (packed / f"{SPLIT}.zip", root / "unpacked" / SPLIT),
        (packed / f"panoptic_{SPLIT}.zip", annotations / f"panoptic_{SPLIT}"),
    ):
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.iterdir()):
                archive.write(path, f"{folder.name}/{path.name}")
    (root / "images").mkdir()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 36, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("jpg", "png", "webp", "tif", "gif", "bmp"):
        extra = {} if kind in ("gif", "bmp") else {"exif": exif}
        image.save(root / "images" / f"a.{kind}", **extra)
    raw = fake_prediction(**SMALL, heads=("o",), rankings=("r",))
    header = a_header([7], "compact", occlusion_heads=("o",), ranking_heads=("r",))
    write_all(root / "cache", header, {7: raw})
    _make_weights(root)
    _make_layouts(root / "layouts")


def _make_layouts(root):
    scenes = rectangle_scenes(0, count=1)
    write_labelme(root / "labelme", rectangle_scenes(0, count=1, crowds=False), stuff_as="mask")
    write_coco(root / "coco", scenes, semantic="json")
    write_label_pngs(root / "label_maps", scenes)
    write_panoptic(root / "panoptic", scenes)
    write_cityscapes(root / "cityscapes", scenes)


def _make_weights(root):
    settings = compose("train", ["experiment=toy_ibpp1"])
    table = CategoryTable.of(panoptic_json()["categories"])
    plain = settings.to_plain()
    config = {name: plain[name] for name in ("data", "model", "fusion")}
    weights = build_pipeline(Sections.read(config), categories=table).state_dict()
    content = {"state_dict": {f"pipeline.{k}": v for k, v in weights.items()}}
    torch.save(content | {"refine": make_record(config, table)}, root / "a.ckpt")
    small = {k: v[:2].clone() for k, v in resnet18().state_dict().items() if v.ndim}
    torch.save(small, root / "w.pth")
    save_file(small, root / "w.safetensors", {"pixel_mean": "[1, 2, 3]", "pixel_std": "[1, 1, 1]"})
    write_pickle(root / "w.pkl", {"blobs": to_caffe2(small, "bn")})


# --- readers: everything that a command reads from the files -----------------------------------


def read_dataset(root):
    files = open_dataset(root, SPLIT, cache_dir=root / "spool")
    options = ImageOptions(train_short_sides_px=[16], eval_short_side_px=16, max_long_side_px=64)
    for training in (True, False):
        dataset = CocoPanopticDataset(files, options, training=training)
        dataset.check()
        for k in range(len(dataset)):
            dataset[k]


def read_scores(root):
    path = root / "annotations" / f"panoptic_{SPLIT}.json"
    score_results(path.with_name("truth.json"), path, gt_dir=path.with_suffix(""))


def read_images(root):
    for path in sorted(root.iterdir()):
        decode_image(path.read_bytes(), source=str(path))


def read_cache(root):
    list(PredictionReader(root))


def read_weight_files(root):
    for path in sorted(root.iterdir()):
        read_weights(path)


def read_checkpoint_file(root):
    found = read_checkpoint(root / "a.ckpt")
    if found.weights.keys():
        restore_pipeline(found)


LAYOUTS = {
    "labelme": {"images": "photos", "annotations": "photos", "table": "table.csv"},
    "coco": {"images": "photos", "instances": "instances.json", "semantic": "stuff.json"},
    "label_maps": {
        "images": "JPEGImages", "semantic": "SegmentationClass", "table": "table.csv",
        "instances": "SegmentationObject",
    },
    "panoptic": {"images": "photos", "annotations": "panoptic.json", "pngs": "panoptic"},
    "cityscapes": {"images": "leftImg8bit/train", "annotations": "gtFine/train"},
}  # fmt: skip


def read_layouts(root):
    plain = {"split": "train", "out": "out", "link": True, "skip_bad": False, "void": [0, 255]}
    for name, parts in LAYOUTS.items():
        given = {key: str(root / name / part) for key, part in parts.items()}
        layout = open_layout(ConvertDatasetSettings(layout=name, **given, **plain))
        for k in range(len(layout)):
            layout.read(k)


BORDERS = {  # share of the cases, files below the folder of the originals, reader
    "dataset": (6, "data", read_dataset),
    "results": (2, "data", read_scores),
    "zips": (1, "zipped", read_dataset),
    "images": (2, "images", read_images),
    "cache": (4, "cache", read_cache),
    "weights": (3, None, read_weight_files),
    "checkpoint": (1, None, read_checkpoint_file),
    "layouts": (3, "layouts", read_layouts),
}


# --- damage ----------------------------------------------------------------------------------


def damage_bytes(data, rng):
    """Flipped, cut, doubled or overwritten bytes."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        place = rng.randrange(len(data) + 1)
        length = rng.choice([1, 2, 4, 64])
        kind = rng.randrange(5)
        if kind == 0:
            data = data[:place]
        elif kind == 1:
            del data[place : place + length]
        elif kind == 2:
            data[place : place + length] = rng.randbytes(length)
        elif kind == 3:
            data[place:place] = data[place : place + length] * 2
        else:
            data[place : place + length] = b"\xff" * length
    return bytes(data)


def damage_value(content, rng, hostile):
    """A copy of nested containers in which one or two values are others, gone or doubled."""
    content = copy.deepcopy(content)
    for _ in range(rng.choice([1, 1, 2])):
        node = content
        while True:
            keys = list(node) if isinstance(node, dict) else range(len(node))
            if not keys:
                break
            key = rng.choice(keys)
            below = node[key]
            if isinstance(below, dict | list) and below and rng.random() < 0.85:
                node = below
                continue
            kind = rng.randrange(8)
            if kind == 0:
                del node[key]
            elif kind == 1 and isinstance(node, list):
                node.append(copy.deepcopy(below))
            elif kind == 1:
                node[rng.choice(["", "id", "x", "\ud800"])] = copy.deepcopy(below)
            else:
                node[key] = copy.deepcopy(rng.choice(hostile))  # it may be damaged next
            break
    return content


def damage_file(path, rng):
    """One damaged file: bytes of any, values of those that can be read."""
    by_value = rng.random() < 0.7
    if path.suffix == ".json" and by_value:
        path.write_text(json.dumps(damage_value(json.loads(path.read_text()), rng, HOSTILE)))
    elif path.suffix in (".ckpt", ".pth") and by_value:
        content = torch.load(path, weights_only=True)
        tensors = [t for t in TENSORS if isinstance(t, torch.Tensor)]
        torch.save(damage_value(dict(content), rng, HOSTILE + tensors), path)
    elif path.suffix == ".pkl" and by_value:
        content = {"blobs": dict.fromkeys(("conv1_w", "res2_0_branch2a_w"), np.zeros((2, 2, 1, 1)))}
        write_pickle(path, damage_value(content, rng, HOSTILE + TENSORS))
    elif path.suffix == ".safetensors" and by_value:
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = damage_value(json.loads(data[8 : 8 + length]), rng, HOSTILE)
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    else:
        path.write_bytes(damage_bytes(path.read_bytes(), rng))


def make_case(originals, target, seed, number):
    """Write the damaged files of a case; the name of its border, and the file that is damaged."""
    rng = random.Random(f"{seed} {number}")
    names = [name for name, (share, *_) in BORDERS.items() for _ in range(share)]
    name = rng.choice(names)
    folder = BORDERS[name][1]
    if name == "checkpoint":
        files = [originals / "a.ckpt"]
    elif folder is None:
        files = [originals / rng.choice(["w.pth", "w.safetensors", "w.pkl"])]
    else:
        files = sorted(p for p in (originals / folder).rglob("*") if p.is_file())
    if name == "images":
        files = [rng.choice(files)]
    base = originals if folder is None else originals / folder
    for path in files:
        copied = target / path.relative_to(base)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(path.read_bytes())
    if name == "results":
        annotations = target / "annotations"
        (annotations / "truth.json").write_text(json.dumps(panoptic_json()))
    jsons = [p for p in files if p.suffix == ".json"]
    victim = rng.choice(jsons if jsons and rng.random() < 0.6 else files).relative_to(base)
    damage_file(target / victim, rng)
    return name, victim


# --- running ---------------------------------------------------------------------------------


def run_case(originals, seed, number):
    """``read`` or ``refused`` if the case ends as it should, else what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        name, victim = make_case(originals, target, seed, number)
        try:
            BORDERS[name][2](target)
        except RefineError as error:
            line = str(error)
            if len(line) <= MAX_LENGTH and is_printable(line) and "object at 0x" not in line:
                return REFUSED
            return f"{name}: {victim}: message {line!r}"
        except Exception as error:  # anything else is what is looked for
            where = traceback.extract_tb(error.__traceback__)[-1]
            inside = f"{Path(where.filename).name}:{where.lineno}"
            return f"{name}: {victim}: {type(error).__name__} at {inside}: {str(error)[:150]!r}"
    return READ


def _work(originals, seed, first, last):
    """Run cases and print one line for each; the process is limited, and may die."""
    logging.disable()
    torch.set_num_threads(1)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, hard))
    for number in range(first, last):
        spent = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(spent) + CPU_SECONDS + 1, hard))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        sys.stdout.write(f"{json.dumps(run_case(originals, seed, number))}\n")


def run(cases, seed, *, originals):
    """How each case ended: ``read``, ``refused`` or what is wrong."""
    outcomes, first = {}, 0
    while first < cases:
        command = [sys.executable, __file__, "--worker", str(originals), str(first), str(cases)]
        process = subprocess.run(
            [*command, "--seed", str(seed)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, check=False,
        )  # fmt: skip
        lines = process.stdout.splitlines()
        for number, answer in zip(lines[::2], lines[1::2], strict=False):
            outcomes[int(number)] = json.loads(answer)
        if process.returncode == 0:
            break
        last = int(lines[-1]) if len(lines) % 2 else first
        outcomes[last] = f"the process ended with {process.returncode}"
        first = last + 1
    return outcomes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", nargs=3, metavar=("ORIGINALS", "FIRST", "LAST"))
    args = parser.parse_args()
    if args.worker:
        _work(Path(args.worker[0]), args.seed, int(args.worker[1]), int(args.worker[2]))
        return 0
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        originals = Path(folder)
        make_originals(originals)
        outcomes = run(args.cases, args.seed, originals=originals)
    good = [sum(outcome == kind for outcome in outcomes.values()) for kind in (READ, REFUSED)]
    for number, outcome in sorted(outcomes.items()):
        if outcome not in (READ, REFUSED):
            sys.stdout.write(f"case {number}: {outcome}\n")
    seconds, failed = time.perf_counter() - start, args.cases - sum(good)
    sys.stdout.write(
        f"seed {args.seed}: {args.cases} cases: {good[0]} read, {good[1]} refused, "
        f"{failed} failed; {seconds:.0f} s\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
