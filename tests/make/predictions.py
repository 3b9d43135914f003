"""Raw predictions like those of a network, and prediction caches of them."""

from dataclasses import asdict

import numpy as np
import torch
import torch.nn.functional as F

from refine.data.datamodule import PanopticDataModule
from refine.ops.outlines import decode_mask
from refine.options import DataOptions, FusionOptions, ImageOptions, ModelOptions, ToyOptions
from refine.prediction_cache.cache import PredictionReader, PredictionWriter
from refine.prediction_cache.header import (
    CacheHeader,
    DatasetIdentity,
    hash_image_ids,
    identify_dataset,
)
from refine.types import PairOcclusions, RawPrediction

IDS = [7, 3, 139]
CATEGORIES = 11
SMALL = {
    "num_things": 6,
    "num_categories": CATEGORIES,
    "num_detections": 12,
    "image_size": (120, 190),
    "original_size": (90, 143),
    "dominant": 6,
    "cell": 8,
}
TOY_SIZE = (64, 96)
"""Image size of the toy scenes, in pixels: height, width."""
COCO_SIZED = {"image_size": (800, 1333), "original_size": (120, 200)}


def smooth_logits(
    *, num_categories, size, dominant=10, cell=25, noise=1.0, seed=0, spread=6.0
) -> torch.Tensor:
    """``[C, h, w]``: broad fields, bumps ``cell`` wide, and fine ones, a sixth of it, on top.

    ``dominant`` categories are best somewhere; ``spread`` and ``noise`` are the strengths of their
    fields and of the fine ones.
    """
    generator = torch.Generator().manual_seed(seed)

    def field(count, width):
        low = [-(-side // width) + 2 for side in size]
        values = torch.randn(1, count, *low, generator=generator)
        return F.interpolate(values, size=size, mode="bicubic", align_corners=False)[0]

    logits = 2 * field(num_categories, cell) - 4
    chosen = torch.randperm(num_categories, generator=generator)[:dominant]
    logits[chosen] += spread * field(len(chosen), cell + cell // 2) + 4
    return logits + noise * field(num_categories, max(cell // 6, 1))


def fake_prediction(
    *,
    num_things=80, num_categories=133, num_detections=100, image_size=(800, 1333),
    original_size=(480, 800), seed=0, heads=(), rankings=(), **logits,
) -> RawPrediction:  # fmt: skip
    """One image's prediction; ``heads`` answer for every tenth ordered pair, in both orders."""
    generator = torch.Generator().manual_seed(seed)
    height, width = image_size
    corner = torch.rand(num_detections, 2, generator=generator)
    extent = torch.rand(num_detections, 2, generator=generator) * 0.5 + 0.01
    scale = torch.tensor([width, height], dtype=torch.float32)
    boxes = torch.cat([corner, (corner + extent).clamp(max=1)], dim=1) * scale.repeat(2)
    cells = [-(-side // 32) * 8 for side in image_size]
    pairs = torch.combinations(torch.arange(num_detections), 2)[::10]
    pairs = torch.cat([pairs, pairs.flip(1)]).reshape(-1, 2)
    return RawPrediction(
        boxes=boxes,
        scores=torch.rand(num_detections, generator=generator).sort(descending=True).values,
        labels=torch.randint(num_things, (num_detections,), generator=generator),
        mask_logits=4 * torch.randn(num_detections, 28, 28, generator=generator),
        semantic_logits=smooth_logits(
            num_categories=num_categories, size=cells, seed=seed, **logits
        ),
        image_size=image_size,
        original_size=original_size,
        occlusions={
            name: PairOcclusions(
                pairs=pairs, probabilities=torch.rand(len(pairs), generator=generator)
            )
            for name in heads
        },
        rankings={name: torch.rand(num_detections, generator=generator) for name in rankings},
    )


def a_header(ids=IDS, form="full", num_categories=CATEGORIES, **changes):
    dataset = DatasetIdentity(
        name="panoptic_val.json",
        num_images=len(ids),
        categories=[
            {"id": k + 1, "name": str(k), "isthing": int(k < 6)} for k in range(num_categories)
        ],
        image_ids=hash_image_ids(list(ids)),
        annotations="a",
    )
    settings = {"panoptic_only": False, "score_thresh": 0.05, "checkpoint": {"sha256": "c0ffee"}}
    return CacheHeader(dataset=dataset, form=form, **(settings | changes))


def write_all(folder, header, raws, *, finish=True):
    writer = PredictionWriter(folder, header)
    for image_id, raw in raws.items():
        writer.write(image_id, raw)
    if finish:
        writer.finish(list(raws))
    return writer


def through_cache(tmp_path, raw, *, form):
    header = a_header(
        [1],
        form,
        len(raw.semantic_logits),
        occlusion_heads=tuple(raw.occlusions),
        ranking_heads=tuple(raw.rankings),
    )
    write_all(tmp_path / "cache", header, {1: raw})
    return PredictionReader(tmp_path / "cache").read(1)


def assert_same(a, b, *names):
    for name in names:
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype
        assert torch.equal(x, y), name


def _toy_data(root, num_val):
    image = ImageOptions(train_short_sides_px=[64], eval_short_side_px=64, max_long_side_px=96)
    toy = ToyOptions(
        num_train=1, num_val=num_val, version=2, height_px=TOY_SIZE[0], width_px=TOY_SIZE[1]
    )
    return DataOptions(root=str(root), num_workers=0, image=image, stuff_area_limit_px=0, toy=toy)


def write_toy_cache(folder, *, root, num_val=12, heads=(), rankings=(), random_answers=False):
    """A cache of toy scenes whose detections are the true instances, with falling scores.

    Occlusion heads put the later detection on top and rank it higher, or all answer at random.
    """
    data = _toy_data(root, num_val)
    datamodule = PanopticDataModule(data, seed=0)
    datamodule.prepare_data()
    datamodule.setup("validate")
    dataset = datamodule.val_dataset
    sections = {"model": ModelOptions(), "data": data, "fusion": FusionOptions()}
    header = CacheHeader(
        dataset=identify_dataset(dataset.files.annotations, dataset.image_ids),
        form="full",
        panoptic_only=False,
        score_thresh=0.05,
        checkpoint={"config": {name: asdict(o) for name, o in sections.items()}},
        occlusion_heads=tuple(heads),
        ranking_heads=tuple(rankings),
    )
    writer = PredictionWriter(folder, header)
    for index, image_id in enumerate(dataset.image_ids):
        truth = dataset.read_truth(index)[2]
        raw = _predict(truth, len(dataset.categories), heads, rankings, index, random_answers)
        writer.write(image_id, raw)
    writer.finish(dataset.image_ids)
    return folder


def _predict(truth, num_categories, heads, rankings, seed, random_answers):
    instances, generator = truth.instances, torch.Generator().manual_seed(seed)
    number = len(instances.labels)
    pairs = torch.tensor([(i, j) for i in range(number) for j in range(number) if i != j])
    pairs = pairs.reshape(-1, 2)

    def answer(ordered):
        return torch.rand(len(ordered), generator=generator) if random_answers else ordered

    later_on_top = (pairs[:, 0] > pairs[:, 1]).float()
    return RawPrediction(
        boxes=torch.from_numpy(instances.boxes).float(),
        scores=torch.linspace(0.95, 0.6, number),
        labels=torch.from_numpy(instances.labels).long(),
        mask_logits=torch.stack([_to_logits(m) for m in instances.masks]),
        semantic_logits=smooth_logits(
            num_categories=num_categories, size=(16, 24), dominant=4, cell=6, seed=seed
        ),
        image_size=TOY_SIZE,
        original_size=TOY_SIZE,
        occlusions={
            name: PairOcclusions(pairs=pairs, probabilities=answer(later_on_top)) for name in heads
        },
        rankings={name: answer(torch.linspace(0, 1, number)) for name in rankings},
    )


def _to_logits(coded):
    mask = decode_mask(coded).mask
    rows, columns = (((np.arange(28) + 0.5) * side / 28).astype(int) for side in mask.shape)
    return torch.from_numpy(np.where(mask[rows][:, columns], 8.0, -8.0)).float()
