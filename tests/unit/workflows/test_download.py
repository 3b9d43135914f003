import hashlib
import re
import resource
import shutil
import urllib.request
import zipfile
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace

import pytest

from make.commands import run_main
from make.dataset import instances_json, write_tree, zip_officially
from make.errors import refused
from make.server import serving
from refine.coco_format.layout import INSTANCES_ZIP, PANOPTIC_ZIP, open_dataset
from refine.config import compose
from refine.runs.folder_lock import lock_folder
from refine.workflows.download_dataset import DATASETS, Archive, download

NAME = "val2017.zip"
ATTEMPTS = 3


class _Handler(BaseHTTPRequestHandler):
    """Answers as the next of ``server.tricks`` says, then as it should."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append((self.path, asked))
        trick = server.tricks.pop(0) if server.tricks else ""
        content = server.files.get(self.path)
        self.close_connection = True
        if content is None or trick.isdecimal():
            self.send_error(int(trick) if content else 404)
        elif trick == "redirect":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()
        else:
            self._send(content, trick, int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0)

    def _send(self, content, trick, start):
        if "wrong bytes" in trick:
            content = content[:100] + bytes(b ^ 1 for b in content[100:200]) + content[200:]
        if "no ranges" in trick:
            start = 0
        if trick == "other place":
            start += 5
        claimed = len(content) + {"claims more": 7, "claims less": -7}.get(trick, 0)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{claimed - 1}/{claimed}")
        if trick not in ("no length", "endless"):
            self.send_header("Content-Length", str(claimed - start))
        self.end_headers()
        body = content[start:] + (b"more" if trick == "endless" else b"")
        self.wfile.write(body[: len(body) // 2 if "drop" in trick else None])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(_Handler) as server:
        server.requests, server.tricks, server.files = [], [], {}
        yield server


@pytest.fixture
def content(server, tmp_path):
    """The bytes of an archive on the server."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("val2017/0001.jpg", bytes(range(256)) * 64)
    server.files[f"/zips/{NAME}"] = (tmp_path / "a.zip").read_bytes()
    return server.files[f"/zips/{NAME}"]


def _archives(files, *, hashed=True):
    """The table of what a server has: address in it -> content."""
    table = {}
    for address, content in files.items():
        folder, name = address.split("/")[-2:]
        md5 = f"md5:{hashlib.md5(content).hexdigest()}" if hashed else None
        table[name] = Archive(folder, len(content), md5)
    return {"coco_panoptic": table}


@cache
def _settings(*overrides):
    return compose("download", ["root=d", f"attempts={ATTEMPTS}", "pause_s=0.001", *overrides])


def _download(root, server, *overrides, archives=None, hashed=True, **changes):
    table = archives or _archives(server.files, hashed=hashed)
    changes = {"root": str(root), "mirror": server.url} | changes
    return download(replace(_settings(*overrides), **changes), table)


def _keep_part(root, content):
    root.mkdir()
    (root / f"{NAME}.part").write_bytes(content)


def _names(root):
    return sorted(p.name for p in root.iterdir()) if root.exists() else []


def test_what_is_downloaded_is_what_the_reader_takes(server, tmp_path):
    source = write_tree(tmp_path / "source", "val2017", instances=instances_json())
    zip_officially(source, split="val2017")
    for name in (NAME, PANOPTIC_ZIP, INSTANCES_ZIP):
        folder = DATASETS["coco_panoptic"][name].folder
        server.files[f"/{folder}/{name}"] = (source / name).read_bytes()
    assert _download(tmp_path / "new", server) == 0
    assert _names(tmp_path / "new") == sorted([NAME, PANOPTIC_ZIP, INSTANCES_ZIP])
    files = open_dataset(tmp_path / "new", "val2017")
    assert (len(files.annotations), len(files.instances)) == (3, 4)
    expected = open_dataset(source, "val2017")
    assert files.images.read("0002.jpg") == expected.images.read("0002.jpg")
    assert files.pngs.read("0002.png") == expected.pngs.read("0002.png")


@pytest.mark.parametrize(
    "tricks",
    [
        [], ["drop"], ["drop"] * 6, ["drop", "no ranges"], ["503", "429", ""], ["redirect"],
        ["drop", "redirect"], ["drop", "other place"], ["no length"], ["drop", "no length"],
        ["drop", "503", "503", "drop", "503", "503"],
    ],
    ids=",".join,
)  # fmt: skip
def test_a_bad_connection_costs_nothing(server, content, tmp_path, tricks):
    server.tricks = list(tricks)
    assert _download(tmp_path / "d", server) == 0
    assert (tmp_path / "d" / NAME).read_bytes() == content
    assert _names(tmp_path / "d") == [NAME]
    assert server.tricks == []


def test_each_connection_asks_for_the_rest_only(server, content, tmp_path):
    server.tricks = ["drop", "drop"]
    _download(tmp_path / "d", server)
    first = len(content) // 2
    second = first + (len(content) - first) // 2
    asked = [asked for _, asked in server.requests]
    assert asked == [None, f"bytes={first}-", f"bytes={second}-"]


ELSEWHERE = "choose another server with mirror="
OTHER_SIZE = ["bytes there, not", ELSEWHERE]


@pytest.mark.parametrize(
    ("tricks", "words"),
    [
        (["claims more"], OTHER_SIZE),
        (["claims less"], OTHER_SIZE),
        (["drop", "claims less"], OTHER_SIZE),
        (["endless"], ["more than", *OTHER_SIZE]),
        (["wrong bytes"], ["has md5", "nothing was kept", ELSEWHERE]),
        (["404", "404"], ["404 (Not Found)", ELSEWHERE]),
        (["401"], ["401 (Unauthorized)", ELSEWHERE]),
        (["416"], ["416", ELSEWHERE]),
        (["redirect"] * 20, ["302", ELSEWHERE]),
        (["503"] * ATTEMPTS, ["503", "3 times", "0 of", "run the command again"]),
        (["drop, no ranges"] * (1 + ATTEMPTS), ["the connection ended after", "3 times"]),
    ],
)
def test_what_is_wrong_never_gets_the_name(server, content, tmp_path, tricks, words):
    server.tricks = list(tricks)
    with refused(f"{server.url}/", NAME, *words):
        _download(tmp_path / "d", server)
    assert NAME not in _names(tmp_path / "d")


def test_without_a_known_checksum_the_entries_of_the_zip_are_checked(server, content, tmp_path):
    server.tricks = ["wrong bytes"]
    with refused(NAME, "val2017/0001.jpg is damaged", "nothing was kept"):
        _download(tmp_path / "d", server, hashed=False)
    assert _names(tmp_path / "d") == []
    server.files[f"/zips/{NAME}"] = b"<html>log in</html>"
    with refused(NAME, "is no sound zip"):
        _download(tmp_path / "d", server, hashed=False)
    server.files[f"/zips/{NAME}"] = content
    assert _download(tmp_path / "d", server, hashed=False) == 0


def test_a_checksum_that_is_given_counts(server, content, tmp_path):
    right = hashlib.sha256(content).hexdigest()
    wrong = f"checksums={{{NAME}: sha256:{'0' * 64}}}"
    with refused(NAME, f"has sha256 {right}, not 000"):
        _download(tmp_path / "d", server, wrong)
    assert _download(tmp_path / "d", server, f"checksums={{{NAME}: sha256:{right.upper()}}}") == 0


def test_the_same_command_goes_on(server, content, tmp_path):
    server.tricks = ["drop", *["503"] * ATTEMPTS]
    half = len(content) // 2
    with refused(f"{half} of {len(content)} bytes are there"):
        _download(tmp_path / "d", server)
    assert _names(tmp_path / "d") == [f"{NAME}.part"]
    server.requests.clear()
    assert _download(tmp_path / "d", server) == 0
    assert server.requests == [(f"/zips/{NAME}", f"bytes={half}-")]
    assert (tmp_path / "d" / NAME).read_bytes() == content


@pytest.mark.parametrize("size", ["less", "all", "more"])
def test_a_part_of_something_else_is_replaced(server, content, tmp_path, size):
    number = len(content) + {"less": -10, "all": 0, "more": 10}[size]
    _keep_part(tmp_path / "d", bytes(number))
    assert _download(tmp_path / "d", server) == 0
    assert (tmp_path / "d" / NAME).read_bytes() == content


def test_a_file_that_is_there_is_checked_and_never_touched(server, content, tmp_path):
    _download(tmp_path / "d", server)
    server.requests.clear()
    assert _download(tmp_path / "d", server) == 0
    assert server.requests == []
    for mine in (b"mine", content[:-1] + b"!"):
        (tmp_path / "d" / NAME).write_bytes(mine)
        with refused(tmp_path / "d" / NAME, "delete it to download it again"):
            _download(tmp_path / "d", server)
        assert (tmp_path / "d" / NAME).read_bytes() == mine


def test_mirrors_are_tried_in_turn(server, content, tmp_path, capsys):
    """The first one breaks off, the second one lacks it, the third one sends the rest."""
    server.tricks = ["drop"] + ["503"] * ATTEMPTS
    mirrors = [server.url, f"{server.url}/absent", server.url]
    _download(tmp_path / "d", server, mirror=mirrors)
    assert (tmp_path / "d" / NAME).read_bytes() == content
    assert server.requests[-1][1] == f"bytes={len(content) // 2}-"
    said = capsys.readouterr().out.replace("\n", "")
    assert f"goes on with {server.url}/absent" in said


def test_the_last_mirror_says_what_is_wrong(server, content, tmp_path):
    mirrors = [f"{server.url}/absent", f"{server.url}/gone"]
    with refused(f"{server.url}/gone/{NAME}: the server answers 404"):
        _download(
            tmp_path / "d", server, mirror=mirrors, archives=_archives({f"/zips/{NAME}": content})
        )


def test_a_mirror_may_hold_all_in_one_folder(server, content, tmp_path):
    table = _archives(server.files)
    server.files = {f"/coco/{NAME}": content}
    _download(tmp_path / "d", server, mirror=f"{server.url}/coco/", archives=table)
    assert (tmp_path / "d" / NAME).read_bytes() == content


def test_the_addresses_are_those_of_coco(server, content, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    urllib.request.install_opener(None)  # it has read the environment once
    host = "http://images.cocodataset.org"
    for path in ("annotations/annotations", "annotations/panoptic_annotations"):
        server.files[f"{host}/{path}_trainval2017.zip"] = content
    server.files = {f"{host}/zips/{n}2017.zip": content for n in ("val", "train")} | server.files
    del server.files[f"/zips/{NAME}"]
    official = DATASETS["coco_panoptic"]
    table = {n: Archive(a.folder, len(content)) for n, a in official.items()}
    try:
        _download(tmp_path / "d", server, mirror=None, archives={"coco_panoptic": table})
    finally:
        urllib.request.install_opener(None)
    assert {path for path, _ in server.requests} == set(server.files)
    assert _names(tmp_path / "d") == sorted(official)


def test_one_archive_that_fails_does_not_cost_the_others(server, content, tmp_path, capsys):
    table = _archives({f"/zips/{n}.zip": content for n in ("a", "b")} | server.files)
    with refused("/a.zip", "404"):
        _download(tmp_path / "d", server, archives=table)
    assert _names(tmp_path / "d") == [NAME]
    assert "b.zip: the server answers 404" in capsys.readouterr().out
    server.requests.clear()
    with refused("/b.zip", "404"):
        _download(tmp_path / "d", server, "files=[b.zip]", archives=table)
    assert {path for path, _ in server.requests} == {"/zips/b.zip", "/b.zip"}


def test_folders_that_cannot_take_it(server, content, tmp_path):
    root = tmp_path / "d"
    with lock_folder(root), refused(root, "another process", "root=FOLDER"):
        _download(root, server)
    huge = {"coco_panoptic": {NAME: Archive("zips", 10**18)}}
    with refused(f"root={root}: 1000000000.0 GB to download", "files="):
        _download(root, server, archives=huge)
    (tmp_path / "file").write_text("")
    with refused(tmp_path / "file", "root=FOLDER"):
        _download(tmp_path / "file", server)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with refused(f"root={root}: File too large"):
            _download(root, server)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert _names(root) == [f"{NAME}.part"]
    assert _download(root, server) == 0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("what=ade", ["what=ade", "coco_panoptic"]),
        ("files=[train2014.zip]", ["files", "train2014.zip", NAME]),
        (f"checksums={{x.zip: md5:{'0' * 32}}}", ["checksums", "x.zip", NAME]),
        (f"checksums={{{NAME}: abc}}", ["checksums", NAME, "md5:HEX"]),
        ("mirror=ftp://host", ["mirror", "http"]),
        ("mirror=", ["mirror", "http"]),
        ("mirror=[http://a.org,b.org]", ["mirror='b.org'", "http"]),
        ("attempts=0", ["attempts", "1 or more"]),
        ("pause_s=-1", ["pause_s"]),
    ],
)
def test_bad_settings(override, words):
    with refused(*words):
        download(compose("download", ["root=d", override]), DATASETS)


@pytest.fixture
def disk(monkeypatch):
    """What the disk has free as far as the command can tell: the real archive has 0.8 GB."""
    usage = SimpleNamespace(free=10**12)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    return usage


def test_a_full_disk_is_told_before_the_download(server, content, tmp_path, capfd, disk):
    disk.free = 600_000_000
    given = [f"root={tmp_path / 'd'}", f"mirror={server.url}", f"files=[{NAME}]"]
    assert run_main("download", *given, cwd=tmp_path) == 1
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: root={tmp_path / 'd'}: 0.8 GB to download, 0.6 GB free;")
    assert server.requests == []


@pytest.mark.usefixtures("disk")
def test_from_the_command_line(server, content, tmp_path, capfd):
    root = tmp_path / "d (1)"
    given = [f"root={root}", f"mirror={server.url}", f"files=[{NAME}]"]
    assert run_main("download", *given, cwd=tmp_path) == 1
    (line,) = capfd.readouterr().err.strip().splitlines()
    expected = f"error: {server.url}/zips/{NAME}: the file has {len(content)} bytes there"
    assert line.startswith(f"{expected}, not 815585330;")
    assert not root.exists()
