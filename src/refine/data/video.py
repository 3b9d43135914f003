"""Video files to RGB arrays, one frame after the other (extra ``video``)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from refine.errors import RefineError, first_line

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")

_LEAST_SHARE = 0.9
"""Share of the stated frames that a whole video shows: one that was trimmed hides some."""


def read_frames(video: str | Path, *, step: int = 1) -> Iterator[tuple[int, np.ndarray]]:
    """Decode the frames of a video in their order; one at a time is in memory.

    Args:
        video: A file of any kind that FFmpeg reads.
        step: Frames from one result to the next: 1 takes all, 10 the first, the eleventh, ...

    Yields:
        Numbers of frames, from 1 on, and their pixels, ``[H, W, 3]`` uint8 RGB, turned as
        viewers show them.

    Raises:
        RefineError: The extra or the file is missing, or it is no video, or a step below 1; or,
            after the frames before, the file is damaged or cut off.
    """
    if step < 1:
        raise RefineError(f"{video}: step={step}; expected 1 or more")
    return _decode(_open(Path(video)), str(video), step)


def count_frames(video: Path, *, step: int = 1) -> int | None:
    """Results of :func:`read_frames` by what the video states of itself; None: it does not."""
    with _open(video) as container:
        stream = container.streams.video[0]
        seconds = (container.duration or 0) / 1e6
        count = stream.frames or round(seconds * (stream.average_rate or 0))
    return -(-count // step) or None


def _open(video: Path) -> Any:
    try:
        import av
    except ImportError:
        raise RefineError(
            f"{video}: videos need the package av; pip install 'refine-panoptic[video]'"
        ) from None
    try:
        container = av.open(str(video))
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise RefineError(f"{video}: no readable video ({reason}); get the file again") from None
    if not container.streams.video:
        container.close()
        raise RefineError(f"{video}: no pictures, or cut off before the list of them; get it again")
    return container


def _decode(container: Any, video: str, step: int) -> Iterator[tuple[int, np.ndarray]]:
    import av

    # one for all frames: theirs would start threads for each
    scaler, turns = av.video.reformatter.VideoReformatter(), 0
    number, reason = 0, None
    with container:
        stated = container.streams.video[0].frames  # 0: unknown, as in MKV and WebM
        try:
            for number, frame in enumerate(container.decode(video=0), start=1):
                if number == 1:  # all are turned alike; a frame that was asked is freed late
                    turns = _turns(frame)
                if (number - 1) % step == 0:
                    pixels = scaler.reformat(frame, format="rgb24", threads=1).to_ndarray()
                    yield number, np.ascontiguousarray(np.rot90(pixels, turns))
        except av.error.FFmpegError as error:
            reason = error.strerror
    if reason is not None or number < _LEAST_SHARE * stated:
        reason = reason or f"it states {stated} frames"
        raise RefineError(
            f"{video}: damaged or cut off after frame {number} ({reason}); get the file again"
        )


def _turns(frame: Any) -> int:
    """Right angles, counterclockwise, by which viewers turn a frame; 0 if its matrix is empty."""
    return round(frame.rotation / 90) if abs(frame.rotation) <= 180 else 0
