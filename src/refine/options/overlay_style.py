"""How results are drawn over their images."""

from dataclasses import dataclass

from refine.options.checks import FRACTION, POSITIVE, Options, knob


@dataclass(kw_only=True)
class OverlayOptions(Options, section="overlay"):
    """Size and style of overlays.

    Attributes:
        opacity: Share of a segment's colour in its pixels.
        outlines: Whether a light line separates segments.
        labels: Whether categories, and scores of things, are written into their segments.
        longest_side_px: Larger images are drawn at this length of their longer side; None: all at
            their own size.
    """

    opacity: float = knob(0.55, FRACTION)
    outlines: bool = True
    labels: bool = True
    longest_side_px: int | None = knob(None, POSITIVE)
