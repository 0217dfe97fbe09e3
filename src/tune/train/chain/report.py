"""What the stages of a chain gave: the last one against the same run straight from where it began. Torch-free."""

from __future__ import annotations

from typing import Any

from tune.evaluate.paired import METRICS, join
from tune.run_dir import shown
from tune.train.chain.parts import Part

_SHOWN = ("accuracy", "balanced_accuracy", "auroc")


def report(parts: list[Part]) -> dict[str, Any]:
    """What `run.json` of a chain says under "chain".

    `stages` and `beside` list the parts that have begun: name, words, run_dir, status, metrics, seconds. Each of
    `beside` that is done has `gain`, if the last stage is: metric → (difference, low, high), how much more the chain
    has, over `rows` of the part `of`.
    """
    begun = [(part, record) for part in parts if (record := part.record()) is not None]
    told: dict[str, list[dict[str, Any]]] = {"stages": [], "beside": []}
    last = max((part for part in parts if part.is_stage), key=lambda part: part.stage)
    is_through = any(part is last and record["status"] == "done" for part, record in begun)
    for part, record in begun:
        entry = {"name": part.name, "words": part.words, "run_dir": str(part.folder), "status": record["status"]}
        entry |= {"metrics": record.get("metrics") or {}, "seconds": record.get("seconds")}
        if not part.is_stage and is_through and record["status"] == "done":
            entry |= _gain(last, part)
        told["stages" if part.is_stage else "beside"].append(entry)
    return told


def _gain(last: Part, beside: Part) -> dict[str, Any]:
    files = {of: [part.folder / "predictions" / f"{of}.csv" for part in (last, beside)] for of in ("test", "val")}
    of = "test" if files["test"][0].is_file() else "val"
    ours, theirs = files[of]
    joined = join(ours, theirs)
    gain = {f"{of}/{metric}": joined.difference(metric) for metric in METRICS}
    return {
        "of": of,
        "rows": len(joined.paths),
        "gain": {key: value for key, value in gain.items() if _is_number(*value)},
    }


def _is_number(*values: float) -> bool:
    return all(value == value for value in values)


def beside_metrics(told: dict[str, Any]) -> dict[str, float]:
    """What the runs beside the chain measured on the test part, as `test_straight/…`."""
    return {
        f"test_{entry['name'].replace('-', '_')}/{key.removeprefix('test/')}": value
        for entry in told["beside"]
        for key, value in entry["metrics"].items()
        if key.startswith("test/")
    }


def beside_shown(config: dict[str, Any]) -> tuple[str, ...]:
    """What the table of a sweep shows of the runs beside its chains."""
    return ("test_straight/accuracy", "test_straight/auroc") if config["stages"] else ()


def lines(told: dict[str, Any]) -> list[str]:
    """A line for each run, and one for each difference."""
    if not told:
        return []
    entries = [*told["stages"], *told["beside"]]
    words = [" ".join(entry["words"]) if entry in told["stages"] else "" for entry in entries]
    width = max(map(len, words))
    found = []
    for entry, text in zip(entries, words, strict=True):
        name = entry["name"].replace("-", " ")
        found.append(f"{name:<12}  {text:<{width}}   {_measured(entry)}   {shown(entry['run_dir'])}")
    for entry in told["beside"]:
        if "gain" in entry:
            found += _differences(entry)
    return found


def _measured(entry: dict[str, Any]) -> str:
    if entry["status"] != "done":
        return entry["status"]
    part = "test" if "test/accuracy" in entry["metrics"] else "val"
    values = {name: entry["metrics"].get(f"{part}/{name}") for name in _SHOWN}
    return f"{part}   " + "   ".join(f"{name} {value:.3f}" for name, value in values.items() if value is not None)


def _differences(entry: dict[str, Any]) -> list[str]:
    gain = {name.partition("/")[2]: ends for name, ends in entry["gain"].items()}
    each = [f"{name} {difference:+.3f} [{low:+.3f}, {high:+.3f}]" for name, (difference, low, high) in gain.items()]
    better = " and ".join(name for name, (_, low, _) in gain.items() if low > 0)
    worse = " and ".join(name for name, (_, _, high) in gain.items() if high < 0)
    verdicts = [f"better by {better}"] * bool(better) + [f"worse by {worse}"] * bool(worse)
    verdict = ", ".join(verdicts) or "these rows do not tell the two apart"
    against = entry["name"].replace("-", " ")
    return [f"chain against {against}   {'   '.join(each)}   n = {entry['rows']}, 95 % by paired bootstrap: {verdict}"]
