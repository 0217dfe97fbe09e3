"""`tune compare`: finished runs side by side, each against the first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tune.cli.arguments import parser_of, whole
from tune.cli.results.text import aligned, value
from tune.errors import ConfigError, Problem
from tune.evaluate.mcnemar import holm
from tune.report.commands import key_of
from tune.report.compare.keys import differing, flat, in_words
from tune.report.compare.pair import Flip, Pair, Side, has_other_split, num_trained, read_side
from tune.report.compare.pair import compare as compare_pair
from tune.run_dir import find_run
from tune.talk import say
from tune.train.sweep.ledger import deciding

_METHODS = {"exact": "exact binomial", "chi2": "chi² with continuity correction"}


def compare(words: list[str]) -> int:
    """`tune compare RUN RUN …`. Returns the exit code."""
    parser = parser_of("compare", "Finished runs on the same rows, each against the first.", "output")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, starts of ids, SWEEP#NUMBER, or latest")
    parser.add_argument("--flips", type=whole(0), default=3, metavar="N", help="name so many rows that flipped (3)")
    text = "also runs with other training rows (data.split.fraction, per_class, fold) beside the same test rows"
    parser.add_argument("--other-split", action="store_true", help=text)
    asked = parser.parse_args(words)
    folders = list({path.resolve(): path for path in (find_run(run, asked.output) for run in asked.runs)}.values())
    if len(folders) < 2:
        raise ConfigError(Problem("compare", f"needs two runs or more, not {len(folders)}", "command line"))
    first, *others = [read_side(folder) for folder in folders]
    pairs, problems = [], []
    for other in others:
        try:
            pairs.append(compare_pair(first, other, other_split=asked.other_split))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    corrected = holm([pair.test.p for pair in pairs])
    if asked.json:
        print(json.dumps(_as_json([first, *others], pairs, corrected, asked.flips)))
        return 0
    for number, (other, pair, p) in enumerate(zip(others, pairs, corrected, strict=True)):
        lines = [*_metrics(first, other, pair), *_tested(pair, p, len(pairs)), *_differ(first, other)]
        lines += [*_classes(first, other, pair), *_flipped(first, other, pair, asked.flips)]
        print("\n" * bool(number) + "\n".join(lines))
    if first.part == "val":
        say("note: there is no test part; these are validation rows, by which the epoch was chosen")
    return 0


def _metrics(first: Side, other: Side, pair: Pair) -> list[str]:
    """A line for each metric that both have."""
    rows = [["", first.id, other.id, "difference (paired bootstrap, 95 %)"]]
    for name, before in first.record["metrics"].items():
        after = other.record["metrics"].get(name)
        if name.startswith(f"{pair.part}/") and after is not None and before is not None:
            change = f"{after - before:+.3f}"
            if name in pair.differences:
                change = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*pair.differences[name])
            rows.append([name, _with_interval(first, name), _with_interval(other, name), change])
    return aligned(rows)


def _with_interval(side: Side, name: str) -> str:
    ends = side.record.get("intervals", {}).get(name)
    between = f" [{value(ends[0])}, {value(ends[1])}]" if ends else ""
    return f"{value(side.record['metrics'][name])}{between}"


def _tested(pair: Pair, corrected: float, tests: int) -> list[str]:
    test, n = pair.test, len(pair.joined.paths)
    line = f"McNemar    p = {_p(test.p)} ({_METHODS[test.method]}; {test.only_b} rows against {test.only_a}, n = {n})"
    return [line + (f"   by Holm, of {tests} tests: {_p(corrected)}" if tests > 1 else "")]


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 0.0001 else "below 0.0001"


def _differ(first: Side, other: Side) -> list[str]:
    lines = []
    told = in_words(_keys(first, other), _choices(first, other), [*_typed(first), *_typed(other)])
    if first.config and other.config:
        lines.append(f"differ in  {', '.join(told) or 'nothing that decides a number'}")
    else:
        lines += [f"ensemble   {side.id}: {_together(side)}" for side in (first, other) if not side.config]
    if beside := [f"{key} {a} → {b}" for key, (a, b) in _beside(first, other).items()]:
        lines.append(f"and in     {', '.join(beside)}")
    if has_other_split(first, other):
        trained = num_trained(first, other)
        lines.append(
            f"note       the same {first.part} rows, but another split of the rest: {trained[0]} and {trained[1]} train"
        )
    return lines


def _keys(first: Side, other: Side) -> dict[str, tuple[Any, Any]]:
    """Keys that decide something; none where one of the two is an ensemble."""
    if not (first.config and other.config):
        return {}
    return differing(flat(deciding(first.config)), flat(deciding(other.config)))


def _choices(first: Side, other: Side) -> dict[str, tuple[Any, Any]]:
    """Options of groups that decide something."""
    if not (first.config and other.config):
        return {}
    return differing(*(deciding(side.record.get("choices", {})) for side in (first, other)))


def _beside(first: Side, other: Side) -> dict[str, tuple[Any, Any]]:
    """Versions and device, where both records have them."""
    sides = [flat({**side.record.get("versions", {}), "device": side.record.get("device")}) for side in (first, other)]
    return {key: pair for key, pair in differing(*sides).items() if all(key in side and side[key] for side in sides)}


def _typed(side: Side) -> list[str]:
    return [key_of(word) for word in side.record.get("overrides", [])]


def _together(side: Side) -> str:
    about = side.record.get("ensemble", {})
    return f"{about.get('how', '')} of {len(about.get('members', []))}"


def _classes(first: Side, other: Side, pair: Pair) -> list[str]:
    rows = [["recall", "n", first.id, other.id, ""]]
    for name, (n, before, after) in pair.recalls().items():
        rows.append([f"  {name}", str(n), value(before), value(after), f"{after - before:+.3f}"])
    return aligned(rows)


def _flipped(first: Side, other: Side, pair: Pair, number: int) -> list[str]:
    """How many rows flipped each way, and the first of each kind by name."""
    kinds = {
        f"right in {other.id} alone": pair.gained,
        f"right in {first.id} alone": pair.lost,
        "wrong in both, as another class": pair.other,
    }
    lines = []
    for what, flips in kinds.items():
        lines.append(f"flipped    {len(flips)} {what}" + (", the surest first" if flips and number else ""))
        lines += aligned([_cells(flip) for flip in flips[:number]], indent="  ")
    return lines


def _cells(flip: Flip) -> Sequence[str]:
    return [flip.path, flip.label, f"{flip.first} → {flip.second}", f"p {flip.p:.3f}"]


def _as_json(sides: list[Side], pairs: list[Pair], corrected: list[float], number: int) -> dict[str, Any]:
    first, *others = sides
    return {
        "part": first.part,
        "runs": [
            {
                "run": side.id,
                "run_dir": str(side.run_dir),
                "metrics": side.record["metrics"],
                "intervals": side.record.get("intervals", {}),
            }
            for side in sides
        ],
        "pairs": [
            {
                "first": first.id,
                "second": other.id,
                "rows": len(pair.joined.paths),
                "differ": _keys(first, other),
                "choices": _choices(first, other),
                "beside": _beside(first, other),
                "differences": {
                    name: dict(zip(("difference", "low", "high"), ends, strict=True))
                    for name, ends in pair.differences.items()
                },
                "mcnemar": {
                    "only_first": pair.test.only_a,
                    "only_second": pair.test.only_b,
                    "method": pair.test.method,
                    "statistic": pair.test.statistic,
                    "p": pair.test.p,
                    "p_holm": p,
                },
                "recall": {
                    name: {"rows": n, "first": before, "second": after}
                    for name, (n, before, after) in pair.recalls().items()
                },
                "flips": {
                    kind: {"rows": len(flips), "named": [asdict(flip) for flip in flips[:number]]}
                    for kind, flips in (("gained", pair.gained), ("lost", pair.lost), ("other", pair.other))
                },
            }
            for other, pair, p in zip(others, pairs, corrected, strict=True)
        ],
    }
