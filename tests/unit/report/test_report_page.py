"""Nothing that a file, a class or a word is called becomes a tag, an address or a sign of Markdown."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tune.report.page import html, markdown
from tune.report.page.blocks import (
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

BAD = "<img src=x onerror=alert(1)> a&b \"c\" 'd' </style></title><script>e</script>"


class Seen(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def page(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a b.png")
    picture = Picture(tmp_path / "a b.png", BAD)
    blocks = [
        Text(BAD),
        Facts([(BAD, BAD)]),
        Numbers([(BAD, BAD, BAD)]),
        Table([BAD, BAD], [[BAD, BAD]], folded=BAD),
        Code(BAD, folded=BAD),
        Pictures([Pair([picture], BAD, [BAD])]),
        Figures([Figure("<svg></svg>", BAD, BAD, [BAD])]),
        Columns([Text(BAD)], [Text(BAD)]),
    ]
    return Page(BAD, [Part(BAD, BAD, BAD, [Section(BAD, blocks), Section("left out")])])


def test_every_block_says_a_bad_name_as_text(page):
    seen = Seen(html.write(page))
    assert seen.text.count(BAD) == 25  # each of the places above, the title and the link to the section
    assert {tag for tag, _ in seen.tags}.isdisjoint({"script", "iframe", "object", "form", "base"})
    assert not [key for _, given in seen.tags for key in given if key.startswith("on") or key == "style"]
    assert [given["src"][:22] for tag, given in seen.tags if tag == "img"] == ["data:image/png;base64,"]
    assert [given["alt"] for tag, given in seen.tags if tag == "img"] == [BAD]
    assert [given["aria-label"] for _, given in seen.tags if "aria-label" in given] == [BAD]
    assert "left out" not in seen.text


def test_only_the_style_that_is_there_is_allowed(page):
    text = html.write(page)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    policy = next(given["content"] for tag, given in Seen(text).tags if "http-equiv" in given)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    directives = dict(each.strip().split(" ", 1) for each in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["style-src"] == f"'sha256-{digest}'"
    assert directives["img-src"] == "data:"
    assert "url(" not in style
    assert "@import" not in style


def test_markdown_holds_no_html_and_links_pictures_from_where_it_stands(page, tmp_path):
    text = markdown.write(page, tmp_path.parent)
    outside = re.sub(r"```text\n.*?\n```", "", text, flags=re.DOTALL)
    assert "<" not in outside
    assert "&lt;img src=x onerror=alert(1)&gt; a&amp;b" in outside
    assert f"]({tmp_path.name}/a%20b.png)" in outside


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a|b", "a\\|b"),
        ("[x](y)", "\\[x\\](y)"),
        ("*a* _b_ `c` ~d~ $e$ \\", "\\*a\\* \\_b\\_ \\`c\\` \\~d\\~ \\$e\\$ \\\\"),
        ("- a", "\\- a"),
        ("1. a", "1\\. a"),
        ("## a", "\\## a"),
        ("---", "\\---"),
        ("0.93 - 1.2", "0.93 - 1.2"),
        ("2026-11-22", "2026-11-22"),
        ("http://x.y", "http&#58;//x.y"),
        ("www.x.y", "www&#46;x.y"),
        ("a\nb", "a b"),
    ],
)
def test_signs_of_markdown_are_escaped(text, written):
    assert markdown.plain(text) == written


def test_a_fence_is_longer_than_any_in_the_code():
    page = Page("", [Part("a", "", "", [Section("b", [Code("x\n````\ny")])])])
    assert "`````text\nx\n````\ny\n`````" in markdown.write(page, Path())


def test_what_xml_cannot_say_is_replaced():
    assert clean("a\x00\x1b\x7f\x9f\udc80\ufffeb\té😀") == "a" + "\N{REPLACEMENT CHARACTER}" * 6 + "b\té😀"
