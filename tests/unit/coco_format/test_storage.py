import multiprocessing
import pickle
import zipfile
from concurrent.futures import ProcessPoolExecutor

import pytest

from make.errors import refused
from refine.coco_format.storage import open_inner_zip, open_storage

FILES = {"b.png": b"second" * 100, "a.png": b"first", "sub/ä.png": b""}
METHODS = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}


def _write_zip(path, files, *, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def _open_inner(folder, name="annotations/files.zip", prefix="files/"):
    return open_inner_zip(folder / "outer.zip", name, prefix=prefix, cache_dir=folder / "cache")


def _make(kind, tmp_path):
    if kind == "folder":
        for name, data in FILES.items():
            path = tmp_path / "files" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return open_storage(tmp_path / "files")
    if kind in METHODS:
        return open_storage(_write_zip(tmp_path / "files.zip", FILES, method=METHODS[kind]))
    prefixed = {f"files/{name}": data for name, data in FILES.items()}
    inner = _write_zip(tmp_path / "inner.zip", prefixed | {"__MACOSX/x": b"?"})
    content = {"readme": b"x" * 77, "annotations/files.zip": inner.read_bytes()}
    _write_zip(tmp_path / "outer.zip", content, method=METHODS[kind.removeprefix("inner ")])
    inner.unlink()
    return _open_inner(tmp_path)


@pytest.fixture(params=["folder", "stored", "deflated", "inner stored", "inner deflated"])
def storage(request, tmp_path):
    return _make(request.param, tmp_path)


def test_files_are_read_by_name(storage, tmp_path):
    for name, data in FILES.items():
        assert name in storage
        assert storage.read(name) == data
        assert storage.size(name) == len(data)
    assert "c.png" not in storage
    assert "" not in storage
    for ask in (storage.read, storage.size):
        with refused(tmp_path, "no file 'a_name_longer_than_any.png'"):
            ask("a_name_longer_than_any.png")
    (tmp_path / "secret").write_text("x")
    for name in ("../secret", "/etc/passwd", "sub/../../secret", "C:\\x", "a\\b"):
        with refused("leads outside"):
            storage.read(name)


def test_storages_travel_to_other_processes(storage):
    storage = pickle.loads(pickle.dumps(storage))
    # forked while the parent reads: a shared file position would mix the two up
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        children = [pool.submit(_read_often, storage) for _ in range(2)]
        assert _read_often(storage)
        assert all(child.result() for child in children)


def _read_often(storage):
    return all(storage.read(name) == data for _ in range(200) for name, data in FILES.items())


def test_prefixes_and_empty_zips(tmp_path):
    path = _write_zip(tmp_path / "p.zip", {"val/b.png": b"second"})
    for prefix, name in (("val/", "b.png"), ("", "val/b.png"), ("train/", "val/b.png")):
        storage = open_storage(path, prefix=prefix)
        assert storage.read(name) == b"second"
        assert ("val/b.png" in storage) == (name == "val/b.png")
    assert "a.png" not in open_storage(_write_zip(tmp_path / "e.zip", {}))


def test_what_is_no_zip_is_named(tmp_path):
    with refused("nowhere: no such folder or zip"):
        open_storage(tmp_path / "nowhere")
    path = _write_zip(tmp_path / "files.zip", FILES)
    path.write_bytes(path.read_bytes()[:-30])
    with refused("files.zip: no readable zip", "get the file again"):
        open_storage(path)
    _write_zip(tmp_path / "outer.zip", {"x.zip": b"no zip"}, method=zipfile.ZIP_STORED)
    with refused("outer.zip/x.zip: no readable zip"):
        _open_inner(tmp_path, "x.zip")
    assert _open_inner(tmp_path, "y.zip") is None


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("position", [0, 40])
def test_a_damaged_entry_is_named(tmp_path, method, position):
    path = _write_zip(tmp_path / "files.zip", FILES, method=method)
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)
    storage = open_storage(path)
    with refused("files.zip: 'b.png' cannot be read"):
        storage.read("b.png")
    assert storage.read("a.png") == b"first"
    storage = open_storage(_write_zip(path, FILES, method=zipfile.ZIP_BZIP2))
    with refused("compression method 12"):
        storage.read("b.png")


def test_only_a_compressed_inner_zip_is_unpacked_and_only_once(tmp_path):
    _make("inner stored", tmp_path)
    assert not (tmp_path / "cache").exists()
    _make("inner deflated", tmp_path)
    (copy,) = (tmp_path / "cache").iterdir()
    before = copy.stat().st_mtime_ns
    storage = _open_inner(tmp_path)
    assert copy.stat().st_mtime_ns == before
    assert storage.read("a.png") == b"first"
    assert "outer.zip/annotations/files.zip" in storage.label


def test_a_failed_unpacking_is_named_and_leaves_nothing_to_trust(tmp_path):
    cache = tmp_path / "cache"
    cache.write_text("a file, not a folder")
    with refused("cannot be unpacked", "data.cache_dir"):
        _make("inner deflated", tmp_path)
    cache.unlink()
    outer = tmp_path / "outer.zip"
    data = bytearray(outer.read_bytes())
    data[len(data) // 2] ^= 0xFF
    outer.write_bytes(data)
    with refused("cannot be unpacked"):
        _open_inner(tmp_path)
    assert list(cache.iterdir()) == []
