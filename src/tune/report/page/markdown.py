"""The same page as Markdown, for whoever reads it in a terminal, a repository or an issue; nothing in it is HTML."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from tune.report.page.blocks import Block, Code, Columns, Facts, Figures, Numbers, Page, Pictures, Table, Text, clean

_SIGNS = re.compile(r"([\\`*_\[\]|~$])")
_FIRST = re.compile(r"^(\d*)(#(?=#*(?:\s|$))|[+-](?=\s|$)|-(?=[-\s]*$)|(?<=\d)[.)](?=\s|$))")
_ADDRESS = re.compile(r"(https?|ftp|www|mailto)([.:])", re.IGNORECASE)


def write(page: Page, beside: Path) -> str:
    """The whole file.

    Args:
        page: what it says.
        beside: folder of the file, from which pictures are linked.
    """
    lines = []
    for part in page.parts:
        status = f" – {plain(part.status)}" if part.status else ""
        lines += [f"# {plain(part.title)}{status}", plain(part.about)]
        for section in part.sections:
            if section.blocks:
                lines += [
                    f"## {plain(section.title)}",
                    *(text for each in section.blocks for text in _block(each, beside)),
                ]
    return "\n\n".join(line for line in lines if line) + "\n"


def plain(text: str) -> str:
    """A text that no reader of Markdown takes for anything else, on one line."""
    text = " ".join(clean(text).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _ADDRESS.sub(lambda found: f"{found[1]}&#{ord(found[2])};", text)
    text = _SIGNS.sub(r"\\\1", text).replace("@", "&#64;")
    return _FIRST.sub(r"\1\\\2", text)


def _block(block: Block, beside: Path) -> list[str]:
    match block:
        case Text():
            return [plain(block.text)]
        case Facts():
            return ["\n".join(f"- {plain(name)}: {plain(value)}" for name, value in block.rows)]
        case Numbers():
            return [
                "\n".join(f"- **{plain(name)} {plain(value)}** {plain(about)}" for name, value, about in block.items)
            ]
        case Table():
            return [
                *([f"**{plain(block.folded)}**"] if block.folded else []),
                _table(block.head, block.rows, block.words),
            ]
        case Code():
            return [*([f"**{plain(block.folded)}**"] if block.folded else []), _code(block.text)]
        case Pictures():
            return [line for pair in block.pairs for line in _pictures(pair, beside)]
        case Columns():
            return [line for side in (block.left, block.right) for each in side for line in _block(each, beside)]
        case Figures():
            return ["\n".join(f"- *{plain(each.title)}*: {plain(each.about)}" for each in block.figures)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int]) -> str:
    rule = [":--" if column in words else "--:" for column in range(len(head))]
    lines = [[plain(cell) for cell in head], rule, *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(text: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{clean(text).rstrip()}\n{fence}"


def _pictures(pair, beside: Path) -> list[str]:
    links = [
        f"![{plain(picture.about)}]({quote(Path(os.path.relpath(picture.path, beside)).as_posix())})"
        for picture in pair.pictures
    ]
    return [" ".join(links), f"**{plain(pair.title)}** {plain('; '.join(pair.lines))}"]
