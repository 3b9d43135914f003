"""A checkpoint of a tiny network with random weights, and a photo."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from make.batches import NUM_CATEGORIES, NUM_THINGS, tiny_options
from refine.categories import CategoryTable
from refine.config.settings import Sections
from refine.options import DataOptions, FusionOptions
from refine.runs.checkpoint import make_record
from refine.runs.restore import build_pipeline

CATEGORIES = [
    {"id": 10 - k, "name": f"category {k}", "isthing": int(k < NUM_THINGS)}
    for k in range(NUM_CATEGORIES)
]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    sections = Sections(
        data=DataOptions(), model=tiny_options(iterations=1), fusion=FusionOptions()
    )
    sections.data.stuff_area_limit_px = 1
    sections.data.image.eval_short_side_px = 64
    sections.data.anchors.sizes_px = [8, 16, 32, 64, 128]
    sections.fusion.merge.score_thresh = 0.2
    table = CategoryTable.of(CATEGORIES)
    pipeline = build_pipeline(sections, categories=table)
    path = tmp_path_factory.mktemp("RUN") / "checkpoints" / "best.ckpt"
    path.parent.mkdir()
    weights = {f"pipeline.{key}": value for key, value in pipeline.state_dict().items()}
    torch.save({"refine": make_record(asdict(sections), table), "state_dict": weights}, path)
    return path


@pytest.fixture(scope="session")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (48, 60, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path
