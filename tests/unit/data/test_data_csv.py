from __future__ import annotations

from pathlib import Path

import pytest

from tune.data.readers.csv import Csv
from tune.errors import DataError


def make(folder: Path, text: str, *images: str) -> str:
    for name in images:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    file = folder / "labels.csv"
    file.write_text(text, encoding="utf-8-sig")
    return str(file)


def problems_of(file: str, **arguments) -> list[str]:
    with pytest.raises(DataError) as caught:
        Csv(file, **arguments).read()
    return [f"{problem.where.rpartition(':')[2]} {problem.key} {problem.text}" for problem in caught.value.problems]


def test_path_and_label_are_enough(tmp_path):
    file = make(tmp_path, "path,label\nimg/a.png,good\n\nimg/b.png , bad\n", "img/a.png", "img/b.png")
    table = Csv(file).read()
    assert table.names == ["img/a.png", "img/b.png"]
    assert table.images == [tmp_path / "img/a.png", tmp_path / "img/b.png"]
    assert table.classes == ["bad", "good"]
    assert table.labels.tolist() == [1, 0]
    assert (table.split, table.group, table.weights) == (None, None, None)


def test_optional_columns_are_used_and_others_can_be_split_by(tmp_path):
    text = (
        "path,label,split,group,weight,site\na.png,x,train,7,2,north\nb.png,y,Valid,8,0.5,south\nc.png,y,,8,1,south\n"
    )
    table = Csv(make(tmp_path, text, "a.png", "b.png", "c.png")).read()
    assert table.split is not None
    assert table.group is not None
    assert table.weights is not None
    assert table.split.tolist() == ["train", "val", ""]
    assert table.group.tolist() == ["7", "8", "8"]
    assert table.weights.tolist() == [2.0, 0.5, 1.0]
    assert table.column_names() == ["label", "group", "site"]
    assert table.column("site").tolist() == ["north", "south", "south"]


def test_columns_can_have_other_names_and_paths_another_root(tmp_path):
    make(tmp_path / "pictures", "", "a.png", "b.png")
    file = make(tmp_path, "file;class;who\na.png;x;p\nb.png;y;q\n")
    table = Csv(
        file,
        root=str(tmp_path / "pictures"),
        path_column="file",
        label_column="class",
        group_column="who",
        delimiter=";",
        classes=["y", "x"],
    ).read()
    assert table.group is not None
    assert table.group.tolist() == ["p", "q"]
    assert table.classes == ["y", "x"]


def test_optional_columns_can_be_left_unused(tmp_path):
    table = Csv(
        make(tmp_path, "path,label,split\na.png,x,odd\nb.png,y,odd\n", "a.png", "b.png"), split_column=None
    ).read()
    assert table.split is None
    assert table.columns["split"].tolist() == ["odd", "odd"]


def test_every_problem_is_named_with_its_line(tmp_path):
    text = "path,label,split,weight\na.png,x,train,1\nnone.png,x,,1\na.png,y,train,1\nb.png,,train,1\nc.png,y,tain,1\n"
    text += "d.png,y,train,-1\n,y,train,1\ne.png,y\nf.png,y,test,nan\n"
    file = make(tmp_path, text, *(f"{name}.png" for name in "abcdef"))
    found = problems_of(file)
    expected = [
        "3 data.file no file",
        "4 data.file a.png stands in line 2 already",
        "5 data.file no label for b.png",
        "6 data.file split is 'tain'",
        "7 data.file weight is '-1'",
        "8 data.file no path",
        "9 data.file 2 cells are missing",
        "10 data.file weight is 'nan'",
    ]
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True))


def test_an_unknown_column_names_those_there_are(tmp_path):
    file = make(tmp_path, "image,label\na.png,x\n", "a.png")
    assert problems_of(file) == ["1 data.path_column labels.csv has no column path. It has: image, label"]
    assert "data.group_column" in problems_of(file, path_column="image", group_column="who")[0]


@pytest.mark.parametrize(
    ("text", "reason"), [("", "is empty"), ("path,label\n", "no row"), ("path,label,path\na,b,c\n", "same name: path")]
)
def test_a_file_without_rows_or_with_two_columns_of_a_name_is_refused(tmp_path, text, reason):
    assert reason in problems_of(make(tmp_path, text))[0]


def test_a_missing_file_says_so(tmp_path):
    make(tmp_path, "path,label\n")
    assert "Did you mean" in problems_of(str(tmp_path / "label.csv"))[0]
    with pytest.raises(DataError, match=r"data\.file=FILE"):
        Csv().read()


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00\x01")
    assert "no CSV text" in problems_of(str(tmp_path / "x.csv"))[0]
