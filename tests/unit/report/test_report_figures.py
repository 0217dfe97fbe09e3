"""Drawings stand inside a page: own names, no styles, no addresses, text as it is."""

from __future__ import annotations

import re
import xml.etree.ElementTree as Tree
from itertools import pairwise

import pytest

from tune.evaluate.calibration import Bin
from tune.report.figures import curves, decisions, keys
from tune.report.figures.keys import Key
from tune.report.predicted import Curve

BAD = ["<img src=x>", 'a&b "c"', "_$x^{2}$", "日本 \x01"]


def drawings(name):
    lr, other = Key("lr", ["1e-4", "1e-3", "1e-2", "1e-4"]), Key("<b>", ["<i>", "x", "x", "_y"])
    curve = Curve("a", [0, 0.5, 1], [0, 1, 1], [1, 0.7, 0.5], 0.75, 0.8, 0.5, (0.5, 1.0, None))
    points = {"a": [(1, 2.0), (2, float("nan")), (3, 1e-3)]}
    values = [0.1, 0.5, 0.7, 0.2]
    return {
        "curves": curves.curves(f"{name}a", points, "loss", best=2, log=True),
        "confusion": decisions.confusion(f"{name}b", [[3, 1, 0, 0]] * 4, BAD),
        "roc": decisions.roc(f"{name}c", [curve]),
        "pr": decisions.precision_recall(f"{name}d", [curve]),
        "reliability": decisions.reliability(f"{name}e", [Bin(4, 0.3, 0.5), Bin(0, 0, 0)], []),
        "against": keys.against(f"{name}f", lr, values, "val/accuracy"),
        "words": keys.against(f"{name}g", other, values, "val/accuracy"),
        "heat": keys.heat(f"{name}h", lr, other, values, "val/accuracy"),
        "parallel": keys.parallel(f"{name}i", [lr, other], values, "val/accuracy", True),
    }


@pytest.fixture(scope="module")
def drawn():
    return drawings("f0")


def test_they_are_the_same_each_time(drawn):
    assert drawings("f0") == drawn


def test_no_two_have_a_name_in_common_and_every_name_is_found(drawn):
    names = [re.findall(r' id="([^"]+)"', svg) for svg in drawn.values()]
    every = [name for own in names for name in own]
    assert len(set(every)) == len(every) > 0
    for svg, own in zip(drawn.values(), names, strict=True):
        assert set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg)) == set(own)


def test_they_hold_no_style_no_script_no_address(drawn):
    for svg in drawn.values():
        root = Tree.fromstring(svg)
        for element in root.iter():
            assert element.tag.rpartition("}")[2] in {"svg", "g", "defs", "path", "use", "text", "clipPath", "rect"}
            for key, value in element.attrib.items():
                assert key != "style"
                assert not key.startswith("on")
                assert not key.endswith("href") or value.startswith("#")
        assert "width" not in root.attrib
        assert re.findall(r"https?://[^\"]+", svg) == ["http://www.w3.org/2000/svg"] * 1 + (
            ["http://www.w3.org/1999/xlink"] if "xlink" in svg else []
        )


def test_names_stand_in_them_as_text(drawn):
    def texts(svg):
        return {element.text for element in Tree.fromstring(svg).iter() if element.tag.endswith("}text")}

    assert {"<img src=x>", 'a&b "c"', "_$x^{2}$", "日本 \N{REPLACEMENT CHARACTER}"} <= texts(drawn["confusion"])
    assert {"<i>", "x", "_y", "<b>"} <= texts(drawn["words"]) & texts(drawn["heat"]) & texts(drawn["parallel"])
    assert {"0.0001", "0.001", "0.01"} <= texts(drawn["against"])


def test_ink_takes_the_colour_of_the_page(drawn):
    for svg in drawn.values():
        assert "currentColor" in svg
        assert '"#000000"' not in svg


@pytest.mark.parametrize(
    ("values", "scale", "kinds"),
    [
        (["1e-2", "1e-4", "0.001"], "log", ["1e-4", "0.001", "1e-2"]),
        (["3", "1", "2"], "linear", ["1", "2", "3"]),
        (["0", "1e-4", "1e-2"], "words", ["0", "1e-4", "1e-2"]),
        (["0", "0.2"], "linear", ["0", "0.2"]),
        (["none", "adam", "3"], "words", ["3", "none", "adam"]),
        (["true", "false"], "words", ["true", "false"]),
        (["nan", "1"], "words", ["1", "nan"]),
    ],
)
def test_a_key_is_drawn_as_its_values_are(values, scale, kinds):
    key = Key("k", values)
    assert (key.scale, key.kinds) == (scale, kinds)
    places = dict(zip(values, key.places(), strict=True))
    assert all(places[a] < places[b] for a, b in pairwise(kinds))


def upright(svg):
    """Numbers at the marks of the upright axis; the other has whole numbers or words."""
    texts = [str(element.text) for element in Tree.fromstring(svg).iter() if element.tag.endswith("}text")]
    return [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts if "." in text]


@pytest.mark.parametrize(
    ("metric", "values", "is_below_0", "is_above_1"),
    [
        ("val/accuracy", [1.0, 1.0], False, False),
        ("val/accuracy", [0.0, 0.0], False, False),
        ("val/quality/auroc", [0.0, 1.0], False, False),
        ("test/tta_accuracy", [1.0, 1.0], False, False),
        ("test/attack_success@2", [1.0, 1.0], False, False),
        ("val/size/r2", [0.0, 0.0], True, False),
        ("val/size/r2", [1.0, 1.0], False, False),
        ("val/loss", [1.0, 1.0], False, True),
        ("val/loss", [0.0, 0.0], True, False),
    ],
)
@pytest.mark.parametrize("figure", ["curves", "against"])
def test_the_axis_of_a_metric_ends_where_the_metric_ends(figure, metric, values, is_below_0, is_above_1):
    if figure == "curves":
        svg = curves.curves("a", {metric: [(1, values[0]), (2, values[1])]}, "value")
    else:
        svg = keys.against("a", Key("head", ["linear", "mlp"]), values, metric)
    marks = upright(svg)
    assert (min(marks) < 0, max(marks) > 1) == (is_below_0, is_above_1)
    assert min(marks) <= values[0] <= max(marks)
