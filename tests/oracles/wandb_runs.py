"""Reads the runs that W&B has kept offline: ``.wandb`` files, LevelDB's log format of protobufs."""

import json
import struct
from types import SimpleNamespace

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK, _FILE_HEADER, _RECORD_HEADER = 32768, 7, 7
_FULL, _LAST = 1, 4  # 2 and 3 are the first and the middle parts of a longer one


def read_runs(root):
    """All runs below a folder, by their start."""
    return [_read(path) for path in sorted(root.rglob("*.wandb"))]


def _read(path):
    run = SimpleNamespace(
        folder=path.parent, config={}, history=[], summary={}, artifacts=[], exit_codes=[]
    )
    for message in _messages(path.read_bytes()):
        record = Record.FromString(message)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found = record.run
            run.id, run.name, run.group = found.run_id, found.display_name, found.run_group
            run.job_type, run.tags = found.job_type, tuple(found.tags)
            run.config |= _items(found.config.update)
        elif kind == "history":
            run.history.append(_items(record.history.item))
            run.summary |= run.history[-1]
        elif kind == "summary":
            run.summary |= _items(record.summary.update)
        elif kind == "artifact":
            run.artifacts.append(record.artifact.name)
        elif kind == "exit":
            run.exit_codes.append(record.exit.exit_code)
    return run


def _items(entries):
    return {e.key or "/".join(e.nested_key): json.loads(e.value_json) for e in entries}


def _messages(content):
    place, parts = _FILE_HEADER, []
    while place + _RECORD_HEADER <= len(content):
        if _BLOCK - place % _BLOCK < _RECORD_HEADER:  # a header never spans two blocks
            place += _BLOCK - place % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        place += _RECORD_HEADER
        parts.append(content[place : place + length])
        place += length
        if kind in (_FULL, _LAST):
            yield b"".join(parts)
            parts = []
