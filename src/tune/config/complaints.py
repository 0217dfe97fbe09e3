"""What to say when a config cannot be composed: the key, who wrote it, and the nearest thing that would work."""

from __future__ import annotations

import re

from tune.config import files, provenance
from tune.config.habits import nearest
from tune.config.overrides import Axis, Change
from tune.config.tree import ConfigTree
from tune.errors import ConfigError, Problem


def needs_multirun(axis: Axis) -> Problem:
    """What to say of several values for one run."""
    change = axis.changes[0]
    values = ",".join(each.text.partition("=")[2] for each in axis.changes)
    quoted = f"'{change.key}=\"{values}\"'"
    text = f"{values} is several values: give one, or use -m of tune run to run each. Quote it if it is one: {quoted}"
    return Problem(change.key, text, change.where)


def wrong_choice(tree: ConfigTree, change: Change) -> Problem | None:
    """What to say of a choice of the command line that the tree does not hold, None if it does."""
    if change.sign == "~":
        return None
    if change.value is None:
        return Problem(change.group, f"cannot be left out: choose with {change.group}=OPTION", change.where)
    if not tree.is_group(change.group):
        close = nearest(change.group, [*tree.groups(), "experiment"])
        hint = f" Did you mean {close[0]}?" if close else f" There are: {', '.join([*tree.groups(), 'experiment'])}"
        return Problem(change.group, f"is no group of options.{hint}", change.where)
    if isinstance(change.value, list):
        return Problem(change.group, "takes one option; to try several: -m, and commas without brackets", change.where)
    if str(change.value).removesuffix(".yaml") not in tree.options(change.group):
        return Problem(change.group, no_option(tree, change.group, str(change.value)), change.where)
    return None


def no_option(tree: ConfigTree, group: str, option: str) -> str:
    """What to say when a group has no such option: the nearest ones, and where they were looked for."""
    options = tree.options(group)
    close = nearest(option, options)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(options) or 'none'}."
    return (
        f"no option is called {option!r}. {hint}  Looked in {', '.join(files.shown(f / group) for f in tree.folders)}"
    )


def from_hydra(tree: ConfigTree, choices: tuple[str, ...], error: Exception) -> Problem:
    """Hydra's complaint about files that do not fit together, as one of ours with file and line."""
    text = str(error.__cause__ or error).strip()
    found = re.search(r"In '([^']+)'", text)
    parent = found[1].removesuffix(".yaml") if found else "run"
    lost = re.search(r"Could not (?:find|load|override) '([^']+)'", text)
    first = re.sub(r"^In '[^']+': ", "", text.splitlines()[0])
    if lost is None:
        return Problem(parent, first, _place(tree, choices, parent))
    group, _, option = lost[1].rpartition("/")
    if "override" in lost[0]:
        known = sorted(set(tree.defaults()))
        close = nearest(lost[1], known)
        hint = f" Did you mean {close[0]}?" if close else f" There are: {', '.join(known)}"
        return Problem(lost[1], f"is no group of the run.{hint}", _place(tree, choices, parent, lost[1]))
    while "/" in group and not tree.is_group(group):
        group, _, folder = group.rpartition("/")
        option = f"{folder}/{option}"
    if group.startswith("experiment/"):
        group, option = "experiment", f"{group.removeprefix('experiment/')}/{option}"
    return Problem(group, no_option(tree, group, option), _place(tree, choices, parent, group, option))


def _place(tree: ConfigTree, choices: tuple[str, ...], parent: str, group: str = "", option: str = "") -> str:
    """FILE:LINE of what Hydra complains about; it often blames run.yaml for what an experiment says."""
    chosen = [word.lstrip("+").replace("=", "/") for word in choices if word.lstrip("+").startswith("experiment=")]
    for config_path in [*chosen, parent] if group else [parent]:
        try:
            found = provenance.place(tree, config_path, group, option)
        except ConfigError:
            continue
        if found:
            return found
    return provenance.place(tree, parent) or ""
