"""Two small plugins, both inert in any other Hydra application: they act only while `ConfigTree.active()` holds.

The first puts the config folders on Hydra's search path, the user's before the shipped one. The second hands Hydra
files that `tune.config.files` has read, so that each is checked where it enters and read once.
"""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from tune.config import files


class TuneSearchPath(SearchPathPlugin):
    """Replaces Hydra's main folder by the folders of the active tree."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        folders = files.FOLDERS.get()
        if not folders:
            return
        for element in search_path.get_path():
            if element.provider == "main":
                element.path = f"tune://{folders[-1]}"
        for number, folder in enumerate(folders[:-1]):
            search_path.prepend(provider=f"user-{number}", path=f"tune://{folder}")


class TuneSource(ConfigSource):
    """A folder of YAML files, each read through `tune.config.files`."""

    @staticmethod
    def scheme() -> str:
        return "tune"

    def load_config(self, config_path: str) -> ConfigResult:
        file = files.read(self._file(config_path))
        header = {"package": file.package}
        if file.package is None and config_path.startswith("experiment/"):
            header["package"] = "_global_"
        return ConfigResult(
            config=OmegaConf.create(file.data),  # a copy: Hydra changes what it is given
            path=self.full_path(),
            provider=self.provider,
            header=header,
        )

    def available(self) -> bool:
        return Path(self.path).is_dir()

    def is_group(self, config_path: str) -> bool:
        return ".." not in config_path and (Path(self.path) / config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        return ".." not in config_path and self._file(config_path).is_file()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        found: list[str] = []
        for path in sorted((Path(self.path) / config_path).iterdir()):
            self._list_add_result(found, f"{config_path}/{path.name}", path.name, results_filter)
        return sorted(set(found))

    def _file(self, config_path: str) -> Path:
        return Path(self.path) / self._normalize_file_name(config_path)
