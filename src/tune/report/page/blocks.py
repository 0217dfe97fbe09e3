"""What a page is made of, before it is HTML or Markdown. Texts are as they are: who writes them down escapes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Text:
    """A paragraph; `quiet` for a remark."""

    text: str
    quiet: bool = False


@dataclass(frozen=True)
class Facts:
    """Names and what they are."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Numbers:
    """The few numbers that matter, large: (name, value, what is said of it)."""

    items: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
    """Rows of cells.

    Args:
        head: names of the columns.
        rows: a cell for each.
        words: columns of words, which stand on the left; numbers stand on the right.
        folded: a title, for a table that is opened by hand.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int] = (0,)
    folded: str = ""


@dataclass(frozen=True)
class Code:
    """Text to copy. Args: text; folded: a title, where it is long and opened by hand."""

    text: str
    folded: str = ""


@dataclass(frozen=True)
class Picture:
    """An image file in the folder of a run, small enough to stand in the page.

    Args:
        path: PNG or WebP.
        about: what it shows.
    """

    path: Path
    about: str


@dataclass(frozen=True)
class Pair:
    """An image, what was made of it (a map, where there is one), and lines about both."""

    pictures: Sequence[Picture]
    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Pictures:
    """Images side by side, or one below the other where they are `wide`."""

    pairs: Sequence[Pair]
    wide: bool = False


@dataclass(frozen=True)
class Figure:
    """A drawing.

    Args:
        svg: of `figures`.
        title: above it.
        about: what it shows, in words; for those who cannot see it, and in Markdown.
        series: names of its lines or points, in the order of their colours.
        wide: whether it takes all the room there is.
    """

    svg: str
    title: str
    about: str
    series: Sequence[str] = ()
    wide: bool = False


@dataclass(frozen=True)
class Figures:
    """Drawings side by side, as far as there is room."""

    figures: Sequence[Figure]


@dataclass(frozen=True)
class Columns:
    """Two columns where there is room, else one below the other."""

    left: Sequence[Block]
    right: Sequence[Block]


Block = Text | Facts | Numbers | Table | Code | Pictures | Figures | Columns


@dataclass(frozen=True)
class Section:
    """A title and what stands below it; one without blocks is left out."""

    title: str
    blocks: Sequence[Block] = ()


@dataclass(frozen=True)
class Part:
    """A run or a sweep: its name, how it stands (done, failed …), a line about it, its sections."""

    title: str
    status: str
    about: str
    sections: Sequence[Section] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """One or several parts; what compares them stands in a part of its own."""

    title: str
    parts: Sequence[Part]


def clean(text: str) -> str:
    """A text without characters that neither XML nor UTF-8 can say: control characters, halves of a pair."""
    return "".join(c if _is_sayable(c) else "\N{REPLACEMENT CHARACTER}" for c in text)


def _is_sayable(c: str) -> bool:
    return (
        c in "\t\n"
        or (c >= " " and not "\x7f" <= c <= "\x9f" and not "\ud800" <= c <= "\udfff" and c < "\ufffe")
        or (c > "\uffff")
    )
