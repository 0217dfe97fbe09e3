"""Who wrote a key: the command line, or a line of a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from omegaconf.errors import ConfigTypeError

from tune.config import files
from tune.config.overrides import Change
from tune.config.tree import ConfigTree
from tune.errors import ConfigError, Problem


@dataclass(frozen=True)
class Written:
    """What one place says of a key.

    Args:
        value: the value, or the option of a group; may hold `${…}`.
        where: "command line", or FILE:LINE.
    """

    value: Any
    where: str


class Origin:
    """Who wrote a key: called with a dotted key it says "command line", FILE:LINE, or "" for nobody.

    Args:
        below: the files.
        changes: of the command line; they stand on top.
    """

    def __init__(self, below: Layers, changes: Sequence[Change]) -> None:
        self.below, self.changes = below, tuple(changes)

    def __call__(self, key: str) -> str:
        dotted = key.replace("/", ".")
        for change in reversed(self.changes):
            if dotted == change.target or (dotted.startswith(f"{change.target}.") and not change.is_choice):
                return change.where
            if isinstance(change.value, dict) and change.target.startswith(f"{dotted}."):
                return change.where
        return self.below.where(dotted)

    def written(self, key: str) -> list[Written]:
        """Every place that says something of a key, the strongest first; what lies below a mapping is not merged."""
        keys, found = tuple(key.split(".")), []
        for data, inside, where in self._places(keys):
            value, left = _descend(data, inside)
            if not left:
                found.append(Written(value, where))
            elif not isinstance(value, dict):
                break  # a list or a number stands there, and takes the place of whatever is below
        return found

    def _places(self, keys: tuple[str, ...]) -> Iterator[tuple[Any, tuple[str, ...], str]]:
        """What may hold a key, the strongest first: content, the keys inside it, and where it stands."""
        for change in reversed(self.changes):
            target = tuple(change.target.split("."))
            if not change.is_choice and keys[: len(target)] == target:
                yield change.value, keys[len(target) :], change.where
        for package, file in self.below.merged:
            inside = keys[len(package) :]
            if keys[: len(package)] == package and inside:
                yield file.data, inside, file.where(*inside)

    def chosen(self, group: str, option: str) -> list[Written]:
        """Every place that chooses from a group, those that chose `option` first."""
        found = [
            Written(str(change.value).removesuffix(".yaml"), change.where)
            for change in reversed(self.changes)
            if change.is_choice and change.key == group
        ]
        for _, file in self.below.merged:
            for number, name, value in _defaults(file):
                if name == group:
                    found.append(Written(value, file.where("defaults", str(number))))
        return sorted(found, key=lambda each: each.value != option)


class Layers:
    """The files that a config was composed of.

    Args:
        merged: package and file of each, the strongest first.
    """

    def __init__(self, merged: list[tuple[tuple[str, ...], files.ConfigFile]]) -> None:
        self.merged = merged
        self._known: dict[str, str] = {}

    @classmethod
    def of(cls, tree: ConfigTree, choices: tuple[str, ...]) -> tuple[Layers, dict[str, str]]:
        """The files by Hydra's own defaults list, and the option of each group.

        Raises:
            hydra.errors.HydraException: and others of Hydra's and OmegaConf's, if the files do not fit together.
        """
        with tree.active():
            loader: Any = GlobalHydra.instance().config_loader()
            repository = CachingConfigRepository(loader.repository)
            words = OverridesParser.create().parse_overrides(list(choices))
            found = create_defaults_list(repository, "run", words, prepend_hydra=False, skip_missing=False)
        merged = []
        for entry in reversed(found.defaults):
            file = files.read(tree.file(*_group_and_option(str(entry.config_path))))
            merged.append((tuple(part for part in (entry.package or "").split(".") if part), file))
        return cls(merged), {str(group): str(option) for group, option in found.overrides.known_choices.items()}

    def together(self) -> dict[str, Any]:
        """What the files say, one upon the other; values may hold `${…}`.

        Raises:
            ConfigError: if a list meets a mapping.
            omegaconf.errors.OmegaConfBaseException: if a `${…}` is none.
        """
        whole = OmegaConf.create()
        for package, file in reversed(self.merged):
            data = {key: value for key, value in file.data.items() if key != "defaults"}
            try:
                whole.merge_with(_below(package, data))
            except ConfigTypeError as error:
                raise ConfigError(_clash(whole, package, data, file)) from error
        found: Any = OmegaConf.to_container(whole, resolve=False)
        return found

    def where(self, dotted: str) -> str:
        """FILE:LINE that sets a key or chooses from a group, "" if there is none."""
        if dotted not in self._known:
            keys = tuple(dotted.split("."))
            found = [_set(file, package, keys) for package, file in self.merged]
            found += [_chosen(file, dotted) for _, file in self.merged]
            self._known[dotted] = next(filter(None, found), "")
        return self._known[dotted]


def _below(keys: tuple[Any, ...], value: Any) -> Any:
    for key in reversed(keys):
        value = {key: value}
    return value


def _clash(whole: Any, package: tuple[str, ...], data: dict[str, Any], file: files.ConfigFile) -> Problem:
    """What to say of a list that meets a mapping: the first such key of a file."""
    for key, value in data.items():
        try:
            OmegaConf.merge(whole, _below((*package, key), value))
        except ConfigTypeError:
            break
    text = "has a list where other files have a mapping, or a mapping where they have a list"
    return Problem(".".join((*package, str(key))), text, file.where(str(key)))


def place(tree: ConfigTree, config_path: str, group: str = "", option: str = "") -> str:
    """FILE:LINE of a config that Hydra names: its line of defaults about `group`, "" if it has none; else its first."""
    file = files.read(tree.file(*_group_and_option(config_path)))
    return _chosen(file, group, option) if group else file.where()


def _group_and_option(config_path: str) -> tuple[str, str]:
    group, _, option = config_path.removesuffix(".yaml").rpartition("/")
    return group, option


def _set(file: files.ConfigFile, package: tuple[str, ...], keys: tuple[str, ...]) -> str:
    """The line that sets a key, "" if the file has none."""
    inside = keys[len(package) :]
    is_there = keys[: len(package)] == package and inside and inside in file.lines
    return file.where(*inside) if is_there else ""


def _chosen(file: files.ConfigFile, group: str, option: str = "") -> str:
    """The line of a file's defaults list that chooses from a group (and that option, if one is given)."""
    for number, name, value in _defaults(file):
        is_group = name in (group, option) or name.partition("@")[0] == group
        if group and is_group and option in ("", value):
            return file.where("defaults", str(number))
    return ""


def _defaults(file: files.ConfigFile) -> Iterator[tuple[int, str, str]]:
    """Number, group and option of each entry of a defaults list; of a plain name, that name twice."""
    defaults = file.data.get("defaults")
    for number, entry in enumerate(defaults if isinstance(defaults, list) else []):
        word, value = next(iter(entry.items())) if isinstance(entry, dict) and entry else (str(entry), str(entry))
        yield number, str(word).split(" ")[-1].lstrip("/"), str(value)


def _descend(value: Any, keys: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """As far below a value as its keys go, and the keys that are left."""
    for number, key in enumerate(keys):
        items = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else {}
        inner = {str(name): item for name, item in items.items()}
        if key not in inner:
            return value, keys[number:]
        value = inner[key]
    return value, ()
