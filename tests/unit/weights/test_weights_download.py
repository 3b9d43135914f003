import hashlib
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import torch

from make.errors import refused
from make.server import serving
from refine.resumable_download import Retries
from refine.weights.sources import cache_dir, fetch, locate_weights

CONTENT = bytes(range(256)) * 20
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.hits.append(self.path)
        if self.path.startswith("/absent"):
            self.send_error(404)
            return
        asked = self.headers.get("Range") if self.path.startswith("/drops") else None
        start = int(asked[len("bytes=") : -1]) if asked else 0
        self.send_response(206 if start else 200)
        if start:
            end = f"{len(CONTENT) - 1}/{len(CONTENT)}"
            self.send_header("Content-Range", f"bytes {start}-{end}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        is_cut = self.path.startswith("/cut") or (self.path.startswith("/drops") and not start)
        self.wfile.write(CONTENT[start : len(CONTENT) // 2 if is_cut else None])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with serving(_Handler) as server:
        server.hits = []
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REFINE_CACHE", str(tmp_path / "cache"))
    retries = Retries(attempts=2, pause_s=0.001, advice="check the address")
    monkeypatch.setattr("refine.weights.sources.RETRIES", retries)
    return tmp_path / "cache"


def _files(folder):
    return [p for p in folder.rglob("*") if p.is_file()]


def test_a_file_is_fetched_once(server, cache):
    path = fetch(f"{server.url}/w.pkl", sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert fetch(f"{server.url}/w.pkl", sha256=SHA256[:8]) == path
    assert len(server.hits) == 1
    assert _files(cache) == [path]


def test_names_in_the_cache(server, monkeypatch):
    """Those of one name stay apart, and torchvision's own downloads are found."""
    first, second = fetch(f"{server.url}/a/R-50.pkl"), fetch(f"{server.url}/b/R-50.pkl")
    assert first != second
    assert first.suffix == second.suffix == ".pkl"
    assert fetch(f"{server.url}/resnet18-f37072fd.pth").name == "resnet18-f37072fd.pth"
    monkeypatch.delenv("REFINE_CACHE")
    assert cache_dir() == Path(torch.hub.get_dir()) / "checkpoints"


@pytest.mark.parametrize(
    ("place", "sha256", "message"),
    [
        ("/cut.pkl", None, "the connection ended after 2560 bytes, 2 times"),
        ("/cut.pkl", SHA256, "the connection ended after 2560 bytes, 2 times"),
        ("/w.pkl", "0" * 64, f"sha256 {SHA256}, not {'0' * 64}; nothing was kept"),
        ("/absent.pkl", None, "the server answers 404 (Not Found)"),
        (None, None, "Connection refused, 2 times"),
    ],
    ids=["cut", "cut, with a hash", "another hash", "no such file", "no server"],
)
def test_failed_downloads_are_one_line_and_no_whole_file(server, cache, place, sha256, message):
    url = f"{server.url}{place}" if place else "http://127.0.0.1:1/w.pkl"
    with refused(f"{url}: ", message):
        fetch(url, sha256=sha256)
    assert [p for p in _files(cache) if p.suffix != ".part"] == []


@pytest.mark.parametrize("sha256", [None, SHA256])
def test_a_broken_download_goes_on_where_it_ended(server, cache, sha256):
    path = fetch(f"{server.url}/drops.pkl", sha256=sha256)
    assert path.read_bytes() == CONTENT
    assert len(server.hits) == 2
    assert _files(cache) == [path]


@pytest.mark.parametrize(
    ("kept", "hits"),
    [(CONTENT[:1000], 1), (CONTENT, 0), (b"x" * 1000, 2)],
    ids=["a part", "all", "other bytes"],
)
def test_what_an_earlier_process_kept_is_used_if_it_fits(server, cache, kept, hits):
    path = fetch(f"{server.url}/drops.pkl", sha256=SHA256)
    path.unlink()
    server.hits.clear()
    path.with_name(f".{path.name}.part").write_bytes(kept)
    if hits == 2:
        with refused("nothing was kept"):
            fetch(f"{server.url}/drops.pkl", sha256=SHA256)
        assert _files(cache) == []
    else:
        assert fetch(f"{server.url}/drops.pkl", sha256=SHA256).read_bytes() == CONTENT
        assert len(server.hits) == hits
        assert _files(cache) == [path]


def test_a_damaged_file_in_the_cache_is_named(server):
    path = fetch(f"{server.url}/w.pkl", sha256=SHA256)
    path.write_bytes(b"other")
    with refused(path, "delete it"):
        fetch(f"{server.url}/w.pkl", sha256=SHA256)
    assert path.exists()


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, server, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REFINE_CACHE", str(tmp_path / "file"))
    with refused("REFINE_CACHE"):
        fetch(f"{server.url}/w.pkl")
    assert not server.hits


def test_places_and_hashes(server, tmp_path):
    assert locate_weights(f"{server.url}/w.pkl@sha256:{SHA256}").read_bytes() == CONTENT
    (tmp_path / "w.pkl").write_bytes(CONTENT)
    assert locate_weights(f"{tmp_path}/w.pkl@sha256:{SHA256}") == tmp_path / "w.pkl"
    with refused("its sha256 is"):
        locate_weights(f"{tmp_path}/w.pkl@sha256:00000000")
    assert (tmp_path / "w.pkl").exists()
    with refused("8 or more"):
        locate_weights(f"{tmp_path}/w.pkl@sha256:12")


@pytest.mark.parametrize(
    ("spec", "address", "sha256"),
    [
        ("timm:resnet50_gn", "huggingface/pytorch-image-models/", "8fe6c4d0"),
        ("timm:resnet50_gn.a1h_in1k", "/resnet50_gn_a1h2-8fe6c4d0.pth", "8fe6c4d0"),
        ("c2:R-50", "/detectron2/ImageNetPretrained/MSRA/R-50.pkl", None),
        ("c2:R-50-GN", "/detectron/ImageNetPretrained/47261647/R-50-GN.pkl", None),
        ("c2:R-101-GN@sha256:0123456789", "/47592356/R-101-GN.pkl", "0123456789"),
        ("torchvision:ResNet50_Weights.IMAGENET1K_V1", "/resnet50-0676ba61.pth", "0676ba61"),
    ],
)
def test_published_files_have_an_address(monkeypatch, spec, address, sha256):
    monkeypatch.setattr("refine.weights.sources.fetch", lambda url, *, sha256: (url, sha256))
    url, asked = locate_weights(spec)
    assert address in url
    assert url.startswith("https://")
    assert asked == sha256


@pytest.mark.parametrize(
    ("spec", "advice"),
    [
        ("timm:resnet51", "resnet50_gn.a1h_in1k"),
        ("c2:R-51", "R-101-GN"),
        ("torchvision:IMAGENET1K_V1", "ResNet50_Weights"),
        ("absent.pth", "no such file"),
        ("tim:resnet50_gn", "timm:NAME"),
    ],
)
def test_unknown_places_say_what_there_is(spec, advice):
    with refused(advice):
        locate_weights(spec)
