"""What README and docs tell people to type exists: commands, their settings, scripts, links."""

import re
import shlex
from pathlib import Path

import pytest

from refine.config import compose

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
HYDRA = {"train", "evaluate", "predict", "score", "convert"}
"""Commands that are Hydra applications."""


def _commands():
    """``(command, overrides)`` of every command line; a sweep gives one for each of its values."""
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ").replace("…", "")
        blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).splitlines()
        inline = re.findall(r"`(python -m [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        for line in [*blocks, *(code.replace("\n", " ") for code in inline)]:
            if (found := re.match(r"python -m refine\.(\w+)(.*)", line)) and found[1] in HYDRA:
                arguments = shlex.split(found[2], comments=True)
                yield from ((found[1], overrides) for overrides in _expand(arguments))


def _expand(arguments):
    given = [a for a in arguments if "=" in a and not a.startswith(("hydra.", "hydra/"))]
    if "-m" not in arguments:
        return [given]
    values = [re.split(r",(?![^\[{]*[\]}])", a.partition("=")[2]) for a in given]
    keys = [a.partition("=")[0] for a in given]
    most = max(map(len, values), default=0)
    return [
        [f"{key}={of[min(k, len(of) - 1)]}" for key, of in zip(keys, values, strict=True)]
        for k in range(most)
    ]


def _unseen(commands):
    """Those with a key, or a choice of a group, that none before them has."""
    seen = set()
    for name, overrides in commands:
        is_choice = re.compile(r"[a-z]+=[a-z0-9_]+").fullmatch
        parts = {(name, o if is_choice(o) else o.partition("=")[0]) for o in overrides}
        if parts - seen:
            yield pytest.param(name, overrides, id=" ".join([name, *overrides]))
        seen |= parts


@pytest.mark.parametrize(("name", "overrides"), [*_unseen(_commands())])
def test_commands_compose(name, overrides):
    compose(name, overrides)


def test_there_are_commands():
    assert {name for name, _ in _commands()} == HYDRA


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_scripts_and_targets_exist(page):
    text = page.read_text()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= set(targets)
    named = re.findall(r"\]\((?!http|#)([^)#]+)", text)
    assert [link for link in named if not (page.parent / link).exists()] == []
    if page.name != "CHANGELOG.md":  # which also speaks of files that are gone
        named = re.findall(r"\b(?:scripts|tests)/[\w/]+(?:\.\w+)?", text)
        assert [path for path in named if not (ROOT / path).exists()] == []
