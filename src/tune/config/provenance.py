"""Who wrote a key: the command line, or a line of a file."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from tune.config import files
from tune.config.overrides import Change
from tune.config.tree import ConfigTree


def of_files(tree: ConfigTree, choices: tuple[str, ...]) -> Callable[[str], str]:
    """A function from a dotted key to FILE:LINE, "" for a key that no file sets.

    Follows Hydra's own defaults list; nothing is looked up before the first question.
    """

    @cache
    def layers() -> list[tuple[tuple[str, ...], files.ConfigFile]]:
        """Package and file of everything that was merged, the strongest first."""
        from hydra.core.global_hydra import GlobalHydra
        from hydra.types import RunMode

        with tree.active():
            loader = GlobalHydra.instance().config_loader()
            found = loader.compute_defaults_list("run", list(choices), RunMode.RUN).defaults
        merged = []
        for entry in reversed(found):
            path = str(entry.config_path)
            if not path.startswith("hydra/"):
                file = files.read(tree.file(*_group_and_option(path)))
                merged.append((tuple(part for part in (entry.package or "").split(".") if part), file))
        return merged

    @cache
    def origin(key: str) -> str:
        keys = tuple(key.replace("/", ".").split("."))
        for package, file in layers():
            inside = keys[len(package) :]
            if keys[: len(package)] == package and inside and inside in file.lines:
                return file.where(*inside)
        for _, file in layers():
            line = _chosen(file, key)
            if line:
                return line
        return ""

    return origin


def with_changes(changes: list[Change], below: Callable[[str], str]) -> Callable[[str], str]:
    """The same, with the command line's changes on top."""

    def origin(key: str) -> str:
        dotted = key.replace("/", ".")
        for change in reversed(changes):
            if dotted == change.target or (dotted.startswith(f"{change.target}.") and not change.is_choice):
                return change.where
            if isinstance(change.value, dict) and change.target.startswith(f"{dotted}."):
                return change.where
        return below(key)

    return origin


def place(tree: ConfigTree, config_path: str, group: str = "", option: str = "") -> str:
    """FILE:LINE of a config that Hydra names: its line of defaults about `group`, "" if it has none; else its first."""
    file = files.read(tree.file(*_group_and_option(config_path)))
    return _chosen(file, group, option) if group else file.where()


def _group_and_option(config_path: str) -> tuple[str, str]:
    group, _, option = config_path.removesuffix(".yaml").rpartition("/")
    return group, option


def _chosen(file: files.ConfigFile, group: str, option: str = "") -> str:
    """The line of a file's defaults list that chooses from a group (and that option, if one is given)."""
    defaults = file.data.get("defaults")
    for number, entry in enumerate(defaults if isinstance(defaults, list) else []):
        word, value = next(iter(entry.items())) if isinstance(entry, dict) and entry else (str(entry), str(entry))
        name = str(word).split(" ")[-1].lstrip("/")
        is_group = name in (group, option) or name.partition("@")[0] == group
        if group and is_group and option in ("", str(value)):
            return file.where("defaults", str(number))
    return ""
