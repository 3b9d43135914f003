"""Panoptic quality, one pixel and one pair at a time."""

from collections import Counter


def match_segments(pred_map, pred_segments, true_map, true_segments, num_categories):
    """The official rules as loops: a list of ``[iou, tp, fp, fn]``, one a category."""
    overlap, pred_area = _count(pred_map, true_map)
    sums = [[0.0, 0, 0, 0] for _ in range(num_categories)]
    matched_true, matched_pred = set(), set()
    for true in true_segments:
        for pred in pred_segments:
            common = overlap[true.id, pred.id]
            if true.is_crowd or true.category != pred.category or common == 0:
                continue
            union = true.area + pred_area[pred.id] - common - overlap[0, pred.id]
            if common / union > 0.5:
                sums[true.category][0] += common / union
                sums[true.category][1] += 1
                matched_true.add(true.id)
                matched_pred.add(pred.id)

    crowd_of_category = {s.category: s.id for s in true_segments if s.is_crowd}  # the last one
    for true in true_segments:
        if not true.is_crowd and true.id not in matched_true:
            sums[true.category][3] += 1
    for pred in pred_segments:
        crowd = crowd_of_category.get(pred.category)
        harmless = overlap[0, pred.id] + (overlap[crowd, pred.id] if crowd else 0)
        if pred.id not in matched_pred and harmless / pred_area[pred.id] <= 0.5:
            sums[pred.category][2] += 1
    return sums


def _count(pred_map, true_map):
    pairs = zip(true_map.ravel().tolist(), pred_map.ravel().tolist(), strict=True)
    return Counter(pairs), Counter(pred_map.ravel().tolist())


def average(sums, chosen):
    """``(pq, sq, rq, n)`` over those of the chosen categories that have segments."""
    pq = sq = rq = 0.0
    n = 0
    for category in chosen:
        iou, tp, fp, fn = sums[category]
        if tp + fp + fn == 0:
            continue
        n += 1
        pq += iou / (tp + 0.5 * fp + 0.5 * fn)
        sq += iou / tp if tp else 0.0
        rq += tp / (tp + 0.5 * fp + 0.5 * fn)
    return (pq / n, sq / n, rq / n, n) if n else (0.0, 0.0, 0.0, 0)
