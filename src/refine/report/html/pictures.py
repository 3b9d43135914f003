"""Pictures of single images, small and inside the page."""

import base64
import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from refine.report.html.elements import paragraph
from refine.report.images import ImageChange, ImageSource
from refine.viz.image_files import encode_jpeg, read_image

MAX_BYTES = 12_000_000
"""Of all pictures of a page, encoded."""

_MAX_WIDTH_PX = 640
_STRIP_WIDTH_PX = 1600  # several panels side by side


class PictureBudget:
    """Counts the bytes of a page's pictures."""

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self.left = limit

    def embed(self, jpeg: bytes) -> str | None:
        """A ``data:`` address; None if there is no room left."""
        text = base64.b64encode(jpeg).decode()
        if len(text) > self.left:
            return None
        self.left -= len(text)
        return f"data:image/jpeg;base64,{text}"


def read_from_folders(folders: dict[str, Path]) -> tuple[ImageSource, set[int]]:
    """Pictures that runs drew themselves (``draw=N``).

    A picture belongs to the image whose id its name ends with, as in COCO and in the toy scenes.

    Args:
        folders: ``pictures/`` of runs by caption.

    Returns:
        The source, and the images of which every folder has a picture.
    """
    paths = {caption: dict(_list_pictures(folder)) for caption, folder in folders.items()}
    common = set.intersection(*(set(p) for p in paths.values())) if paths else set()
    return (
        lambda image_id: {c: read_image(p[image_id]) for c, p in paths.items()},
        common,
    )


def draw_changes(
    title: str,
    changes: Sequence[ImageChange],
    source: ImageSource,
    *,
    is_strip: bool,
    budget: PictureBudget,
) -> str:
    """A block an image: its scores, and its pictures side by side.

    Args:
        title: Heading.
        changes: The images.
        source: Gives their pictures.
        is_strip: A picture holds several panels: they lie one below the other.
        budget: Of the page.
    """
    blocks = [_draw_change(c, source, is_strip=is_strip, budget=budget) for c in changes]
    body = "".join(blocks) or paragraph("None.")
    return f"<h3>{escape(title)}</h3>{body}"


def _draw_change(
    change: ImageChange, source: ImageSource, *, is_strip: bool, budget: PictureBudget
) -> str:
    scores = (
        f"image {change.image_id}: {100 * change.before:.1f} → {100 * change.after:.1f} "
        f"({100 * change.change:+.1f})"
    )
    figures = []
    for caption, picture in source(change.image_id).items():
        limit = _STRIP_WIDTH_PX if is_strip else _MAX_WIDTH_PX
        address = budget.embed(encode_jpeg(picture, max_width_px=limit))
        if address is None:
            return f'<div class="image">{paragraph(f"{scores}; no room for more pictures")}</div>'
        described = escape(f"image {change.image_id}, {caption}", quote=True)
        height, width = picture.shape[:2]
        figures.append(
            f'<figure><img src="{address}" alt="{described}" width="{min(width, limit)}" '
            f'height="{max(1, round(height * min(1, limit / width)))}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    kind = "pictures wide" if is_strip else "pictures"
    return (
        f'<div class="image">{paragraph(scores)}<div class="{kind}">{"".join(figures)}</div></div>'
    )


def _list_pictures(folder: Path) -> Iterator[tuple[int, Path]]:
    for path in sorted(folder.glob("*.png")):
        if match := re.search(r"(\d+)$", path.stem):
            yield int(match[1]), path
