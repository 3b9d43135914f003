"""Per-iteration sums: the last iteration is what the pipeline itself says."""

import numpy as np
import pytest

from make.batches import NUM_CATEGORIES, NUM_THINGS, fake_batch, fake_sample, tiny_network
from refine.categories import Category, CategoryTable
from refine.evaluation.per_iteration import IterationEvaluation
from refine.metrics.panoptic_quality import PanopticQuality
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
    evaluation = IterationEvaluation(pipeline, CATEGORIES)
    rows = evaluation.run([batch])
    assert len(rows) == iterations + 1
    expected = PanopticQuality(CATEGORIES)
    outputs = pipeline.predict(batch)
    expected.update(
        [panoptic for _, panoptic in outputs],
        [s.truth for s in batch.samples],
        image_ids=[1, 1],
        is_padding=[False, False],
    )
    found, wanted = (m.per_category() for m in (evaluation.qualities[-1], expected))
    assert found == wanted
    assert sum(row.fp for row in wanted) > 0
    assert 0 < rows[-1]["consensus_gap"] <= 1
