"""Stage ``loading``: a training sample from its files, against one boolean mask per segment.

The usual way stacks a full-size mask for every segment, moves the stack through torchvision's
transforms and normalises to float in the loader. Both sides resize to a short side of 800 and flip.
"""

import io
import json
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

from benchmark.case import Case
from benchmark.scenes import draw_cells
from refine.coco_format.layout import open_dataset
from refine.coco_format.png import encode_segment_png
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.data.transforms import resized_size
from refine.options import ImageOptions
from refine.types import Sample, TrainingTarget

GOAL = 6.0  # with the 20 segments of the generated images
# the usual way grows with the number of segments, ours hardly does: COCO has 11 per image, and
# decoding the JPEG and the PNG, the same on both sides, is half of our time
REAL_GOAL = 3.5
NUM_IMAGES = 10
OPTIONS = ImageOptions(train_short_sides_px=[800], flip_prob=1.0)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def build() -> list[Case]:
    """Generated images always, real ones if REFINE_COCO_ROOT is set."""
    torch.set_num_threads(1)
    folder = tempfile.TemporaryDirectory()
    _write_generated(Path(folder.name))
    cases = [_case("generated 480x640", _open(Path(folder.name), "train"), folder, goal=GOAL)]
    if root := os.environ.get("REFINE_COCO_ROOT"):
        cases.append(_case("COCO val", _open(Path(root), "val2017"), None, goal=REAL_GOAL))
    return cases


def _open(root: Path, split: str) -> CocoPanopticDataset:
    files = open_dataset(root, split)
    some = files.annotations.image_ids[:NUM_IMAGES].tolist()
    return CocoPanopticDataset(files, OPTIONS, training=True, image_ids=some)


def _case(name: str, dataset: CocoPanopticDataset, folder: Any, *, goal: float) -> Case:
    pairs = [(dataset[k], _load_stacked(dataset, k)) for k in range(len(dataset))]
    pixels = sum(ours.image[0].numel() for ours, _ in pairs)
    ours_weight = sum(_weigh(ours) for ours, _ in pairs) / pixels
    peer_weight = sum(t.nbytes for _, peer in pairs for t in peer.values()) / pixels
    print(f"loading, {name}: {ours_weight:.2f} bytes per pixel, peer {peer_weight:.2f}")
    return Case(
        name=f"loading, {name}",
        # the folder lives as long as somebody may read from it
        ours=lambda: (folder, [dataset[k] for k in range(len(dataset))]),
        peer=lambda: [_load_stacked(dataset, k) for k in range(len(dataset))],
        check=partial(_check, pairs),
        items=len(dataset),
        goal=goal,
    )


def _load_stacked(dataset: CocoPanopticDataset, k: int) -> dict[str, Tensor]:
    files = dataset.files
    annotations = files.annotations
    with Image.open(io.BytesIO(files.images.read(str(annotations.image_names[k])))) as image:
        pixels = tv_tensors.Image(v2.functional.pil_to_tensor(image.convert("RGB")))
    with Image.open(io.BytesIO(files.pngs.read(str(annotations.file_names[k])))) as png:
        channels = np.array(png.convert("RGB"), dtype=np.uint32)
    ids = channels[..., 0] + 256 * channels[..., 1] + 65536 * channels[..., 2]
    segments = annotations.segments(k)
    masks = torch.from_numpy(np.stack([ids == s.id for s in segments]))
    size = resized_size((ids.shape[0], ids.shape[1]), 800, OPTIONS.max_long_side_px)
    transform = v2.Compose(
        [
            v2.Resize(size, antialias=True),
            v2.RandomHorizontalFlip(1.0),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    image_out, masks_out = transform(pixels, tv_tensors.Mask(masks))
    things = torch.tensor([s.is_thing and not s.is_crowd for s in segments])
    return {
        "image": image_out,
        "masks": masks_out,
        "boxes": masks_to_boxes(masks_out[things]),
        "labels": torch.tensor([s.category for s in segments]),
    }


def _weigh(sample: Sample) -> int:
    target = _target_of(sample)
    coded = sum(len(mask.counts) for mask in target.masks)
    tensors = (sample.image, target.semantic, target.boxes, target.labels)
    return coded + sum(tensor.nbytes for tensor in tensors)


def _target_of(sample: Sample) -> TrainingTarget:
    assert sample.target is not None
    return sample.target


def _check(pairs: Sequence[tuple[Sample, dict[str, Tensor]]]) -> None:
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    for ours, peer in pairs:
        grey = (peer["image"] * std + mean) * 255
        assert (grey - ours.image).abs().max() < 1.5, "pixels differ"
        semantic = _target_of(ours).semantic
        painted = torch.full_like(semantic, 255)
        for mask, label in zip(peer["masks"], peer["labels"].tolist(), strict=True):
            painted[mask] = label
        # the peer's nearest neighbour is that of the pixel's corner, half a pixel off
        assert (painted != semantic).float().mean() < 0.05, "labels differ"


def _write_generated(root: Path) -> None:
    """Smooth images of 20 cells in COCO's layout."""
    (root / "train").mkdir()
    (root / "annotations" / "panoptic_train").mkdir(parents=True)
    images, annotations = [], []
    for k in range(NUM_IMAGES):
        rng = np.random.default_rng(k)
        points = rng.uniform(0, 1, (20, 2)) * (480, 640)
        cells = draw_cells(rng, points, (480, 640), noise_px=0.5)
        name = f"{k}.png"
        colors = np.random.default_rng(100 + k).integers(0, 256, (21, 3)).astype(np.uint8)
        picture = Image.fromarray(colors[cells]).resize((640, 480), Image.Resampling.BICUBIC)
        picture.save(root / "train" / f"{k}.jpg", quality=90)
        (root / "annotations" / "panoptic_train" / name).write_bytes(encode_segment_png(cells))
        ids, areas = np.unique(cells, return_counts=True)
        segments = [
            {"id": i, "category_id": 1 + i % 2, "iscrowd": 0, "area": area}
            for i, area in zip(ids.tolist(), areas.tolist(), strict=True)
        ]
        images.append({"id": k, "file_name": f"{k}.jpg", "height": 480, "width": 640})
        annotations.append({"image_id": k, "file_name": name, "segments_info": segments})
    categories = [{"id": 1, "name": "a", "isthing": 1}, {"id": 2, "name": "b", "isthing": 0}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "panoptic_train.json").write_text(json.dumps(content))
