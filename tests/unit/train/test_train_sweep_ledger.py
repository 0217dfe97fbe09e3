from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tune.errors import ConfigError
from tune.run_dir import write_json
from tune.train.sweep.ledger import finished, ledger_key, locked, set_aside, source_digest, sweep_dir_of

CONFIG = {"lr": 0.001, "output": "outputs", "data": {"root": "x", "workers": 0}, "logger": {}, "trainer": {"max": 1}}


@pytest.mark.parametrize(
    "change",
    [
        {"output": "elsewhere"},
        {"logger": {"x": 1}},
        {"expected": {"value": 1}},
        {"data": {"root": "x", "workers": 8}},
        {"cache": {"mode": "never", "max_gb": 3, "views": None}},
    ],
)
def test_key_ignores_what_changes_no_number(change):
    assert ledger_key(CONFIG | change, "data") == ledger_key(CONFIG, "data")


def test_key_ignores_the_order_of_keys():
    assert ledger_key(dict(reversed(CONFIG.items())), "data") == ledger_key(CONFIG, "data")


@pytest.mark.parametrize(
    "change", [{"lr": 0.01}, {"data": {"root": "y", "workers": 0}}, {"trainer": {"max": 2}}, {"cache": {"views": 2}}]
)
def test_key_depends_on_what_changes_numbers(change):
    assert ledger_key(CONFIG | change, "data") != ledger_key(CONFIG, "data")


def test_key_depends_on_the_data_and_on_the_users_source():
    keys = {ledger_key(CONFIG, "a"), ledger_key(CONFIG, "b"), ledger_key(CONFIG, "a", "digest")}
    assert len(keys) == 3


def test_source_is_digested_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "sweep_user_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "losses.py").write_text("A = 1\n")
    before = source_digest(["sweep_user_package.losses"])
    whole = source_digest(["sweep_user_package"])
    (package / "losses.py").write_text("A = 2\n")
    assert source_digest(["sweep_user_package.losses"]) != before
    assert source_digest(["sweep_user_package"]) != whole
    assert "sweep_user_package" not in sys.modules


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="no_such_module"):
        source_digest(["no_such_module.losses"])


def test_the_same_command_has_the_same_folder(tmp_path: Path):
    folder = sweep_dir_of(tmp_path, "quickstart", ["+experiment=quickstart", "lr=1,2"])
    assert folder == sweep_dir_of(tmp_path, "quickstart", ["+experiment=quickstart ", "lr=1,2"])
    assert folder != sweep_dir_of(tmp_path, "quickstart", ["+experiment=quickstart", "lr=1,2,3"])
    assert folder.parent == tmp_path / "quickstart"


def test_a_locked_folder_refuses_a_second_driver_and_lets_go(tmp_path: Path):
    with (
        locked(tmp_path / "sweep-1"),
        pytest.raises(ConfigError, match="another process"),
        locked(tmp_path / "sweep-1"),
    ):
        pass
    with locked(tmp_path / "sweep-1"):
        pass


def test_only_done_trials_are_found_in_every_sweep(tmp_path: Path):
    for folder, status in (
        ("sweep-a/1", "done"),
        ("sweep-a/2", "failed"),
        ("sweep-b/1.attempt1", "done"),
        ("x/1", "done"),
    ):
        (tmp_path / folder).mkdir(parents=True)
        write_json(tmp_path / folder / "run.json", {"status": status, "ledger_key": folder})
    assert finished(tmp_path) == {name: tmp_path / name for name in ("sweep-a/1", "sweep-b/1.attempt1")}


def test_attempts_are_numbered(tmp_path: Path):
    for _ in range(2):
        (tmp_path / "3").mkdir()
        set_aside(tmp_path / "3")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3.attempt1", "3.attempt2"]
