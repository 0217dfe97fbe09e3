"""`tune export`: a finished run as a file for other programs, with a card that says what it is.

Torch is imported after everything that can be checked without it has been; a card alone never imports it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.cli.arguments import parser_of
from tune.cli.models.sources import images_of
from tune.errors import ConfigError, MissingExtra, Problem
from tune.run_dir import atomic_write, find_run, read_json, run_id, shown

if TYPE_CHECKING:
    from tune.evaluate.loaded import Loaded

FORMATS = ("onnx", "torch-export", "safetensors", "card")
_SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2", "safetensors": ".safetensors", "card": ".md"}
_IMAGES = 32  # that a file is verified on


def export(words: list[str]) -> int:
    """`tune export RUN --format FORMAT [--verify]`. Returns the exit code: 4 if the file says something else."""
    parser = parser_of("export", "Write a finished run as a file for other programs.", "allow", "output")
    parser.add_argument("run", help="run folder, start of its id, SWEEP#NUMBER, or latest")
    parser.add_argument(
        "--format", choices=FORMATS, default="onnx", help="of the file (onnx); card: the model card alone"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write it (export/ in the run's folder)")
    parser.add_argument("--delta", action="store_true", help="of safetensors: only what trained")
    parser.add_argument("--verify", action="store_true", help=f"run the file on {_IMAGES} test images and compare")
    parser.add_argument("--images", action="append", default=[], metavar="PATH", help="verify on these instead")
    asked = parser.parse_args(words)
    if problems := _without_effect(asked):
        raise ConfigError(*problems)
    if asked.format == "onnx":
        _require_onnx()
    run_dir = find_run(asked.run, asked.output)
    record = read_json(run_dir / "run.json")
    if record["status"] != "done":
        raise ConfigError(Problem(run_id(run_dir), f"is {record['status']}; only a run that is done can be exported"))
    path = asked.out or run_dir / "export" / f"{'delta' if asked.delta else 'model'}{_SUFFIXES[asked.format]}"
    if asked.out is None:
        path.parent.mkdir(exist_ok=True)
    elif not path.absolute().parent.is_dir():
        raise ConfigError(Problem("--out", f"there is no folder {path.absolute().parent}", "command line"))
    started = time.monotonic()
    answer: dict[str, Any] = {"run_dir": str(run_dir), "status": "done", "format": asked.format, "file": str(path)}
    code = 0
    if asked.format != "card":
        images = images_of(asked.images)[:_IMAGES] if asked.images else []
        loaded = _write(asked, run_dir, path)
        answer["bytes"] = path.stat().st_size
        print(f"file      {shown(path)}   {answer['bytes'] / 1e6:.1f} MB   {asked.format}")
        if asked.verify:
            found = _verify(asked, loaded, path, images)
            answer |= found
            code = 0 if found["verified"] else 4
    card = path if asked.format == "card" else path.with_name(path.name + ".md")
    _write_card(run_dir, asked, card, path)
    answer |= {"card": str(card), "seconds": round(time.monotonic() - started, 3)}
    print(f"card      {shown(card)}")
    if code:
        answer["status"] = "failed"
    if asked.json:
        print(json.dumps(answer))
    return code


def _without_effect(asked: argparse.Namespace) -> list[Problem]:
    where, problems = "command line", []
    if asked.delta and asked.format != "safetensors":
        problems.append(Problem("--delta", f"has no effect on {asked.format}: --format safetensors", where))
    if asked.images and not asked.verify:
        problems.append(Problem("--images", "has no effect without --verify", where))
    if asked.verify and asked.format == "card":
        problems.append(Problem("--verify", "has no effect on a card: there is nothing to run", where))
    return problems


def _require_onnx() -> None:
    """Make sure that ONNX files can be written and run.

    Raises:
        MissingExtra: if a package is not installed.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra("--format onnx", "onnx onnxscript onnxruntime", "export")


def _write(asked: argparse.Namespace, run_dir: Path, path: Path) -> Loaded:
    """Write the file. Returns the run."""
    from tune.evaluate.export import formats
    from tune.evaluate.loaded import Loaded, load

    loaded = load(str(run_dir), asked.output, asked.allow)
    if not isinstance(loaded, Loaded):
        text = "is an ensemble of several networks; export its members, or a soup, which is one"
        raise ConfigError(Problem(run_id(run_dir), text))
    if asked.format == "onnx":
        formats.write_onnx(loaded, path)
        return loaded
    if asked.format == "torch-export":
        formats.write_torch_export(loaded, path)
        return loaded
    without: frozenset[str] = frozenset()
    if asked.delta:
        from tune.train.finished.form import frozen_names

        without = frozen_names(loaded, asked.allow)
        if not without:
            raise ConfigError(Problem("--delta", "has no effect: nothing of this run was frozen", "command line"))
    formats.write_safetensors(loaded, path, without)
    return loaded


def _verify(asked: argparse.Namespace, loaded: Loaded, path: Path, images: list[Path]) -> dict[str, Any]:
    """Run the file, compare, and print the largest difference."""
    from tune.evaluate.export import formats
    from tune.evaluate.export.verify import TOLERANCE, differences

    rows: list[Any] = list(images)
    if not rows:
        from tune.train.finished.config import read_configs
        from tune.train.finished.rows import own_rows

        first, config = next(iter(read_configs(loaded.run_dir, asked.output, asked.allow).items()))  # of a soup, many
        rows = list(own_rows(first, config)["test"].images[:_IMAGES])
    if asked.format == "onnx":
        run = formats.run_onnx(path)
    elif asked.format == "torch-export":
        run = formats.run_torch_export(path)
    else:
        run = formats.run_safetensors(path, asked.output)
    found = differences(loaded, run, rows)
    name = max(found, key=lambda output: found[output])
    is_same = max(found.values()) <= TOLERANCE
    verdict = f"{'as the run' if is_same else 'NOT as the run'}: largest difference {found[name]:.1e} ({name})"
    print(f"verify    {verdict} on {len(rows)} images, {TOLERANCE:g} allowed")
    return {"verified": is_same, "differences": found, "images": len(rows)}


def _write_card(run_dir: Path, asked: argparse.Namespace, card: Path, file: Path) -> None:
    from tune.report.card import card_of

    about = "" if asked.format == "card" else file.name
    atomic_write(card, card_of(run_dir, about, "delta" if asked.delta else asked.format))
