from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tune.cli.main import main
from warm import WARM, warm_sweeps

__all__ = ["warm_sweeps"]

TINY = ["data=synthetic", "data.rows=60", "backbone.input_size=32", "epochs=2", "batch_size=16"]


class Tune:
    """The real command line, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run `tune WORDS` and check its exit code (None: do not)."""
        done = WARM(list(words), self.folder, self.env)
        if code is not None:
            assert done.returncode == code, f"{words}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start `tune WORDS` in a process group of its own and do not wait."""
        command = [sys.executable, "-m", "tune", *words]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.env,
            start_new_session=True,
        )

    @property
    def env(self) -> dict[str, str]:
        # One thread: networks this small gain nothing from two, and lose much where other work shares the cores.
        cache = str(self.folder / "cache")
        return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": cache}

    def runs(self) -> list[Path]:
        """Folders of single runs, oldest first."""
        return sorted(path.parent for path in self.folder.glob("outputs/*/*/run.json"))


@pytest.fixture(scope="session")
def tune_in() -> type[Tune]:
    """`tune_in(folder)` is the command line in that folder, for fixtures that several tests share."""
    return Tune


@pytest.fixture
def tune(tmp_path) -> Tune:
    return Tune(tmp_path)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """For runs in this process that several tests share: the working folder, and a cache in it."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def trained(workplace):
    """`trained(words)` is the folder of a run below it, trained once."""
    known: dict[tuple[str, ...], Path] = {}

    def train(*words: str) -> Path:
        if words not in known:
            before = set(Path("outputs").glob("*/*"))
            assert main(["run", *words]) == 0
            known[words] = (set(Path("outputs").glob("*/*")) - before).pop()
        return known[words]

    return train


@pytest.fixture
def tiny() -> list[str]:
    """Overrides that make a run of about a second."""
    return list(TINY)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """For runs in this process: an empty folder, and an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
