"""Where configs lie and what there is to choose from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tune.config import files
from tune.errors import ConfigError, Problem


class ConfigTree:
    """The config folders, in the order they are searched: the user's own, then the shipped one.

    Args:
        config_dir: the user's folder; by default `conf` below the working directory, if there is one.
        shipped: the folder that comes with tune.

    Raises:
        ConfigError: if a folder that was named does not exist.
    """

    def __init__(self, config_dir: Path | str | None = None, shipped: Path | None = None) -> None:
        own = Path.cwd() / "conf" if config_dir is None else Path(config_dir).absolute()
        if config_dir is not None and not own.is_dir():
            raise ConfigError(Problem("--config-dir", f"there is no folder {own}", "command line"))
        self.shipped = (shipped or _shipped()).absolute()
        is_own = own.is_dir() and own.resolve() != self.shipped.resolve()
        self.folders = (own, self.shipped) if is_own else (self.shipped,)

    @classmethod
    def find(cls, config_dir: Path | str | None = None) -> ConfigTree:
        """The tree that a command works on: `--config-dir` or ./conf, then the shipped one."""
        return cls(config_dir)

    def groups(self) -> list[str]:
        """Names of all groups, without `experiment`."""
        found = {path.name for folder in self.folders for path in folder.iterdir() if path.is_dir()}
        return sorted(name for name in found - {"experiment"} if self.options(name))

    def options(self, group: str) -> list[str]:
        """Names that `group=` may take; those in subfolders as `folder/name`."""
        found: set[str] = set()
        for folder in self.folders:
            for path in (folder / group).rglob("*.yaml"):
                found.add(path.relative_to(folder / group).with_suffix("").as_posix())
        return sorted(found)

    def experiments(self) -> list[str]:
        """Names that `experiment=` may take."""
        return self.options("experiment")

    def groups_of_run(self) -> list[str]:
        """Groups that the shipped run.yaml chooses from; every run has an option of each."""
        return list(_defaults(self.shipped / "run.yaml"))

    def defaults(self) -> dict[str, str]:
        """The option of each group that a run has when nobody chooses another."""
        return _defaults(self.file("", "run"))

    def is_group(self, group: str) -> bool:
        """Whether there is a folder of options of that name; `data/target` is a group below `data`."""
        parts = group.split("/")
        return ".." not in parts and any((folder / group).is_dir() for folder in self.folders if all(parts))

    def file(self, group: str, option: str) -> Path:
        """The YAML of an option, the user's own before the shipped one; group "" holds run.yaml.

        Raises:
            ConfigError: if there is none.
        """
        for folder in self.folders:
            path = folder / group / f"{option}.yaml"
            if path.is_file():
                return path
        looked = ", ".join(files.shown(folder / group) for folder in self.folders)
        raise ConfigError(Problem(group, f"there is no {option}; looked in {looked}"))

    def sentence(self, group: str, option: str) -> str:
        """What an option says about itself: its first comment."""
        return files.sentence(self.file(group, option))

    def shadows(self, group: str, option: str) -> bool:
        """Whether the user's file of that option stands before a shipped one that says something else."""
        files_of_it = [folder / group / f"{option}.yaml" for folder in self.folders]
        return all(path.is_file() for path in files_of_it) and len({path.read_bytes() for path in files_of_it}) > 1

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let Hydra work on this tree, beside whatever Hydra does elsewhere in the process."""
        from hydra import initialize_config_dir
        from hydra.core.global_hydra import GlobalHydra

        token = files.FOLDERS.set(self.folders)
        outer = GlobalHydra.instance().hydra
        GlobalHydra.instance().hydra = None
        try:
            with initialize_config_dir(config_dir=str(self.shipped), job_name="tune", version_base="1.3"):
                yield
        finally:
            GlobalHydra.instance().hydra = outer
            files.FOLDERS.reset(token)


def locate(path: Path) -> tuple[Path, str, str]:
    """The config folder, the group and the option that a YAML file stands for, by where it lies.

    Raises:
        ConfigError: if it lies in no folder of a group.
    """
    path = path.absolute()
    groups = {"experiment", *ConfigTree().groups_of_run()}
    for depth in range(len(path.parts) - 2, 0, -1):
        if path.parts[depth] in groups:
            root = Path(*path.parts[:depth])
            return root, path.parts[depth], path.relative_to(root / path.parts[depth]).with_suffix("").as_posix()
    raise ConfigError(
        Problem(files.shown(path), "lies in no config folder: move it to conf/experiment/", "command line")
    )


def _defaults(run_yaml: Path) -> dict[str, str]:
    entries = files.read(run_yaml).data.get("defaults")
    pairs = (
        [next(iter(each.items())) for each in entries if isinstance(each, dict) and each]
        if isinstance(entries, list)
        else []
    )
    return {str(group).split(" ")[-1]: str(option) for group, option in pairs}


def _shipped() -> Path:
    """The folder `conf`: inside the package when installed, beside `src` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package / "conf" if (package / "conf").is_dir() else package.parents[1] / "conf"
