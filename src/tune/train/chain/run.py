"""A chain from its config to its report: every part is an ordinary run; what is done already is not run again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.config.across.stages import WEIGHTS
from tune.errors import ConfigError, Problem, RunError
from tune.models.interface import FittedHead
from tune.run_dir import atomic_write, process_identity, read_json, write_yaml
from tune.train.adapt.beside import before_training
from tune.train.callbacks.loggers import run_log
from tune.train.chain.overlap import seen_before
from tune.train.chain.parts import DONE, MISSING, RESUMED, Part, make_room, parts_of, plan, take_over
from tune.train.chain.report import beside_metrics, report
from tune.train.devices.trainer import world_size
from tune.train.interrupt import interruptible
from tune.train.prepare import prepare
from tune.train.record import Record, masked
from tune.train.sweep.ledger import locked

if TYPE_CHECKING:
    from tune.train.experiment import Job, Outcome

Say = Callable[[str], None]
LOG = logging.getLogger("tune")
_OF_THE_LAST = ("model.yaml", "model.safetensors", "predictions", "pictures")


def run_chain(job: Job, say: Say) -> Outcome:
    """Run what is missing of a chain, in `job.run_dir`.

    Its run.json has the result of the last stage, and `chain` (see `report`). Beside it stand the last stage's model
    and predictions, so that a chain is used like a run.

    Raises:
        ConfigError: if a part cannot start, as far as that can be seen before the first one does; or another process
            runs this chain.
    """
    from tune.train.experiment import outcome_of
    from tune.train.interrupt import judge

    folder = Path(job.run_dir)
    parts = parts_of(job.config, folder)
    if job.record:
        take_over(parts, folder, job.record["ledger_key"])
    states = plan(parts)
    missing = [part for part in parts if states[part.name] != DONE]
    if not missing and (folder / "run.json").is_file() and read_json(folder / "run.json")["status"] == "done":
        say(f"chain     nothing is missing in {folder}")
        return outcome_of(folder)
    _refuse(missing, len(job.config["stages"]))
    seen = seen_before([stage["config"] for stage in job.config["stages"]])
    if seen:
        say(f"warning   {seen} images that validate or test the last stage train an earlier one, which flatters it")
    with locked(folder, "chain"):
        facts = {
            "name": job.config["name"],
            "overrides": job.overrides,
            "choices": job.choices,
            "objective": job.config["objective"],
            "seed": job.config["seed"],
            "seen_before": seen,
            **job.record,
        }
        record = Record(folder, facts)
        write_yaml(folder / "config.yaml", masked(job.config))
        atomic_write(folder / "overrides.txt", "".join(f"{word}\n" for word in job.overrides))
        record.start()
        with run_log(folder, echo=bool(job.record)), interruptible():
            try:
                _run(job, parts, states, record, say)
            except BaseException as error:
                status, code, cause = judge(error)
                LOG.error("the chain ended: %s", cause, exc_info=error)
                record.end(status, code, cause, chain=report(parts), seconds=_seconds(parts))
    return outcome_of(folder)


def check_parts(parts: list[Part], *, decode: bool) -> list[tuple[Part, Any]]:
    """Prepare one part of each stage, as it would start outside the chain: the weights of the others are not there yet.

    Args:
        parts: of a chain; of those with one config the first is taken.
        decode: whether every image is decoded once, to find the bad ones.

    Returns:
        The stages' parts, and what `prepare` made of them.

    Raises:
        ConfigError: if a stage cannot start.
    """
    first = {part.stage: part for part in reversed(parts)}
    prepared: list[tuple[Part, Any]] = []
    for number in sorted(first):
        part = first[number]
        if world_size(part.config["trainer"]) > 1:
            raise ConfigError(Problem("trainer.devices", "the stages of a chain run in one process: set it to 1"))
        try:
            made = prepare(before_training(part.own)[0], decode=decode)
        except ConfigError as error:
            texts = [Problem(f"stage {number}: {each.key}", each.text, each.where) for each in error.problems]
            raise ConfigError(*texts) from error
        prepared.append((part, made))
    return prepared


def _refuse(missing: list[Part], last: int) -> None:
    """Look at what is to run before any of it does.

    Args:
        missing: parts that are not done.
        last: number of the last stage.

    Raises:
        ConfigError: if a stage cannot start, passes nothing on, or has another backbone than the one before.
    """
    shapes: dict[str, Any] = {}
    for part, made in check_parts(missing, decode=True):
        key = f"stage {part.stage}: backbone"
        now = {name: tuple(tensor.shape) for name, tensor in made.network.backbone.state_dict().items()}
        if shapes and now != shapes:
            text = "is another network than in the stage before, whose weights it could not take. Keep one backbone"
            raise ConfigError(Problem(key, text))
        shapes = now
        is_still = isinstance(made.network.head, FittedHead) or not any(p.trained - {"head"} for p in made.phases)
        if part.is_stage and is_still and made.plan.norm == "eval" and part.stage < last:
            text = "trains the head alone, so that nothing is passed on to the next stage: freeze=mid or freeze=full"
            raise ConfigError(Problem(f"stage {part.stage}: freeze", text))


def _run(job: Job, parts: list[Part], states: dict[str, str], record: Record, say: Say) -> None:
    """Run the parts in turn, and write how the chain ended."""
    from tune.train.experiment import Job, execute

    folder = record.run_dir
    number = sum(part.is_stage for part in parts)
    for part in parts:
        about = f"chain     {part.title}" + (f" of {number}" if part.is_stage else "")
        if states[part.name] == DONE:
            say(f"{about}: done before   {part.folder}")
            continue
        say(f"{about}   {' '.join(part.words)}")
        if states[part.name] == MISSING:
            make_room(part)
        words = [*job.overrides, *part.words, "stages=[]"]
        weights = part.config["backbone"].get("weights")
        if weights != job.config["stages"][part.stage - 1]["config"]["backbone"].get("weights"):
            words.append(f"{WEIGHTS}={weights}")
        resume = states[part.name] == RESUMED
        config = {**part.config, "pictures": part.config["pictures"] and not job.record}  # a trial has none
        try:
            outcome = execute(Job(config, words, part.choices, str(part.folder), resume), say)
        except ConfigError as error:  # what only the weights of the stage before can tell
            raise RunError(f"{part.title} failed: {error}") from error
        if outcome.status != "done":
            cause = f"{part.title} {outcome.status}: {outcome.cause}"
            LOG.error(cause)
            record.end(outcome.status, outcome.exit_code, cause, chain=report(parts), seconds=_seconds(parts))
            return
    last = next(part for part in reversed(parts) if part.is_stage)
    _take_result(last, folder)
    result = read_json(last.folder / "run.json")
    told = report(parts)
    metrics = {**result["metrics"], **beside_metrics(told)}
    ours = record.facts.keys() | process_identity().keys()
    kept = {key: value for key, value in result.items() if key not in ours}
    if job.record:
        for part in parts:
            for path in (part.folder / "checkpoints").glob("*.ckpt"):
                path.unlink()  # as every trial that is done
    record.end(**{**kept, "metrics": metrics, "chain": told, "seconds": _seconds(parts)})


def _seconds(parts: list[Part]) -> float:
    return round(sum((part.record() or {}).get("seconds") or 0.0 for part in parts), 3)


def _take_result(last: Part, folder: Path) -> None:
    """Put the last stage's model, predictions and pictures into the chain's folder."""
    for name in _OF_THE_LAST:
        path = last.folder / name
        files = sorted(path.iterdir()) if path.is_dir() else [path] if path.exists() else []
        for file in files:
            (folder / file.relative_to(last.folder)).parent.mkdir(exist_ok=True)
            atomic_write(folder / file.relative_to(last.folder), file.read_bytes())
