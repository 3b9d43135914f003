"""README and docs as tests read them: their commands, their Python, the files that they show."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
HYDRA = {
    "train", "evaluate", "predict", "fuse", "score", "convert", "check", "download",
    "convert_dataset", "export",
}  # fmt: skip
"""Commands that are Hydra applications."""


def blocks(page, language):
    """The blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def write_shown_files(folder):
    """Write the modules that pages show: blocks that begin with their name, ``# my_module.py``."""
    for page in PAGES:
        for block in blocks(page, "python"):
            if match := re.match(r"# (\w+\.py)\n", block):
                assert not (folder / match[1]).exists(), f"{match[1]} is shown twice"
                (folder / match[1]).write_text(block)


def python_of(page):
    """The other blocks of Python, in their order."""
    return [b for b in blocks(page, "python") if not re.match(r"# \w+\.py\n", b)]


def commands():
    """``(command, arguments)`` of every command line of the pages."""
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ").replace("…", "")
        shown = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).splitlines()
        inline = re.findall(r"`(python -m [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        for line in [*shown, *(code.replace("\n", " ") for code in inline)]:
            if (found := re.match(r"python -m refine\.(\w+)(.*)", line)) and found[1] in HYDRA:
                yield found[1], shlex.split(found[2], comments=True)
