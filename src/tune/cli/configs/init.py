"""`tune init DIR`: a folder with an experiment for photographs of one's own, ready to run."""

from __future__ import annotations

import json
from pathlib import Path

from tune.cli.arguments import parser_of
from tune.errors import ConfigError, Problem
from tune.run_dir import shown

MINE = """# @package _global_
# Tell my own photographs apart: a folder per class below {root}.
defaults:
  - override /data: folder
  - override /backbone: efficientnet_lite0   # tune ls backbones: the others
  - override /freeze: deep                   # the head alone learns; mid and full take longer and reach further
  - override /augment: none                  # mild, strong: with freeze=mid or full
  - override /regularize: none

data:
  root: {quoted}
  split:
    val: 0.2          # of the rows that are left when the test part is cut off
    test: 0.2         # 0 for none
epochs: 10
lr: 1.0e-2            # with freeze=full about 1e-3
batch_size: 32
"""

README = """Photographs, an experiment, and what comes of it

  conf/experiment/mine.yaml   what is trained, and how
  outputs/                    a folder for each run
  {root}/CLASS/IMAGE
                              your photographs, a folder for each class

Run these here:

  tune run +experiment=mine                          train
  tune run +experiment=mine freeze=full lr=1e-3      with other settings, for this run alone
  tune run -m +experiment=mine lr=1e-3,1e-2          try several
  tune explain lr +experiment=mine                   where a value comes from
  tune validate mine                                 check what you changed
  tune report latest                                 a page about the last run: curves, mistakes
  tune predict latest PHOTOS --out told.csv          what it says of other photographs
"""


def init(words: list[str]) -> int:
    """`tune init DIR`. Returns the exit code.

    Raises:
        ConfigError: if a file that would be written is there, or there are no such photographs.
    """
    parser = parser_of("init", "Make a folder with an experiment for photographs of your own.")
    parser.add_argument("dir", type=Path, help="the folder; it is made where it is missing")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--classes", metavar="A,B", default="", help="make an empty folder for each of these below photos/"
    )
    where.add_argument(
        "--from", type=Path, metavar="PHOTOS", dest="photos", help="a folder of photographs that is there"
    )
    asked = parser.parse_intermixed_args(words)
    folder, photos = asked.dir, asked.photos
    if photos is not None and not photos.is_dir():
        raise ConfigError(Problem("--from", f"there is no folder {photos}", "command line"))
    classes = [name.strip() for name in asked.classes.split(",") if name.strip()]
    if wrong := [name for name in classes if "/" in name or name.startswith(".")]:
        raise ConfigError(Problem("--classes", f"{wrong[0]!r} cannot be the name of a folder", "command line"))
    root = _root(folder, photos)
    files = {
        folder / "conf" / "experiment" / "mine.yaml": MINE.format(root=root, quoted=json.dumps(root)),
        folder / "README.txt": README.format(root=root),
    }
    taken = [path for path in [folder, *files] if (path.exists() and not path.is_dir()) or path.is_symlink()]
    if taken:
        text = "is there already, and nothing is overwritten: take another folder"
        raise ConfigError(*(Problem(shown(path), text, "command line") for path in taken))
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    made = [folder / "photos" / name for name in classes] or ([] if photos is not None else [folder / "photos"])
    for path in made:
        path.mkdir(parents=True, exist_ok=True)
    if asked.json:
        print(json.dumps({"folder": str(folder), "files": [str(path) for path in files], "root": root}))
        return 0
    print(f"made {', '.join(shown(path) for path in files)}")
    put = "" if photos is not None else f"put photographs into {shown(folder / 'photos')}/CLASS/, then: "
    print(f"{put}cd {shown(folder)} && tune run +experiment=mine")
    return 0


def _root(folder: Path, photos: Path | None) -> str:
    """Where the photographs are, as seen from the folder if they lie inside it."""
    if photos is None:
        return "photos"
    there = photos.resolve()
    return str(there.relative_to(folder.resolve())) if there.is_relative_to(folder.resolve()) else str(there)
