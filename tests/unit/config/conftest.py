from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tune.config.check import check
from tune.config.compose import ConfigTree, compose, expand


class Project:
    """A user's folder: files are written into it, commands are composed and checked from it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, **files: str) -> None:
        """experiment__mine="…" writes conf/experiment/mine.yaml."""
        for name, text in files.items():
            self.file(f"conf/{name.replace('__', '/')}.yaml", text)

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"))
        return path

    def compose(self, *words: str):
        return compose(ConfigTree(), list(words))

    def expand(self, *words: str):
        return expand(ConfigTree(), list(words))

    def problems(self, *words: str, allow: tuple[str, ...] = ()):
        return check(self.compose(*words), ConfigTree(), allow)

    def told(self, *words: str, allow: tuple[str, ...] = ()) -> dict[str, str]:
        """Text of every problem by its key."""
        return {problem.key: problem.text for problem in self.problems(*words, allow=allow)}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)
