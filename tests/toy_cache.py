"""A prediction cache of a few toy scenes whose detections are the true instances."""

from dataclasses import asdict

import numpy as np
import torch

from fake_predictions import smooth_logits
from refine.data.datamodule import PanopticDataModule
from refine.ops.outlines import decode_mask
from refine.options import DataOptions, FusionOptions, ImageOptions, ToyOptions
from refine.prediction_cache.header import CacheHeader, identify_dataset
from refine.prediction_cache.writer import PredictionWriter
from refine.types import PairOcclusions, RawPrediction

SIZE = (64, 96)


def make_data(root, *, num_val):
    image = ImageOptions(train_short_sides_px=[64], eval_short_side_px=64, max_long_side_px=96)
    toy = ToyOptions(num_train=1, num_val=num_val, height_px=SIZE[0], width_px=SIZE[1])
    return DataOptions(root=str(root), num_workers=0, image=image, stuff_area_limit_px=0, toy=toy)


def write_toy_cache(folder, *, root, num_val=12, heads=(), rankings=()):
    """Scores are a fixed fall; occlusion heads put the later detection on top."""
    data = make_data(root, num_val=num_val)
    datamodule = PanopticDataModule(data, seed=0)
    datamodule.prepare_data()
    datamodule.setup("validate")
    dataset = datamodule.val_dataset
    header = CacheHeader(
        dataset=identify_dataset(dataset.files.annotations, dataset.image_ids),
        form="full",
        panoptic_only=False,
        score_thresh=0.05,
        checkpoint={"config": {"data": asdict(data), "fusion": asdict(FusionOptions())}},
        occlusion_heads=tuple(heads),
        ranking_heads=tuple(rankings),
    )
    writer = PredictionWriter(folder, header)
    for index, image_id in enumerate(dataset.image_ids):
        truth = dataset.read_truth(index)[2]
        writer.write(image_id, _predict(truth, len(dataset.categories), heads, rankings, index))
    writer.finish(dataset.image_ids)
    return folder


def _predict(truth, num_categories, heads, rankings, seed):
    instances = truth.instances
    number = len(instances.labels)
    pairs = torch.tensor([(i, j) for i in range(number) for j in range(number) if i != j])
    pairs = pairs.reshape(-1, 2)
    later_on_top = (pairs[:, 0] > pairs[:, 1]).float() if len(pairs) else torch.zeros(0)
    return RawPrediction(
        boxes=torch.from_numpy(instances.boxes).float(),
        scores=torch.linspace(0.95, 0.6, number),
        labels=torch.from_numpy(instances.labels).long(),
        mask_logits=torch.stack([_to_logits(m) for m in instances.masks]),
        semantic_logits=smooth_logits(
            num_categories=num_categories, size=(16, 24), dominant=4, cell=6, seed=seed
        ),
        image_size=SIZE,
        original_size=SIZE,
        occlusions={
            name: PairOcclusions(pairs=pairs, probabilities=later_on_top) for name in heads
        },
        rankings={name: torch.linspace(0, 1, number) for name in rankings},
    )


def _to_logits(coded):
    mask = decode_mask(coded).mask
    rows, columns = (((np.arange(28) + 0.5) * side / 28).astype(int) for side in mask.shape)
    return torch.from_numpy(np.where(mask[rows][:, columns], 8.0, -8.0)).float()
