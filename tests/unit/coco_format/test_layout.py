import shutil
import zipfile
from dataclasses import replace
from functools import partial

import pytest

from make.dataset import instances_json, write_tree, zip_folder, zip_officially
from make.errors import refused
from refine.coco_format.layout import PANOPTIC_ZIP, annotations_folder, open_dataset, open_split
from refine.options import DataOptions, SplitOptions

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


def _scatter(root, elsewhere, split, names):
    """Move the parts of a split to folders of any name; the settings that say where they lie."""
    parts = {
        "images": root / split, "masks": root / "annotations" / f"panoptic_{split}",
        "annotations": root / "annotations" / f"panoptic_{split}.json",
        "instances": root / "annotations" / f"instances_{split}.json",
    }  # fmt: skip
    for part, name in names.items():
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        parts[part].rename(elsewhere / name)
    return {part: str(elsewhere / name) for part, name in names.items()}


ANYWHERE = {
    "images": "my photos (1)/é", "masks": "x=1,2/m", "annotations": "a/b#.json", "instances": "it's"
}  # fmt: skip


@pytest.mark.parametrize(
    "parts", [*({p} for p in ANYWHERE), ANYWHERE.keys()], ids=lambda p: "+".join(p)
)
def test_parts_may_lie_anywhere(tmp_path, parts):
    root = write_tree(tmp_path / "root", SPLIT, instances=instances_json())
    plain = open_dataset(root, SPLIT)
    names = {part: ANYWHERE[part] for part in ANYWHERE if part in parts}
    given = _scatter(root, tmp_path / "b", SPLIT, names)
    if "annotations" in parts and "masks" not in parts:  # else they are sought beside the JSON
        given["masks"] = str(root / PNGS)
    options = DataOptions(root=str(root), val_split=SPLIT, val=SplitOptions(**given))
    files = open_split(options, SPLIT)
    for name in ("image_ids", "image_names", "file_names", "segment_areas"):
        mine, yours = (getattr(f.annotations, name) for f in (files, plain))
        assert mine.tolist() == yours.tolist()
    assert files.images.read("0002.jpg")
    assert files.pngs.read("0002.png")
    outlines = 4 if "instances" in parts or "annotations" not in parts else None
    assert (files.instances and len(files.instances)) == outlines
    if "annotations" in parts:
        assert annotations_folder(options, SPLIT) == tmp_path / "b" / "a"


def test_without_a_root_all_three_parts_are_enough_and_pngs_are_called_as_the_json(tmp_path):
    root = write_tree(tmp_path / "root", SPLIT)
    zip_folder(root / SPLIT, tmp_path / "photos.zip", "photos/")
    (root / "annotations").rename(tmp_path / "a")
    given = {
        "images": str(tmp_path / "photos.zip"),
        "annotations": str(tmp_path / "a" / f"panoptic_{SPLIT}.json"),
    }
    options = DataOptions(root="absent", train_split="mine", train=SplitOptions(**given))
    files = open_split(options, "mine")
    assert files.images.read("0002.jpg")
    assert files.pngs.read("0002.png")
    with refused("absent: no such dataset folder"):
        open_split(options, options.val_split)
    for part in given:
        bad = replace(options.train, **{part: str(tmp_path / "no")})
        with refused(f"{tmp_path / 'no'}: "):
            open_split(replace(options, train=bad), "mine")
    with pytest.raises(ValueError, match=r"data\.val_split='mine': expected another name"):
        replace(options, val_split="mine")
