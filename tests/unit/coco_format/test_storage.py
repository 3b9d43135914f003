import multiprocessing
import pickle
import zipfile
from concurrent.futures import ProcessPoolExecutor

import pytest

from refine.coco_format.storage import open_inner_zip, open_storage
from refine.errors import RefineError

FILES = {"b.png": b"second" * 100, "a.png": b"first", "sub/ä.png": b""}


def _write_zip(path, files, *, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def _prefixed(prefix):
    return {prefix + name: data for name, data in FILES.items()}


def _make(kind, tmp_path):
    if kind == "folder":
        for name, data in FILES.items():
            path = tmp_path / "files" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return open_storage(tmp_path / "files")
    methods = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}
    if kind in methods:
        return open_storage(_write_zip(tmp_path / "files.zip", FILES, method=methods[kind]))
    inner = _write_zip(tmp_path / "inner.zip", _prefixed("files/") | {"__MACOSX/x": b"?"})
    content = {"readme": b"x" * 77, "annotations/files.zip": inner.read_bytes()}
    method = methods[kind.removeprefix("inner ")]
    outer = _write_zip(tmp_path / "outer.zip", content, method=method)
    inner.unlink()
    cache = tmp_path / "cache"
    return open_inner_zip(outer, "annotations/files.zip", prefix="files/", cache_dir=cache)


KINDS = ["folder", "stored", "deflated", "inner stored", "inner deflated"]


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_read_by_name(kind, tmp_path):
    storage = _make(kind, tmp_path)
    for name, data in FILES.items():
        assert name in storage
        assert storage.read(name) == data
    assert "c.png" not in storage
    assert "" not in storage


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_those_of_the_content(kind, tmp_path):
    storage = _make(kind, tmp_path)
    assert {name: storage.size(name) for name in FILES} == {k: len(v) for k, v in FILES.items()}
    with pytest.raises(RefineError, match=r"no file 'c.png'"):
        storage.size("c.png")


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_file_is_named(kind, tmp_path):
    with pytest.raises(RefineError, match=r"no file 'a_name_longer_than_any.png'") as error:
        _make(kind, tmp_path).read("a_name_longer_than_any.png")
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/../../secret", "C:\\x", "a\\b"])
def test_names_that_lead_outside_are_refused(kind, name, tmp_path):
    (tmp_path / "secret").write_text("x")
    with pytest.raises(RefineError, match="leads outside"):
        _make(kind, tmp_path).read(name)


@pytest.mark.parametrize("kind", KINDS)
def test_storages_travel_to_other_processes(kind, tmp_path):
    storage = pickle.loads(pickle.dumps(_make(kind, tmp_path)))
    assert storage.read("a.png") == b"first"
    # forked while the parent reads: a shared file position would mix the two up
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        children = [pool.submit(_read_often, storage) for _ in range(2)]
        assert _read_often(storage)
        assert all(child.result() for child in children)


def _read_often(storage):
    return all(storage.read(name) == data for _ in range(200) for name, data in FILES.items())


def test_the_prefix_is_optional(tmp_path):
    with_prefix = open_storage(_write_zip(tmp_path / "p.zip", _prefixed("val/")), prefix="val/")
    without = open_storage(_write_zip(tmp_path / "n.zip", FILES), prefix="val/")
    assert with_prefix.read("b.png") == without.read("b.png") == FILES["b.png"]
    assert "val/b.png" not in with_prefix


def test_an_empty_zip_holds_nothing(tmp_path):
    assert "a.png" not in open_storage(_write_zip(tmp_path / "e.zip", {}))


def test_neither_folder_nor_zip(tmp_path):
    with pytest.raises(RefineError, match="nowhere: no such folder or zip"):
        open_storage(tmp_path / "nowhere")


def test_a_half_downloaded_zip_is_named(tmp_path):
    path = _write_zip(tmp_path / "files.zip", FILES)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(RefineError, match=r"files.zip: no readable zip.*get the file again"):
        open_storage(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("position", [0, 40])
def test_a_damaged_entry_is_named(tmp_path, method, position):
    path = _write_zip(tmp_path / "files.zip", FILES, method=method)
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)
    storage = open_storage(path)
    with pytest.raises(RefineError, match=r"files.zip: 'b.png' cannot be read"):
        storage.read("b.png")
    assert storage.read("a.png") == b"first"


def test_unsupported_compression_is_said(tmp_path):
    storage = open_storage(_write_zip(tmp_path / "f.zip", FILES, method=zipfile.ZIP_BZIP2))
    with pytest.raises(RefineError, match="method 12"):
        storage.read("b.png")


def test_a_stored_inner_zip_leaves_no_copy(tmp_path):
    _make("inner stored", tmp_path)
    assert not (tmp_path / "cache").exists()


def test_a_compressed_inner_zip_is_unpacked_once(tmp_path):
    _make("inner deflated", tmp_path)
    (copy,) = (tmp_path / "cache").iterdir()
    before = copy.stat().st_mtime_ns
    outer, cache = tmp_path / "outer.zip", tmp_path / "cache"
    storage = open_inner_zip(outer, "annotations/files.zip", prefix="files/", cache_dir=cache)
    assert copy.stat().st_mtime_ns == before
    assert storage.read("a.png") == b"first"
    assert "outer.zip/annotations/files.zip" in storage.label


def test_an_inner_zip_that_is_not_there(tmp_path):
    outer = _write_zip(tmp_path / "outer.zip", FILES)
    assert open_inner_zip(outer, "x.zip", prefix="", cache_dir=tmp_path / "cache") is None


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(RefineError, match=r"cannot be unpacked.*data.cache_dir"):
        _make("inner deflated", tmp_path)


def test_an_interrupted_unpacking_leaves_nothing_to_trust(tmp_path):
    inner = _write_zip(tmp_path / "inner.zip", FILES).read_bytes()
    outer = _write_zip(tmp_path / "outer.zip", {"x.zip": inner})
    data = bytearray(outer.read_bytes())
    data[len(data) // 2] ^= 0xFF
    outer.write_bytes(data)
    with pytest.raises(RefineError, match="cannot be unpacked"):
        open_inner_zip(outer, "x.zip", prefix="", cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
