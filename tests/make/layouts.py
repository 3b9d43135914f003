"""Annotated photos, written in every layout that ``refine.convert_dataset`` reads.

The writers share nothing with the readers: what a layout holds is painted and counted here.
"""

import base64
import csv
import io
import json
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from make.dataset import run_lengths, write_png

OWN = {  # name: id, isthing, color
    "sky": (0, 0, (70, 130, 180)),
    "vegetation": (1, 0, (107, 142, 35)),
    "car": (2, 1, (0, 0, 142)),
    "person": (7, 1, (220, 20, 60)),
}
CITYSCAPES = {
    "road": (7, 0, (128, 64, 128)), "sidewalk": (8, 0, (244, 35, 232)),
    "building": (11, 0, (70, 70, 70)), "wall": (12, 0, (102, 102, 156)),
    "fence": (13, 0, (190, 153, 153)), "pole": (17, 0, (153, 153, 153)),
    "traffic light": (19, 0, (250, 170, 30)), "traffic sign": (20, 0, (220, 220, 0)),
    "vegetation": (21, 0, (107, 142, 35)), "terrain": (22, 0, (152, 251, 152)),
    "sky": (23, 0, (70, 130, 180)), "person": (24, 1, (220, 20, 60)),
    "rider": (25, 1, (255, 0, 0)), "car": (26, 1, (0, 0, 142)), "truck": (27, 1, (0, 0, 70)),
    "bus": (28, 1, (0, 60, 100)), "train": (31, 1, (0, 80, 100)),
    "motorcycle": (32, 1, (0, 0, 230)), "bicycle": (33, 1, (119, 11, 32)),
}  # fmt: skip
VOID = ""


@dataclass
class Thing:
    """Polygons ``[x, y, ...]`` and the pixels in them, hidden ones too."""

    name: str
    polygons: list
    mask: np.ndarray
    is_crowd: bool = False


@dataclass
class Scene:
    """A photo with the name of the stuff at each pixel, and things from bottom to top."""

    stem: str
    photo: np.ndarray
    stuff: np.ndarray
    things: list = field(default_factory=list)

    @property
    def size(self):
        return self.stuff.shape

    def visible(self):
        """``[H, W]`` place of the thing on top, counted from 1; 0 where there is none."""
        painted = np.zeros(self.size, int)
        for k, thing in enumerate(self.things, start=1):
            painted[thing.mask] = k
        return painted

    def count(self):
        """Sorted ``(category, is crowd, pixels)`` of every segment."""
        painted = self.visible()
        masks = [(t.name, t.is_crowd, painted == k) for k, t in enumerate(self.things, start=1)]
        names = set(self.stuff.ravel()) - {VOID}
        masks += [(name, False, (self.stuff == name) & (painted == 0)) for name in names]
        return sorted((name, crowd, int(mask.sum())) for name, crowd, mask in masks if mask.any())


def rectangle_scene(rng, stem, *, size=(60, 90), crowds=True):
    """Rectangles on stripes of stuff; of two the smaller is on top."""
    stuff = np.full(size, VOID, dtype="<U12")
    stuff[:30] = "sky"
    stuff[32:] = "vegetation"
    boxes = []
    for _ in range(6):
        y, x = rng.integers(0, 40, 2)
        boxes.append((y, x, min(y + rng.integers(4, 30), size[0]), x + rng.integers(4, 40)))
    boxes.sort(key=lambda b: -(b[2] - b[0]) * (b[3] - b[1]))
    things = []
    for k, box in enumerate(boxes):
        top, left, bottom, right = map(int, box)
        mask = np.zeros(size, bool)
        mask[top:bottom, left:right] = True
        polygon = [left, top, right, top, right, bottom, left, bottom]
        name = str(rng.choice(["car", "person"]))
        things.append(Thing(name, [polygon], mask, is_crowd=crowds and k == 0))
    photo = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    return Scene(stem, photo, stuff, things)


def rectangle_scenes(seed, count=3, **options):
    """Scenes of different sizes, one of them in a folder of its own."""
    rng = np.random.default_rng(seed)
    stems = [f"photo {k}" if k else "sub/a" for k in range(count)]
    return [rectangle_scene(rng, s, size=(60 + 2 * k, 90), **options) for k, s in enumerate(stems)]


def write_photos(folder, scenes, *, suffix=".jpg"):
    for scene in scenes:
        path = folder / f"{scene.stem}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.photo).save(path)


def write_table(path, table=OWN, *, colors=True):
    """A CSV of the categories."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "name", "isthing", *(["color"] if colors else [])])
        for name, (number, is_thing, color) in table.items():
            code = "#" + bytes(color).hex()
            rows.writerow([number, name, is_thing, *([code] if colors else [])])
    return path


def category_list(table):
    return [
        {"id": number, "name": name, "isthing": is_thing, "color": [*color]}
        for name, (number, is_thing, color) in table.items()
    ]


def label_map(scene, table, *, void=255, things=False):
    """``[H, W]`` category ids; with ``things`` those of the things on top, too."""
    ids = {name: number for name, (number, *_) in table.items()} | {VOID: void}
    labels = np.array([ids[name] for name in scene.stuff.ravel()]).reshape(scene.size)
    if things:
        for thing in scene.things:
            labels[thing.mask] = ids[thing.name]
    return labels


def instance_map(scene):
    """``[H, W]`` numbers of the instances, 0 where there is none or a crowd."""
    painted = scene.visible()
    for k, thing in enumerate(scene.things, start=1):
        if thing.is_crowd:
            painted[painted == k] = 0
    return painted


def save_labels(path, labels, *, kind, table):
    """A label map as grey, 16-bit grey, palette or RGB PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "rgb":
        image = np.zeros((*labels.shape, 3), np.uint8)
        for number, _, color in table.values():
            image[labels == number] = color
        Image.fromarray(image).save(path)
        return
    image = Image.fromarray(labels.astype(np.uint16 if kind == "16 bits" else np.uint8))
    if kind == "palette":
        image = image.convert("P") if image.mode != "P" else image
        image.putdata(labels.ravel().tolist())
        image.putpalette([v for k in range(256) for v in (k, 255 - k, 7 * k % 256)])
    image.save(path)


def write_coco(root, scenes, *, semantic="grey", table=OWN, seed=0):
    """``instances.json``, ``semantic`` (a folder, or ``stuff.json``), ``photos``, ``table.csv``.

    Annotations come in random order.
    """
    write_photos(root / "photos", scenes)
    write_table(root / "table.csv", table)
    images, annotations, stuff = [], [], []
    for k, scene in enumerate(scenes, start=101):
        height, width = scene.size
        name = f"{scene.stem}.jpg"
        images.append({"id": k, "file_name": name, "height": height, "width": width})
        for thing in scene.things:
            ys, xs = np.nonzero(thing.mask)
            box = [int(v) for v in (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)]
            outline = thing.polygons
            if thing.is_crowd:
                outline = {"size": [height, width], "counts": run_lengths(thing.mask)}
            annotations.append(
                {
                    "image_id": k, "category_id": table[thing.name][0], "bbox": box,
                    "iscrowd": int(thing.is_crowd), "segmentation": outline,
                    "area": int(thing.mask.sum()),
                }
            )  # fmt: skip
        for name in sorted(set(scene.stuff.ravel()) - {VOID}):
            mask = scene.stuff == name
            coded = {"size": [height, width], "counts": run_lengths(mask)}
            stuff.append({"image_id": k, "category_id": table[name][0], "segmentation": coded})
        if semantic != "json":
            labels = label_map(scene, table, things=semantic == "palette")
            path = root / "semantic" / f"{scene.stem}.png"
            save_labels(path, labels, kind=semantic, table=table)
    np.random.default_rng(seed).shuffle(annotations)
    for k, annotation in enumerate(annotations, start=1):
        annotation["id"] = 7 * k
    categories = category_list(table)
    things = [{"id": c["id"], "name": c["name"]} for c in categories if c["isthing"]]
    document = {"images": images, "annotations": annotations, "categories": things}
    (root / "instances.json").write_text(json.dumps(document))
    if semantic == "json":
        kept = [{"id": c["id"], "name": c["name"]} for c in categories if not c["isthing"]]
        document = {"images": images, "annotations": stuff, "categories": kept}
        (root / "stuff.json").write_text(json.dumps(document))
    return root


def write_labelme(root, scenes, *, table=OWN, stuff_as="rectangle"):
    """A JSON beside each photo; things are drawn after stuff, the upper ones later."""
    write_photos(root / "photos", scenes)
    write_table(root / "table.csv", table)
    for scene in scenes:
        height, width = scene.size
        shapes = []
        for name in sorted(set(scene.stuff.ravel()) - {VOID}):
            mask = scene.stuff == name
            ys, _ = np.nonzero(mask)
            shape = {
                "shape_type": "rectangle",
                "points": [[0, int(ys.min())], [width, int(ys.max()) + 1]],
            }
            shape = labelme_mask(mask) if stuff_as == "mask" else shape
            shapes.append({"label": name, "group_id": None, "flags": {}, **shape})
        for k, thing in enumerate(scene.things):
            several = len(thing.polygons) > 1
            shapes += [
                {"label": thing.name, "shape_type": "polygon", "flags": {},
                 "points": np.reshape(polygon, (-1, 2)).tolist(),
                 "group_id": k if several else None}
                for polygon in thing.polygons
            ]  # fmt: skip
        name = scene.stem.split("/")[-1]
        document = {
            "version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"{name}.jpg",
            "imageData": None, "imageHeight": height, "imageWidth": width,
        }  # fmt: skip
        (root / "photos" / f"{scene.stem}.json").write_text(json.dumps(document))
    return root


def labelme_mask(mask):
    """A shape of labelme's type ``mask``: a PNG within its box, in base64."""
    ys, xs = np.nonzero(mask)
    top, left, bottom, right = ys.min(), xs.min(), ys.max(), xs.max()
    target = io.BytesIO()
    Image.fromarray(mask[top : bottom + 1, left : right + 1]).save(target, "PNG")
    points = [[int(left), int(top)], [int(right), int(bottom)]]
    coded = base64.b64encode(target.getvalue()).decode()
    return {"shape_type": "mask", "points": points, "mask": coded}


def write_label_pngs(root, scenes, *, kind="palette", table=OWN):
    """VOC's folders; with ``kind="rgb"`` the colours of CVAT's export."""
    write_photos(root / "JPEGImages", scenes)
    write_table(root / "table.csv", table)
    for scene in scenes:
        labels = label_map(scene, table, things=True)
        save_labels(
            root / "SegmentationClass" / f"{scene.stem}.png", labels, kind=kind, table=table
        )
        numbers = instance_map(scene)
        path = root / "SegmentationObject" / f"{scene.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "rgb":
            colors = np.stack([numbers * 37 % 256, numbers * 91 % 256, numbers * 5], axis=-1)
            Image.fromarray(colors.astype(np.uint8)).save(path)
        else:
            save_labels(path, numbers, kind="palette", table=table)
    return root


def write_two_channels(root, scenes, *, kind="rgb", table=OWN):
    """PNGs of category and instance: red and green, or grey and alpha."""
    write_photos(root / "photos", scenes)
    write_table(root / "table.csv", table)
    for scene in scenes:
        labels, numbers = label_map(scene, table, things=True), instance_map(scene)
        channels = [labels, numbers] if kind == "la" else [labels, numbers // 2, numbers % 2]
        path = root / "maps" / f"{scene.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8)).save(path)
    return root


def write_panoptic(root, scenes, *, table=OWN, number=str, png_suffix="", image_suffix=""):
    """``panoptic.json`` with its PNGs, numbered by text as ADE20K's and Cityscapes' are."""
    write_photos(root / "photos", scenes)
    images, annotations = [], []
    for scene in scenes:
        height, width = scene.size
        name, painted = scene.stem.split("/")[-1], scene.visible()
        ids = np.zeros(scene.size, int)
        infos = []
        for k, thing in enumerate(scene.things, start=1):
            mask = painted == k
            if mask.any():
                infos.append((1000 * k, thing.name, thing.is_crowd, mask))
        for k, stuff in enumerate(sorted(set(scene.stuff.ravel()) - {VOID}), start=200_000):
            mask = (scene.stuff == stuff) & (painted == 0)
            if mask.any():
                infos.append((k, stuff, False, mask))
        for key, _, _, mask in infos:
            ids[mask] = key
        png = root / "panoptic" / f"{name}{png_suffix}.png"
        png.parent.mkdir(parents=True, exist_ok=True)
        write_png(png, ids)
        file_name = f"{scene.stem if image_suffix == '' else name}{image_suffix}.jpg"
        images.append(
            {"id": number(name), "file_name": file_name, "height": height, "width": width}
        )
        segments = [
            {"id": key, "category_id": table[c][0], "iscrowd": int(crowd), "area": int(m.sum())}
            for key, c, crowd, m in infos
        ]
        annotations.append(
            {"image_id": number(name), "file_name": png.name, "segments_info": segments}
        )
    document = {"images": images, "annotations": annotations, "categories": category_list(table)}
    (root / "panoptic.json").write_text(json.dumps(document))
    return root


def write_cityscapes(root, scenes, split="train", *, table=CITYSCAPES, polygons=True):
    """The folders of Cityscapes: photos, ``instanceIds`` and polygons of each city."""
    for scene in scenes:
        stem = "aachen/aachen_" + scene.stem.replace("/", "_").replace(" ", "_")
        photo = root / "leftImg8bit" / split / f"{stem}_leftImg8bit.png"
        target = root / "gtFine" / split / f"{stem}_gtFine_instanceIds.png"
        for path in (photo, target):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.photo).save(photo)
        labels = label_map(scene, table, void=4)  # "static", which is not evaluated
        objects, counts, painted = [], defaultdict(int), scene.visible()
        for k, thing in enumerate(scene.things, start=1):
            number, label = table[thing.name][0], thing.name
            if thing.is_crowd:
                value, label = number, f"{thing.name}group"
            else:
                value = number * 1000 + counts[number]
                counts[number] += 1
            labels[painted == k] = value
            largest = max(thing.polygons, key=len, default=[0, 0, 1, 0, 1, 1])
            objects.append({"label": label, "polygon": np.reshape(largest, (-1, 2)).tolist()})
        Image.fromarray(labels.astype(np.uint16)).save(target)
        if polygons:
            height, width = scene.size
            objects.insert(0, {"label": "road", "polygon": [[0, 0], [5, 0], [5, 5]]})
            document = {"imgHeight": height, "imgWidth": width, "objects": objects}
            path = target.with_name(target.name.replace("instanceIds.png", "polygons.json"))
            path.write_text(json.dumps(document))
    return root


def count_written(root, split):
    """Sorted ``(category, is crowd, pixels)`` of each image of a split, counted in its PNGs."""
    folder = root / "annotations"
    document = json.loads((folder / f"panoptic_{split}.json").read_text())
    names = {c["id"]: c["name"] for c in document["categories"]}
    files = {i["id"]: i["file_name"] for i in document["images"]}
    found = {}
    for annotation in document["annotations"]:
        path = folder / f"panoptic_{split}" / annotation["file_name"]
        pixels = np.asarray(Image.open(path)).astype(int) @ [1, 256, 65536]
        listed = {s["id"]: (names[s["category_id"]], bool(s["iscrowd"]), s["area"])
                  for s in annotation["segments_info"]}  # fmt: skip
        ids, areas = np.unique(pixels[pixels > 0], return_counts=True)
        assert {i: a for i, (*_, a) in listed.items()} == dict(zip(ids, areas, strict=True))
        found[files[annotation["image_id"]]] = sorted(listed.values())
    return found
