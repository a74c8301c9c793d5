"""The README and the pages of docs/, taken apart: blocks, commands, links, anchors, words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from command import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)(?: \"[^\"]*\")?\)")
_HTML_LINK = re.compile(r"""(?:href|src|srcset)="([^"]+)\"""")


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        page: where it is.
        line: of its first line, from 1.
        language: "" where none is said.
        text: what is between the fences.
        mark: of the comment right above it: "output" in `<!-- output -->`; "" where there is none.
    """

    page: Path
    line: int
    language: str
    text: str
    mark: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command of a block for the shell.

    Attributes:
        block: where it is.
        text: as it is written, continued lines included, comments left out.
    """

    block: Block
    text: str

    @property
    def words(self) -> list[str]:
        """Its words, quotes removed; variables that are set before it are left out."""
        words = shlex.split(self.text, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0], re.DOTALL):
            words.pop(0)
        return words


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page, in order; those of some languages where any are named."""
    text = page.read_text("utf-8")
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        mark = re.search(r"<!-- ([a-z: ]+[\w./]*) -->\n$", before)
        inner = re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)
        line = before.count("\n") + 2
        found.append(Block(page, line, match[2], inner, mark[1] if mark else ""))
    return [block for block in found if not languages or block.language in languages]


def commands(block: Block) -> Iterator[Command]:
    """The commands of a block for the shell: a line each, or more by quotes or a backslash."""
    held = ""
    for line in block.text.splitlines():
        held += line
        if held.endswith("\\"):
            held = held[:-1]
            continue
        try:
            words = shlex.split(held, comments=True)
        except ValueError:  # a quote is still open
            held += "\n"
            continue
        if words:
            yield Command(block, held.strip())
        held = ""
    assert not held, f"{block}: a quote is never closed"


def prose(text: str) -> str:
    """A page without its code, tables, pictures, comments and the targets of its links."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = _FENCE.sub("", text)
    text = re.sub(r"^\|.*\|$", "", text, flags=re.MULTILINE)
    text = re.sub(r"<[^>]+>", "", text)
    text = re.sub(r"`[^`]*`", "", text)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    return re.sub(r"\]\([^)]*\)", "]", text)


def words(text: str) -> int:
    """How many words of prose it has: runs of letters and digits between blanks."""
    return sum(any(sign.isalnum() for sign in word) for word in prose(text).split())


def links(page: Path) -> list[str]:
    """The targets of all links and pictures of a page, but for those in code."""
    text = _FENCE.sub("", page.read_text("utf-8"))
    text = re.sub(r"`[^`\n]*`", "", text)
    return [*_LINK.findall(text), *_HTML_LINK.findall(text)]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site and GitHub both make them."""
    text = _FENCE.sub("", page.read_text("utf-8"))
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\]\([^)]*\)|[`*\[\]]", "", heading).strip().lower()
        found.add(re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", plain)))
    # A name of the reference is an anchor of its own.
    return found | set(re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE))
