"""Panoptic quality as a torchmetrics metric, for validation loops on any number of processes.

torchmetrics has a class of the same name. It rewards turning predictions into void, which is what
Unknown Erasing does, and knows no crowds; this one follows the official evaluator.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from refine.categories import CategoryTable
from refine.metrics.functional import (
    GroupQuality,
    PanopticStats,
    average_quality,
    match_segments,
    to_metric_keys,
)
from refine.metrics.quality_table import CategoryRow, category_rows
from refine.metrics.records import RECORD_DTYPE, sort_records, to_records
from refine.types import GroundTruth, PanopticPrediction


class PanopticQuality(Metric):
    """PQ, SQ and RQ over all categories, things and stuff, by the official evaluator's rules.

    The state is four sums a category, added up over processes, so the result does not depend on
    how images are spread; images flagged as sampler padding are left out. Beside the sums it keeps
    what each image added (:mod:`refine.metrics.records`), 48 bytes an image and category.

    Args:
        categories: Those of the dataset.
        **kwargs: torchmetrics' own options.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    iou: Tensor
    tp: Tensor
    fp: Tensor
    fn: Tensor
    records: list[Tensor]  # bytes: torch knows no structured arrays

    def __init__(self, categories: CategoryTable, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.categories = categories
        number = len(categories)
        self.add_state("iou", torch.zeros(number, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("tp", "fp", "fn"):
            self.add_state(name, torch.zeros(number, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("records", [], dist_reduce_fx="cat")

    def update(
        self,
        predictions: Sequence[PanopticPrediction],
        truths: Sequence[GroundTruth],
        *,
        image_ids: Sequence[int],
        is_padding: Sequence[bool],
    ) -> None:
        """Add images.

        Args:
            predictions: One an image, at original size.
            truths: Their ground truth, at the same size.
            image_ids: Their ids in the JSON.
            is_padding: Images that only fill up a distributed sampler; they are skipped.

        Raises:
            ValueError: Lists of different lengths, maps of different sizes, or segments that
                contradict their map.
        """
        total = PanopticStats.zeros(len(self.categories))
        records = [np.zeros(0, RECORD_DTYPE)]
        columns = zip(predictions, truths, image_ids, is_padding, strict=True)
        for prediction, truth, image_id, skip in columns:
            if skip:
                continue
            stats = match_segments(
                prediction.segment_map,
                prediction.segments,
                true_map=truth.segment_map,
                true_segments=truth.segments,
                num_categories=len(self.categories),
            )
            total += stats
            records.append(to_records(image_id, stats))
        as_bytes = torch.from_numpy(np.concatenate(records).view(np.uint8))
        self.records.append(as_bytes.to(self.iou.device))
        for name in ("iou", "tp", "fp", "fn"):
            state = getattr(self, name)
            setattr(self, name, state + torch.from_numpy(getattr(total, name)).to(state.device))

    def compute(self) -> dict[str, Tensor]:
        """``pq sq rq``, and the same with ``_things`` and ``_stuff``: float64 fractions.

        A group without any segment gives 0; :meth:`groups` tells such a 0 from a real one.
        """
        keys = to_metric_keys(average_quality(self._stats(), self.categories.num_things))
        return {
            key: torch.tensor(value, dtype=torch.float64, device=self.iou.device)
            for key, value in keys.items()
        }

    def groups(self) -> dict[str, GroupQuality]:
        """Averages over all, things and stuff with the number of categories in each.

        On several processes, call it on all of them.
        """
        with self.sync_context(self.dist_sync_fn):
            return average_quality(self._stats(), self.categories.num_things)

    def per_category(self) -> list[CategoryRow]:
        """One row a category with dataset ids. On several processes, call it on all of them."""
        with self.sync_context(self.dist_sync_fn):
            return category_rows(self._stats(), self.categories)

    def image_records(self) -> np.ndarray:
        """``[R]`` records, ascending by image. On several processes, call it on all of them."""
        with self.sync_context(self.dist_sync_fn):
            parts = self.records
            as_bytes = dim_zero_cat(parts).cpu().numpy() if len(parts) else np.zeros(0, np.uint8)
            return sort_records(as_bytes.view(RECORD_DTYPE))

    def _stats(self) -> PanopticStats:
        sums: list[np.ndarray] = [s.cpu().numpy() for s in (self.iou, self.tp, self.fp, self.fn)]
        return PanopticStats(*sums)

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ""
    ) -> nn.Module:
        # follow to another device but never to another precision: torchmetrics guards .half() and
        # .float(), yet not .to(dtype), which Lightning calls under "bf16-true"
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), exclude_state)
