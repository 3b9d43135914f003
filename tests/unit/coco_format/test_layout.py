import json
import shutil
import zipfile
from functools import partial

import pytest

from make.dataset import instances_json, panoptic_json, write_tree
from make.errors import refused
from refine.coco_format.layout import INSTANCES_ZIP, PANOPTIC_ZIP, open_dataset

SPLIT = "val2017"
PNGS = f"annotations/panoptic_{SPLIT}"


def _zip_folder(folder, target, prefix, *, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(target, "w", method) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, prefix + path.name)
    shutil.rmtree(folder)


def _official(root, *, method, folder=""):
    """The tree as downloaded: images, both annotation archives, all zipped."""
    inner = root / f"panoptic_{SPLIT}.zip"
    _zip_folder(root / PNGS, inner, f"panoptic_{SPLIT}/", method=zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(root / folder / PANOPTIC_ZIP, "w", method) as archive:
        archive.writestr(f"{PNGS}.json", json.dumps(panoptic_json()))
        archive.write(inner, f"{PNGS}.zip")
    with zipfile.ZipFile(root / folder / INSTANCES_ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"annotations/instances_{SPLIT}.json", json.dumps(instances_json()))
    inner.unlink()
    for path in (root / "annotations").glob("*.json"):
        path.unlink()
    _zip_folder(root / SPLIT, root / f"{SPLIT}.zip", f"{SPLIT}/")


def _zip_pngs(root, folder):
    _zip_folder(root / PNGS, root / folder / f"panoptic_{SPLIT}.zip", f"panoptic_{SPLIT}/")


LAYOUTS = {
    "unpacked": lambda root: None,
    "PNGs in the root": lambda root: (root / PNGS).rename(root / f"panoptic_{SPLIT}"),
    "zipped PNGs in annotations": partial(_zip_pngs, folder="annotations"),
    "zipped PNGs in the root": partial(_zip_pngs, folder=""),
    "official, stored": partial(_official, method=zipfile.ZIP_STORED),
    "official, compressed": partial(_official, method=zipfile.ZIP_DEFLATED),
    "in annotations": partial(_official, method=zipfile.ZIP_STORED, folder="annotations"),
}


@pytest.mark.parametrize("arrange", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_gives_the_same_files(tmp_path, arrange):
    root = write_tree(tmp_path, SPLIT, instances=instances_json())
    jpeg = (root / SPLIT / "0002.jpg").read_bytes()
    png = (root / PNGS / "0002.png").read_bytes()
    arrange(root)
    files = open_dataset(root, SPLIT)
    assert files.annotations.image_ids.tolist() == [1, 2, 3]
    assert len(files.instances) == 4
    assert files.images.read("0002.jpg") == jpeg
    assert files.pngs.read("0002.png") == png


def test_a_compressed_inner_zip_goes_to_the_cache(tmp_path):
    root = write_tree(tmp_path / "root", SPLIT)
    _official(root, method=zipfile.ZIP_DEFLATED)
    open_dataset(root, SPLIT, cache_dir=tmp_path / "elsewhere")
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1
    assert not (root / ".refine_cache").exists()
    open_dataset(root, SPLIT)
    assert len(list((root / ".refine_cache").iterdir())) == 1


@pytest.mark.parametrize("part", [SPLIT, f"{PNGS}.json", PNGS])
def test_a_missing_part_is_named(tmp_path, part):
    path = write_tree(tmp_path, SPLIT) / part
    assert open_dataset(tmp_path, SPLIT).instances is None  # they are optional
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with refused(f"{tmp_path}: neither {part}", "data.root"):
        open_dataset(tmp_path, SPLIT)


def test_messages_name_the_root_or_the_zip(tmp_path):
    with refused("nowhere: no such dataset folder", "data=toy"):
        open_dataset(tmp_path / "nowhere", SPLIT)
    with zipfile.ZipFile(tmp_path / PANOPTIC_ZIP, "w") as archive:
        archive.writestr(f"{PNGS}.json", "{}")
    with refused(f"{PANOPTIC_ZIP}/annotations/panoptic_val2017.json: "):
        open_dataset(tmp_path, SPLIT)
