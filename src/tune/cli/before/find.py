"""`tune lr-find` and `tune batch-find`: a rate, and a batch size, found by a few steps of the run's own training.

Torch is imported after everything that can be checked without it has been. No run folder is made.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.cli.arguments import parser_of, refuse_picture
from tune.cli.run import check_all
from tune.config.across.domains import learns_source_first
from tune.config.across.fitted import is_fitted
from tune.config.across.latest import pin_latest
from tune.config.across.rate import LBFGS
from tune.config.compose import ConfigTree, compose
from tune.config.signature.types import written
from tune.errors import ConfigError, Problem, RunError
from tune.run_dir import atomic_write
from tune.talk import say

if TYPE_CHECKING:
    from tune.train.prepare import Prepared
    from tune.train.probe.batch_size import Size


def lr_find(words: list[str]) -> int:
    """`tune lr-find [--flags] [overrides]`. Returns the exit code."""
    parser = parser_of(
        "lr-find", "Look for a rate by a few steps of the run's own training.", "configs", "allow", "one"
    )
    parser.add_argument("overrides", nargs="*", help="as of tune run")
    parser.add_argument(
        "--method",
        choices=("both", "range", "divide"),
        default="both",
        help="range: the loss while the rate grows; divide: from 10 down by thirds, compared; both (default): by "
        "thirds from where the range test says",
    )
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="write the curve as a picture")
    asked = parser.parse_intermixed_args(words)
    if asked.picture:
        refuse_picture(asked.picture)
    prepared = _prepared(asked, "tune lr-find")
    from tune.cli.before.rate_curve import draw, picture
    from tune.train.probe.rate import find_rate

    for line in _first_phase(prepared):
        say(line)
    found = find_rate(prepared, asked.method)
    for line in draw(found, shutil.get_terminal_size((72, 24)).columns):
        say(line)
    if asked.picture:
        atomic_write(asked.picture, picture(found))
        say(f"picture   {asked.picture}")
    answer = found.suggestion
    print(f"lr={written(answer.lr)}   {answer.reason}")
    if asked.json:
        shown = {"lr": answer.lr, "largest_stable": answer.largest_stable}
        curve, tries = found.curve, found.tries
        shown |= {"rates": curve.rates if curve else [], "losses": curve.losses if curve else []}
        tried = sorted(tries.losses.items()) if tries else []
        shown |= {"tries": [[rate, loss if math.isfinite(loss) else None] for rate, loss in tried]}
        print(json.dumps({**shown, "reason": answer.reason}))
    return 0


def batch_find(words: list[str]) -> int:
    """`tune batch-find [--flags] [overrides]`. Returns the exit code."""
    parser = parser_of(
        "batch-find", "Look for the largest batch that fits, by powers of two.", "configs", "allow", "one"
    )
    parser.add_argument("overrides", nargs="*", help="as of tune run")
    parser.add_argument("--grow", action="store_true", help="put the largest batch that fits in place of batch_size")
    asked = parser.parse_intermixed_args(words)
    prepared = _prepared(asked, "tune batch-find")
    from tune.train.probe.batch_size import advice, sizes

    config, rows, device = prepared.config, len(prepared.data.trained), prepared.device
    del prepared
    found: list[Size] = []
    for size in sizes(config, rows, device):
        found.append(size)
        rate = f"{size.seconds:>9.3g} s a step {size.rows / size.seconds:>9,.0f} rows/s" if size.seconds else ""
        memory = f"{size.num_bytes / 1e9:>7.2f} GB"
        say(f"{size.rows:>6} rows  {size.trouble or f'{rate} {memory}'}")
    fitting = [size.rows for size in found if not size.trouble]
    if not fitting:
        raise RunError(f"not even one row fits: {found[-1].trouble}. A smaller backbone.input_size takes less")
    largest = max(fitting)
    fit = f"{largest} rows fit" + ("" if found[-1].trouble else f" (there are {rows} to train on)")
    now = config["trainer"].get("accumulate_grad_batches", 1)
    paste, told = advice(config["batch_size"], now, largest, is_full=bool(found[-1].trouble), grow=asked.grow)
    print("   ".join(filter(None, [" ".join(paste), fit + told])))
    if asked.json:
        print(json.dumps({"largest": largest, "paste": paste, "sizes": [vars(size) for size in found]}))
    return 0


def _prepared(asked: argparse.Namespace, verb: str) -> Prepared:
    """The run that was asked for, ready to train.

    Raises:
        ConfigError: if it cannot start, or has nothing to look for.
    """
    tree = ConfigTree.find(asked.config_dir)
    composed = compose(tree, asked.overrides)
    if composed.is_sweep:
        raise ConfigError(Problem(verb, "needs one run, and this is a sweep or an ensemble"))
    check_all([composed], tree, asked.allow)
    refuse(composed.cfg, verb)
    if line := pin_latest(composed.cfg):
        say(line)
    from tune.train.prepare import prepare

    return prepare(composed.cfg)


def refuse(cfg: dict[str, Any], verb: str) -> None:
    """Runs without a rate, or without batches, to look for.

    Raises:
        ConfigError: with every reason.
    """
    problems = []
    if cfg["stages"]:
        problems.append(Problem("stages", f"{verb} looks at one run: give it the words of one stage, with stages=[]"))
    if is_fitted(cfg["head"]):
        problems.append(Problem("head", "is fitted at once, not by steps: there is no rate and no batch to look for"))
    if cfg["optimizer"].get("_target_") == LBFGS:
        problems.append(
            Problem("optimizer", "lbfgs takes all rows at once, and looks for the length of each step itself")
        )
    if str(cfg["trainer"].get("strategy", "")).startswith("ddp"):
        problems.append(Problem("trainer", f"{verb} works in one process: trainer=auto. The answer is per process"))
    if learns_source_first(cfg):
        text = "the source has to be learned first: give the run that did, backbone.weights=run:ID"
        problems.append(Problem("backbone.weights", text))
    if problems:
        raise ConfigError(*problems)


def _first_phase(prepared: Prepared) -> list[str]:
    """What is tried, where not everything trains from the start."""
    if len(prepared.phases) == 1:
        return []
    first = [layer for layer in prepared.network.layers if layer in prepared.phases[0].trained]
    names = first[0] if len(first) == 1 else f"{first[0]} … {first[-1]}"
    return [f"note: this is of the first phase, in which {names} trains; what joins later is not tried"]
