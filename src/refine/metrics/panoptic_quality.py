"""Panoptic quality as a torchmetrics metric, for validation loops on any number of processes.

torchmetrics has a class of the same name. It rewards turning predictions into void, which is what
Unknown Erasing does, and knows no crowds; this one follows the official evaluator.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from refine.categories import CategoryTable
from refine.errors import RefineError
from refine.metrics.functional import PanopticStats, average_quality, match_segments, to_metric_keys
from refine.metrics.plain_segments import read_panoptic
from refine.metrics.quality_table import CategoryRow, category_rows
from refine.metrics.records import RECORD_DTYPE, sort_records, to_records
from refine.types import GroundTruth, PanopticPrediction

Prediction = PanopticPrediction | Mapping[str, Any]
Target = GroundTruth | Mapping[str, Any]


class PanopticQuality(Metric):
    """PQ, SQ and RQ over all categories, things and stuff, by the official evaluator's rules.

    The state is four sums for each category, added up over processes, so the result does not
    depend on how images are spread. Beside the sums it keeps what each image with an id added
    (:mod:`refine.metrics.records`), 48 bytes for each image and category in it.

    Args:
        categories: COCO's list of dictionaries with ``id``, ``name`` and ``isthing``, or a table.
        **kwargs: torchmetrics' own options.

    Raises:
        RefineError: A malformed category, or an id used twice.

    Example:
        >>> import numpy as np
        >>> import refine
        >>> quality = refine.PanopticQuality(
        ...     [{"id": 7, "name": "cat", "isthing": 1}, {"id": 9, "name": "sky", "isthing": 0}]
        ... )
        >>> target = {
        ...     "segment_map": np.array([[1, 1, 1, 1, 2]]),
        ...     "segments_info": [{"id": 1, "category_id": 7}, {"id": 2, "category_id": 9}],
        ... }
        >>> prediction = target | {"segment_map": np.array([[1, 1, 1, 0, 2]])}
        >>> quality.update(prediction, target)
        >>> quality.compute()["pq"].item()
        0.875
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    iou: Tensor
    tp: Tensor
    fp: Tensor
    fn: Tensor
    records: list[Tensor]  # bytes: torch knows no structured arrays

    def __init__(
        self, categories: CategoryTable | Sequence[Mapping[str, Any]], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.categories = CategoryTable.of(categories)
        number = len(self.categories)
        self.add_state("iou", torch.zeros(number, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("tp", "fp", "fn"):
            self.add_state(name, torch.zeros(number, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("records", [], dist_reduce_fx="cat")

    def update(
        self,
        predictions: Prediction | Sequence[Prediction],
        targets: Target | Sequence[Target],
        *,
        image_ids: Sequence[int] | None = None,
        is_padding: Sequence[bool] | None = None,
    ) -> None:
        """Add an image, or several.

        An image is a dictionary of ``segment_map``, ``[H, W]`` integers of which 0 is void, an
        array or a tensor on any device; and ``segments_info``, COCO's list of a dictionary for
        each segment: ``id``, ``category_id`` and, for targets, ``iscrowd`` (0 if it is not there)
        and ``area``, its number of pixels, if it is there. Results of :func:`refine.load`'s models
        and of :func:`refine.fuse_predictions` are predictions, too.

        Args:
            predictions: One for each image, at original size.
            targets: Their ground truth, at the same size.
            image_ids: Ids of the images in the JSON, for :meth:`totals`; without them,
                no records are kept.
            is_padding: Images that only fill up a distributed sampler; they are skipped.

        Raises:
            RefineError: Another form, an unknown category, maps of different sizes, or segments
                that contradict their map.
            ValueError: Lists of different lengths.
        """
        predictions = predictions if isinstance(predictions, Sequence) else [predictions]
        targets = targets if isinstance(targets, Sequence) else [targets]
        total = PanopticStats.zeros(len(self.categories))
        records = [np.zeros(0, RECORD_DTYPE)]
        ids = range(len(predictions)) if image_ids is None else image_ids
        flags = [False] * len(predictions) if is_padding is None else is_padding
        for prediction, target, k, skip in zip(predictions, targets, ids, flags, strict=True):
            if not skip:
                stats = self._match(prediction, target, f"image {k}")
                total += stats
                records += [] if image_ids is None else [to_records(k, stats)]
        as_bytes = torch.from_numpy(np.concatenate(records).view(np.uint8))
        self.records.append(as_bytes.to(self.iou.device))
        for name in ("iou", "tp", "fp", "fn"):
            state = getattr(self, name)
            setattr(self, name, state + torch.from_numpy(getattr(total, name)).to(state.device))

    def _match(self, prediction: Prediction, target: Target, name: str) -> PanopticStats:
        found = read_panoptic(prediction, self.categories, source=f"{name}, prediction")
        true = read_panoptic(target, self.categories, source=f"{name}, target", is_target=True)
        try:
            return match_segments(found, true, num_categories=len(self.categories))
        except ValueError as error:
            raise RefineError(f"{name}: {error}") from None

    def compute(self) -> dict[str, Tensor]:
        """``pq sq rq``, then with ``_things`` and ``_stuff``: float64 fractions, 0 if empty."""
        keys = to_metric_keys(average_quality(self._sums(), self.categories.num_things))
        return {k: self.iou.new_tensor(value) for k, value in keys.items()}

    def totals(self) -> tuple[PanopticStats, np.ndarray]:
        """The sums, and the records of the images with ids, ascending by image.

        On several processes, call this method and :meth:`per_category` on all of them.
        """
        with self.sync_context(self.dist_sync_fn):
            as_bytes = dim_zero_cat(self.records) if len(self.records) else torch.empty(0).byte()
            return self._sums(), sort_records(as_bytes.cpu().numpy().view(RECORD_DTYPE))

    def per_category(self) -> list[CategoryRow]:
        """PQ, SQ, RQ and counts of each category, things first."""
        return category_rows(self.totals()[0], self.categories)

    def _sums(self) -> PanopticStats:
        sums: list[np.ndarray] = [s.cpu().numpy() for s in (self.iou, self.tp, self.fp, self.fn)]
        return PanopticStats(*sums)

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ""
    ) -> nn.Module:
        # follow to another device but never to another precision: torchmetrics guards .half() and
        # .float(), yet not .to(dtype)
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), exclude_state)
