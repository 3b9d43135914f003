"""A dataset in other categories: its files written anew, one segment and one pixel at a time."""

import copy

import numpy as np


def relabel_files(panoptic, maps, groups, instances=None):
    """The contents of the files with categories united as ``groups`` says, all others void.

    ``panoptic`` and ``instances`` are the JSONs' contents, ``maps`` ``[H, W]`` ids by PNG name,
    ``groups`` lists of old names by new name.
    """
    new_of, categories = {}, []
    for name, members in groups.items():
        old = sorted((c for c in panoptic["categories"] if c["name"] in members), key=_id)
        categories.append(old[0] | {"name": name})
        new_of.update({c["id"]: old[0]["id"] for c in old})
    is_thing = {c["id"]: c["isthing"] for c in categories}
    panoptic = copy.deepcopy(panoptic) | {"categories": categories}
    painted = {}
    for annotation in panoptic["annotations"]:
        old_map = maps[annotation["file_name"]]
        new_map = np.zeros_like(old_map)
        segments = []
        for segment in annotation["segments_info"]:
            category = new_of.get(segment["category_id"])
            if category is None:
                continue
            same = [
                s for s in segments
                if s["category_id"] == category and not is_thing[category]
                and not segment["iscrowd"] and not s["iscrowd"]
            ]  # fmt: skip
            if same:
                same[0]["area"] += segment["area"]
                new_map[old_map == segment["id"]] = same[0]["id"]
            else:
                segments.append(segment | {"category_id": category})
                new_map[old_map == segment["id"]] = segment["id"]
        annotation["segments_info"] = segments
        painted[annotation["file_name"]] = new_map
    if instances is not None:
        kept = [
            a | {"category_id": new_of[a["category_id"]]}
            for a in instances["annotations"] if a["category_id"] in new_of
        ]  # fmt: skip
        instances = instances | {"annotations": kept}
    return panoptic, painted, instances


def _id(category):
    return category["id"]
