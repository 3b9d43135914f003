import shutil
import zipfile
from functools import partial

import pytest

from make.dataset import instances_json, write_tree, zip_folder, zip_officially
from make.errors import refused
from refine.coco_format.layout import PANOPTIC_ZIP, open_dataset

SPLIT = "val2017"
PNGS = f"annotations/panoptic_{SPLIT}"


def _zip_pngs(root, folder):
    zip_folder(root / PNGS, root / folder / f"panoptic_{SPLIT}.zip", f"panoptic_{SPLIT}/")


LAYOUTS = {
    "unpacked": lambda root: None,
    "PNGs in the root": lambda root: (root / PNGS).rename(root / f"panoptic_{SPLIT}"),
    "zipped PNGs in annotations": partial(_zip_pngs, folder="annotations"),
    "zipped PNGs in the root": partial(_zip_pngs, folder=""),
    "official, stored": partial(zip_officially, split=SPLIT, method=zipfile.ZIP_STORED),
    "official, compressed": partial(zip_officially, split=SPLIT, method=zipfile.ZIP_DEFLATED),
    "in annotations": partial(zip_officially, split=SPLIT, folder="annotations"),
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
    zip_officially(root, split=SPLIT, method=zipfile.ZIP_DEFLATED)
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
