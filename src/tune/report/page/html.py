"""A page as one HTML file: no scripts, nothing from elsewhere, every text escaped, one style that its digest allows."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from tune.report.page.blocks import (
    Block,
    Code,
    Columns,
    Facts,
    Figure,
    Figures,
    Numbers,
    Page,
    Pair,
    Part,
    Picture,
    Pictures,
    Section,
    Table,
    Text,
    clean,
)

STYLE = (Path(__file__).parent / "style.css").read_text()
_KINDS = {".webp": "image/webp", ".png": "image/png"}
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<link rel="icon" href="data:,">
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")


def write(page: Page) -> str:
    """The whole file."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    allowed = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    body = "\n".join(_part(part, number) for number, part in enumerate(page.parts))
    return _PAGE.substitute(policy=allowed, title=_text(page.title), style=STYLE, body=body)


def _text(text: str) -> str:
    return escape(clean(text))


def _part(part: Part, number: int) -> str:
    shown = [section for section in part.sections if section.blocks]
    names = [f"p{number}s{place}" for place in range(len(shown))]
    links = "".join(f'<a href="#{name}">{_text(section.title)}</a>' for name, section in zip(names, shown, strict=True))
    status = f'<span class="status {_word(part.status)}">{_text(part.status)}</span>' if part.status else ""
    head = f"<header><h1>{_text(part.title)} {status}</h1><p>{_text(part.about)}</p></header>"
    inside = "\n".join(_section(section, name) for section, name in zip(shown, names, strict=True))
    return f"<article>{head}<nav>{links}</nav>\n{inside}</article>"


def _word(status: str) -> str:
    return status if status.isalpha() else ""


def _section(section: Section, name: str) -> str:
    return f'<section id="{name}"><h2>{_text(section.title)}</h2>\n{_blocks(section.blocks)}\n</section>'


def _blocks(blocks: Sequence[Block]) -> str:
    return "\n".join(_block(block) for block in blocks)


def _block(block: Block) -> str:
    match block:
        case Text():
            return f'<p class="quiet">{_text(block.text)}</p>' if block.quiet else f"<p>{_text(block.text)}</p>"
        case Facts():
            return f"<dl>{''.join(f'<dt>{_text(n)}</dt><dd>{_text(v)}</dd>' for n, v in block.rows)}</dl>"
        case Numbers():
            return f'<div class="numbers">{"".join(_number(*item) for item in block.items)}</div>'
        case Table():
            return _folded(block.folded, _table(block))
        case Code():
            return _folded(block.folded, f"<pre><code>{_text(block.text)}</code></pre>")
        case Pictures():
            return f'<div class="pictures{" wide" * block.wide}">{"".join(_pair(pair) for pair in block.pairs)}</div>'
        case Columns():
            return f'<div class="columns"><div>{_blocks(block.left)}</div><div>{_blocks(block.right)}</div></div>'
        case Figures():
            return f'<div class="figures">{"".join(_figure(figure) for figure in block.figures)}</div>'


def _folded(title: str, inside: str) -> str:
    return f"<details><summary>{_text(title)}</summary>{inside}</details>" if title else inside


def _number(name: str, value: str, about: str) -> str:
    return f"<div><span>{_text(name)}</span><strong>{_text(value)}</strong><small>{_text(about)}</small></div>"


def _table(table: Table) -> str:
    kinds = ["" if column in table.words else ' class="n"' for column in range(len(table.head))]
    head = "".join(f"<th{kind}>{_text(cell)}</th>" for cell, kind in zip(table.head, kinds, strict=True))
    rows = "".join(
        f"<tr>{''.join(f'<td{kind}>{_text(cell)}</td>' for cell, kind in zip(row, kinds, strict=True))}</tr>\n"
        for row in table.rows
    )
    inside = f"<table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{inside}</div>'  # a box that scrolls must be reached by the keyboard


def _figure(figure: Figure) -> str:
    names = "".join(f'<li class="c{i % 8}">{_text(name)}</li>' for i, name in enumerate(figure.series))
    series = f'<ul class="series">{names}</ul>' if names else ""
    title, about = f"<figcaption>{_text(figure.title)}</figcaption>", _text(figure.about)
    wide = ' class="wide"' if figure.wide else ""
    return f'<figure{wide}>{title}{series}<div role="img" aria-label="{about}">{figure.svg}</div></figure>'


def _pair(pair: Pair) -> str:
    images = "".join(_picture(picture) for picture in pair.pictures)
    lines = "".join(f"<span>{_text(line)}</span>" for line in pair.lines)
    return (
        f'<figure><div class="images">{images}</div><figcaption><b>{_text(pair.title)}</b>{lines}</figcaption></figure>'
    )


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.path.read_bytes()).decode()
    kind = _KINDS[picture.path.suffix]
    return f'<img alt="{_text(picture.about)}" src="data:{kind};base64,{data}">'
