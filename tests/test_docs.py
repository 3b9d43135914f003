"""What README and docs tell people to type exists: commands, their settings, scripts, links."""

import re

import pytest

from make.pages import HYDRA, PAGES, ROOT, commands, write_shown_files
from refine.config import compose
from refine.config.locate import conf_dir


def _commands():
    """``(command, overrides)`` of every command line; a sweep gives one for each of its values."""
    for name, arguments in commands():
        yield from ((name, overrides) for overrides in _expand(arguments))


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
    """Those with a key that none before them has; the longest go first."""
    seen = set()
    for name, overrides in sorted(commands, key=lambda c: (-len(c[1]), c)):
        keys = {(name, o.partition("=")[0]) for o in overrides}
        if keys - seen:
            yield pytest.param(name, overrides, id=" ".join([name, *overrides]))
        seen |= keys


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """A folder with the modules that pages show."""
    folder = tmp_path_factory.mktemp("modules")
    write_shown_files(folder)
    return folder


@pytest.mark.parametrize(("name", "overrides"), [*_unseen(_commands())])
def test_commands_compose(name, overrides, modules, monkeypatch):
    monkeypatch.chdir(modules)
    compose(name, overrides)


def test_every_command_is_shown_and_every_choice_exists():
    assert {name for name, _ in _commands()} == HYDRA
    for group, _, choice in {o.partition("=") for _, overrides in _commands() for o in overrides}:
        if (conf_dir() / group).is_dir() and choice != "null":
            for name in choice.strip("[]").split(","):
                assert (conf_dir() / group / f"{name}.yaml").exists(), f"{group}={name}"


def _anchors(page):
    """What GitHub calls the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_scripts_and_targets_exist(page):
    text = page.read_text()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= set(targets)
    named = re.findall(r"\]\((?!http|#)([^)#]+)", text)
    assert [link for link in named if not (page.parent / link).exists()] == []
    for link, anchor in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", text):
        assert anchor in _anchors(page.parent / link if link else page), f"{link}#{anchor}"
    if page.name != "CHANGELOG.md":  # which also speaks of files that are gone
        named = re.findall(r"\b(?:scripts|tests)/[\w/]+(?:\.\w+)?", text)
        assert [path for path in named if not (ROOT / path).exists()] == []
