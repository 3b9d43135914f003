"""The whole page."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from refine import __version__
from refine.report.html.elements import Section, paragraph


def build_page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """A page that is complete in itself: style, script and pictures are inside.

    Args:
        title: Of the page.
        subtitle: One line below it.
        sections: In order.
    """
    assets = files("refine.report.html")
    style = assets.joinpath("style.css").read_text(encoding="utf-8")
    script = assets.joinpath("sort.js").read_text(encoding="utf-8")
    links = "".join(f'<li><a href="#{s.anchor}">{escape(s.title)}</a></li>' for s in sections)
    body = "".join(
        f'<section aria-labelledby="{s.anchor}"><h2 id="{s.anchor}">{escape(s.title)}</h2>'
        f"{s.body}</section>"
        for s in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>"
        f'<a class="skip" href="#main">Skip to the content</a>'
        f"<header><h1>{escape(title)}</h1>{paragraph(subtitle, kind='faint')}"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>'
        f'<main id="main">{body}</main>'
        f"<footer>{paragraph(f'refine {__version__}', kind='faint')}</footer>"
        f"<script>{script}</script></body></html>\n"
    )
