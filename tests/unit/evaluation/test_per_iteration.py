"""Per-iteration sums: the last iteration is what the pipeline itself says."""

import numpy as np
import pytest

from make.batches import NUM_CATEGORIES, NUM_THINGS, fake_batch, fake_sample, tiny_network
from refine.categories import Category, CategoryTable
from refine.evaluation.evaluator import Evaluation
from refine.evaluation.per_iteration import evaluate_iterations
from refine.options import FusionOptions, MergeOptions
from refine.pipeline import Pipeline
from refine.types import GroundTruth, Segment

CATEGORIES = CategoryTable(
    [
        Category(dataset_id=k + 1, name=f"c{k}", is_thing=k < NUM_THINGS, color=(k, k, k))
        for k in range(NUM_CATEGORIES)
    ]
)


def _with_truth(sample):
    size = sample.original_size
    ids = np.arange(size[0] * size[1]).reshape(size) % NUM_CATEGORIES + 1
    sample.truth = GroundTruth(
        segment_map=ids.astype(np.int32),
        segments=tuple(
            Segment(id=k + 1, category=k, is_thing=k < NUM_THINGS, area=int((ids == k + 1).sum()))
            for k in range(NUM_CATEGORIES)
        ),
    )
    return sample


@pytest.mark.parametrize("iterations", [0, 2])
def test_the_last_iteration_is_what_the_pipeline_says(iterations):
    rng = np.random.default_rng(0)
    batch = fake_batch([_with_truth(fake_sample(rng)) for _ in range(2)])
    pipeline = Pipeline(
        tiny_network(iterations=iterations),
        num_things=NUM_THINGS,
        fusion=FusionOptions(merge=MergeOptions(score_thresh=0.2)),
        stuff_area_limit_px=1,
    ).eval()
    results = [e.compute() for e in evaluate_iterations(pipeline, [batch], CATEGORIES)]
    assert len(results) == iterations + 1
    whole = Evaluation(CATEGORIES, pipeline.fusion)
    whole.update(batch.samples, pipeline.predict(batch), 0.5)
    expected = whole.compute()
    assert results[-1].rows == expected.rows
    assert sum(row.fp for row in expected.rows) > 0
    assert 0 < results[-1].metrics["consensus_gap"] <= 1
    if not iterations:
        assert results[0].metrics["consensus_gap"] == expected.metrics["consensus_gap"]
    assert expected.metrics["images_per_second"] == 4.0
