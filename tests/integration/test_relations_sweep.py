"""Tables 5 and 6 in one pass each, over predictions that hold the answers of all heads."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from make.predictions import write_all
from refine.config import compose
from refine.config.instantiate import to_options, to_plain
from refine.data.datamodule import PanopticDataModule
from refine.ops.masks import roi_mask_targets
from refine.ops.outlines import decode_mask
from refine.options import DataOptions
from refine.prediction_cache.header import CacheHeader, identify_dataset
from refine.types import PairOcclusions, RawPrediction

pytestmark = pytest.mark.slow
OCCLUSION_HEADS = ("category", "mask", "feature", "label", "ocfusion", "strong")


@pytest.fixture(scope="module")
def cache(settings, tmp_path_factory):
    """Made-up answers about the true instances of toy scenes; each head has its own opinion."""
    cfg = compose("train", settings)
    datamodule = PanopticDataModule(to_options(cfg.data, DataOptions), seed=0)
    datamodule.setup("validate")
    dataset = datamodule.val_dataset
    header = CacheHeader(
        dataset=identify_dataset(dataset.files.annotations, dataset.image_ids),
        form="full",
        panoptic_only=False,
        score_thresh=0.05,
        checkpoint={"config": {s: to_plain(cfg[s]) for s in ("model", "data", "fusion")}},
        occlusion_heads=OCCLUSION_HEADS,
        ranking_heads=("srm",),
    )
    raws = {}
    for index in range(len(dataset)):
        image_id, _, truth = dataset.read_truth(index)
        raws[image_id] = _predict(truth, dataset.categories)
    folder = tmp_path_factory.mktemp("cache") / "all_heads"
    write_all(folder, header, raws)
    return folder


def _predict(truth, categories):
    """The true instances with their outlines, and scores that say nothing of the order."""
    rng = torch.Generator().manual_seed(int(truth.segment_map.sum()))
    count = len(truth.instances.boxes)
    height, width = truth.segment_map.shape
    pairs = torch.combinations(torch.arange(count), 2)
    pairs = torch.cat([pairs, pairs.flip(1)])
    by_id = np.zeros(1 + max(s.id for s in truth.segments), np.int64)
    for segment in truth.segments:
        by_id[segment.id] = segment.category
    cells = torch.from_numpy(by_id[truth.segment_map][2::4, 2::4])
    semantic = F.one_hot(cells, len(categories)).permute(2, 0, 1)
    outlines = [decode_mask(m) for m in truth.instances.masks]
    shares = roi_mask_targets(outlines, truth.instances.boxes, 28)
    return RawPrediction(
        boxes=torch.from_numpy(truth.instances.boxes),
        scores=(0.6 + 0.4 * torch.rand(count, generator=rng)).sort(descending=True).values,
        labels=torch.from_numpy(truth.instances.labels),
        mask_logits=10 * torch.from_numpy(shares) - 5,
        semantic_logits=5.0 * semantic,
        image_size=(height, width),
        original_size=(height, width),
        occlusions={
            name: PairOcclusions(pairs=pairs, probabilities=torch.rand(len(pairs), generator=rng))
            for name in OCCLUSION_HEADS
        },
        rankings={"srm": torch.rand(count, generator=rng)},
    )


def _sweep(cache, tmp_path, name, *overrides):
    """The finished command, and the results by job."""
    done = subprocess.run(
        [
            sys.executable, "-m", "refine.evaluate", "-m", f"sweep={name}",
            f"predictions={cache}", "data.num_workers=0", *overrides,
        ],
        check=False, capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    folder = tmp_path / "runs" / f"sweep_{name}"
    jobs = {
        p.parent.name: json.loads((p.parent / "metrics.json").read_text())
        for p in folder.glob("*/DONE")
    }
    return done, jobs


def test_every_row_of_table_5_comes_out_of_one_pass(cache, tmp_path):
    done, jobs = _sweep(cache, tmp_path, "relations", "fusion.unknown_erasing.mode=score")
    assert done.returncode == 0, done.stderr
    names = [
        "heuristic", "area", "shr", "srm", "category_pairs", "ocfusion", "strong_baseline", "soe",
        "oracle",
    ]  # fmt: skip
    assert set(jobs) == {f"fusion.unknown_erasing.mode=score,fusion={n}" for n in names}
    assert len({m["pq_things"] for m in jobs.values()}) > len(names) // 2  # each has its own order
    best = max(jobs, key=lambda name: jobs[name]["pq_things"])
    assert "oracle" in best


def test_every_row_of_table_6_has_its_own_head(cache, tmp_path):
    done, jobs = _sweep(cache, tmp_path, "soe_inputs")
    assert done.returncode == 0, done.stderr
    names = [
        "heuristic", "mask_only", "feature_only", "label_only", "ocfusion", "strong_baseline",
        "soe",
    ]  # fmt: skip
    assert set(jobs) == {f"fusion={n}" for n in names}
    assert len({m["pq_things"] for m in jobs.values()}) > 3


def test_a_sweep_that_is_started_again_finds_its_rows(cache, tmp_path):
    overrides = ["hydra.sweeper.params.fusion='area,soe'"]
    for number in (0, 2):
        done, jobs = _sweep(cache, tmp_path, "relations", *overrides)
        assert set(jobs) == {"fusion=area", "fusion=soe"}
        assert done.stdout.count("finished before") == number
