"""Everything after the network: the evidence of one image becomes one panoptic map."""

from functools import partial

from refine.errors import RefineError
from refine.fusion.evidence import Evidence
from refine.fusion.merge import merge_segments
from refine.fusion.relations import relate
from refine.fusion.unknown_erasing import erase, erase_categories, wrong_stuff
from refine.options import FusionOptions
from refine.types import GroundTruth, PanopticPrediction, PanopticRuns


def fuse(
    evidence: Evidence,
    options: FusionOptions,
    *,
    stuff_area_limit_px: int,
    truth: GroundTruth | None = None,
) -> PanopticPrediction:
    """Erase, relate and merge, at original size; only the oracles read ``truth``.

    Stuff with fewer than ``stuff_area_limit_px`` original pixels becomes void.

    Raises:
        RefineError: A setting needs ``truth`` or a head of the network that is not there.
    """
    return fuse_to_runs(
        evidence, options, stuff_area_limit_px=stuff_area_limit_px, truth=truth
    ).paint()


def fuse_to_runs(
    evidence: Evidence,
    options: FusionOptions,
    *,
    stuff_area_limit_px: int,
    truth: GroundTruth | None = None,
) -> PanopticRuns:
    """What :func:`fuse` does, without painting the map."""
    instances = evidence.instances(options.merge)
    relations = None
    if options.relations.kind != "score":  # which is what the merge does by itself
        overlaps = evidence.overlaps(options.merge)
        relations = relate(instances, overlaps, options.relations, raw=evidence.raw, truth=truth)
    merge = partial(
        merge_segments,
        instances,
        num_things=evidence.num_things,
        options=options.merge,
        stuff_area_limit_px=stuff_area_limit_px,
        relations=relations,
    )
    erasing, resize = options.unknown_erasing, options.semantic_resize
    semantic = evidence.semantic_map(resize)
    if erasing.mode == "score":
        regions = evidence.regions(erasing, resize=resize)
        return merge(erase(semantic, regions, erasing.score_thresh))
    prediction = merge(semantic)
    if erasing.mode == "off":
        return prediction
    if truth is None:
        raise RefineError(
            "unknown_erasing.mode=oracle needs ground truth: choose it in an evaluation, not to "
            "predict"
        )
    return merge(erase_categories(semantic, wrong_stuff(prediction.paint(), truth)))
