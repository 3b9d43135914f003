"""What each order of overlapping instances decides, against the truth, pair by pair."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from refine.fusion.evidence import Evidence
from refine.fusion.relations import relate
from refine.options import FusionOptions, RelationsOptions
from refine.prediction_cache.header import CacheHeader
from refine.report.cached_images import CachedImages
from refine.types import GroundTruth

FIRST, SECOND = 0, 1
"""Of the two instances of a pair, the one with the higher score comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairDecisions:
    """Counts of one rule.

    Attributes:
        confusion: ``[2, 2]`` int64: rows, which one is truly on top (:data:`FIRST` or
            :data:`SECOND`); columns, which one the rule puts there. A rule without an opinion
            leaves the higher score on top, as the merge does.
        num_unknown: Pairs that the truth does not order.
    """

    confusion: np.ndarray
    num_unknown: int

    @property
    def accuracy(self) -> float:
        """Share of the ordered pairs that are right; NaN without any."""
        total = int(self.confusion.sum())
        return float(np.trace(self.confusion)) / total if total else float("nan")


def list_rules(header: CacheHeader) -> dict[str, RelationsOptions]:
    """Every order that a cache can give: the rules without training, and its heads."""
    rules = {kind: RelationsOptions(kind=kind) for kind in ("score", "area", "shr")}
    rules |= {name: RelationsOptions(kind="srm", head=name) for name in header.ranking_heads}
    for name in header.occlusion_heads:
        rules[name] = RelationsOptions(kind="occlusion", head=name)
        soft = RelationsOptions(kind="soft_occlusion", head=name)
        rules[f"{name}, sigma {soft.sigma:g}"] = soft
    return rules


def count_decisions(
    images: CachedImages,
    rules: Mapping[str, RelationsOptions],
    *,
    fusion: FusionOptions,
    image_ids: Iterable[int] | None = None,
) -> dict[str, PairDecisions]:
    """Count over images.

    Args:
        images: The cache and its dataset.
        rules: Rules by name; those that ask about the same pairs are comparable.
        fusion: Settings whose merge decides which instances there are.
        image_ids: Images to count; None is all.

    Raises:
        RefineError: A rule needs a head that the cache does not hold.
    """
    for relations in rules.values():
        images.reader.require_fusion(replace(fusion, relations=relations))
    counts = {name: np.zeros((3, 2), np.int64) for name in rules}
    for image_id in images.image_ids if image_ids is None else image_ids:
        evidence, truth = images.open_evidence(image_id), images.read_truth(image_id)
        for name, relations in rules.items():
            counts[name] += _count(evidence, truth, replace(fusion, relations=relations))
    return {
        name: PairDecisions(confusion=table[:2], num_unknown=int(table[2].sum()))
        for name, table in counts.items()
    }


def _count(evidence: Evidence, truth: GroundTruth, fusion: FusionOptions) -> np.ndarray:
    """``[3, 2]``: truly first, second, or unknown; decided first or second."""
    instances = evidence.instances(fusion.merge)
    overlaps = evidence.overlaps(fusion.merge)
    decided, true = (
        relate(instances, overlaps, relations, raw=evidence.raw, truth=truth).on_top
        for relations in (fusion.relations, replace(fusion.relations, kind="oracle"))
    )
    rows = np.select([true > 0, true < 0], [FIRST, SECOND], default=2)
    columns = np.where(decided < 0, SECOND, FIRST)
    return np.bincount(2 * rows + columns, minlength=6).reshape(3, 2)
