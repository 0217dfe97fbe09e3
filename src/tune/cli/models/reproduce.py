"""`tune reproduce`: the same config and the same split once more, and how far it came out otherwise.

Torch is imported when it starts; what differs before that is said without it.
"""

from __future__ import annotations

import argparse
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.cli.arguments import parser_of
from tune.errors import ConfigError, Problem
from tune.run_dir import find_run, read_json, run_id, shown
from tune.talk import say
from tune.train.finished.config import read_config

if TYPE_CHECKING:
    from tune.train.finished.compared import Compared
    from tune.train.finished.differences import Difference


def reproduce(words: list[str]) -> int:
    """`tune reproduce RUN [--dry-run] [--anyway]`. Returns the exit code: 4 if it did not come out as it was."""
    parser = parser_of("reproduce", "Run a finished run again and compare.", "allow", "output")
    parser.add_argument("run", help="run folder, start of its id, SWEEP#NUMBER, or latest")
    parser.add_argument("--dry-run", action="store_true", help="say what differs from then, and stop")
    parser.add_argument("--anyway", action="store_true", help="run although the data or the first weights changed")
    asked = parser.parse_args(words)
    run_dir = find_run(asked.run, asked.output)
    config, record = read_config(run_dir, asked.allow), read_json(run_dir / "run.json")
    if config["stages"]:
        raise ConfigError(Problem(run_id(run_dir), f"is a chain; take one of its stages: {shown(run_dir / 'stage-1')}"))
    from tune.train.finished.differences import data, environment

    found = [*environment(record), *data(record, config)]
    for each in found:
        say(f"differs   {each.what}: {each.text}")
    if not found:
        say("as then   versions, git and data")
    if asked.dry_run:
        print(f"{len(found)} differences; weights and device are looked at when it runs; nothing was started")
        return _answer(asked, run_dir, "dry-run", found)
    _refuse(asked, run_dir, found)
    found += _at_start(record, config)
    for each in found:
        if each.what in ("weights", "device"):
            say(f"differs   {each.what}: {each.text}")
    _refuse(asked, run_dir, found)
    from tune.train.experiment import Job, execute
    from tune.train.finished.compared import compare

    outcome = execute(Job(config, record["overrides"], record["choices"], reproduces=run_id(run_dir)), say)
    if outcome.status != "done":
        say(f"{outcome.status}: {outcome.cause}   log: {shown(outcome.run_dir / 'run.log')}")
        return _answer(asked, run_dir, outcome.status, found, again=outcome.run_dir, code=outcome.exit_code)
    compared = compare(run_dir, outcome.run_dir)
    reason = _why_not_exact(record, found)
    outside = _outside(record, compared)
    is_same = compared.is_exact if not reason else not outside
    print("\n".join([*told(compared), *_verdict(compared, reason, outside)]))
    print(f"folder    {shown(outcome.run_dir)}")
    return _answer(asked, run_dir, "done", found, compared, outcome.run_dir, reason, 0 if is_same else 4)


def told(compared: Compared) -> list[str]:
    """What is equal, and how far apart the rest is."""
    if compared.differing:
        many, first = f"{len(compared.differing)} of {compared.tensors} tensors", compared.differing[0]
        lines = [f"weights   {many} differ, by {compared.weights:.1e} at most (the first: {first})"]
    else:
        same = "model.safetensors is the same to the bit" if len(set(compared.digests)) == 1 else "equal to the bit"
        lines = [f"weights   {same}: {compared.tensors} tensors, sha256 {compared.digests[1][:16]}"]
    apart = {name: pair for name, pair in compared.metrics.items() if pair[0] != pair[1]}
    if not apart:
        return [*lines, f"metrics   all {len(compared.metrics)} equal"]
    lines.append(f"metrics   {len(apart)} of {len(compared.metrics)} differ")
    return lines + [f"  {name:<26} {then:.6f} then, {now:.6f} now" for name, (then, now) in apart.items()]


def _verdict(compared: Compared, reason: str, outside: list[str]) -> list[str]:
    if compared.is_exact:
        return ["verdict   reproduced exactly"]
    if not reason:
        return [
            "verdict   NOT reproduced: versions, data and machine are those of then, so it should be equal to the bit"
        ]
    if outside:
        return [f"verdict   NOT reproduced ({reason}): {', '.join(outside)} outside the 95 % interval of then"]
    return [f"verdict   reproduced within the 95 % intervals of then; not to the bit, since {reason}"]


def _why_not_exact(record: dict[str, Any], found: list[Difference]) -> str:
    """Why equality to the bit cannot be asked for; empty where it can."""
    if found:
        return f"{', '.join(dict.fromkeys(each.what for each in found))} differ"
    if record["device"] != "cpu":
        return f"a {record['device']} device adds in no fixed order"
    if record.get("fused"):
        return "it trained together with other trials"
    return "" if record["host"] == socket.gethostname() else "it is another machine"


def _outside(record: dict[str, Any], compared: Compared) -> list[str]:
    """Metrics of the test part that now lie outside of the interval of then."""
    pairs = {name: compared.metrics[name][1] for name in record.get("intervals", {}) if name in compared.metrics}
    return [
        name for name, now in pairs.items() if not record["intervals"][name][0] <= now <= record["intervals"][name][1]
    ]


def _at_start(record: dict[str, Any], config: dict[str, Any]) -> list[Difference]:
    """What needs torch to be seen: the first weights, and the device."""
    import torch

    from tune.config.build import build
    from tune.train.adapt.beside import with_source
    from tune.train.devices.trainer import device_type
    from tune.train.finished.differences import Difference

    found = []
    if (device := device_type(config["trainer"])) != record["device"]:
        found.append(Difference("device", f"{record['device']} then, {device} now"))
    torch.manual_seed(config["seed"])
    digest = build(with_source(config, say)["backbone"], output=config["output"]).weights_digest
    if digest != record["weights"]["digest"]:
        text = f"{record['weights']['source']} had {record['weights']['digest'][:12]}, now {digest[:12] or 'none'}"
        found.append(Difference("weights", text))
    return found


def _refuse(asked: argparse.Namespace, run_dir: Path, found: list[Difference]) -> None:
    """Refuse to start what cannot be the same run.

    Raises:
        ConfigError: if the data or the first weights changed, unless `--anyway`.
    """
    changed = [each for each in found if each.what in ("data", "weights")]
    if changed and not asked.anyway:
        what = " and ".join(dict.fromkeys(each.what for each in changed))
        raise ConfigError(Problem(run_id(run_dir), f"the {what} changed since then; to run it all the same: --anyway"))


def _answer(
    asked: argparse.Namespace,
    run_dir: Path,
    status: str,
    found: list[Difference],
    compared: Compared | None = None,
    again: Path | None = None,
    reason: str = "",
    code: int = 0,
) -> int:
    """The JSON line, where it was asked for. Returns the exit code."""
    if asked.json:
        answer: dict[str, Any] = {
            "run_dir": str(run_dir),
            "status": status,
            "differences": [{"what": each.what, "text": each.text} for each in found],
        }
        if again is not None:
            answer["again"] = str(again)
        if compared is not None:
            answer |= {
                "exact": compared.is_exact,
                "reproduced": code == 0,
                "not_exact_since": reason,
                "weights": {"tensors": compared.tensors, "differing": len(compared.differing), "by": compared.weights},
                "metrics": {name: {"then": then, "now": now} for name, (then, now) in compared.metrics.items()},
            }
        print(json.dumps(answer))
    return code
