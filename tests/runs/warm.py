"""`tune` in a process forked from one that has loaded torch already: what a test waits for is the run, not the imports.

Everything else is as in a process of its own: working directory, environment, streams, exit code. What starts and
dies like a user's process (kills, signals, process groups) is tested on real ones.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

PRELOAD = ["tune.cli.run", "tune.train.experiment", "tune.train.fused.run", "tune.evaluate.loaded"]


class Warm:
    """One server, started when it is first needed."""

    def __init__(self) -> None:
        self.server: subprocess.Popen[str] | None = None

    def __call__(self, words: list[str], cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        if self.server is None:
            command = [sys.executable, str(Path(__file__))]
            self.server = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, start_new_session=True
            )
        assert self.server.stdin
        assert self.server.stdout
        with tempfile.TemporaryDirectory() as folder:
            order = {"words": words, "cwd": str(cwd), "env": env, "folder": folder}
            self.server.stdin.write(json.dumps(order) + "\n")
            self.server.stdin.flush()
            code = int(self.server.stdout.readline())
            out, err = ((Path(folder) / name).read_text() for name in ("out", "err"))
        return subprocess.CompletedProcess(words, code, out, err)

    def close(self) -> None:
        if self.server is not None:
            assert self.server.stdin
            assert self.server.stdout
            self.server.stdin.close()
            self.server.wait()
            self.server.stdout.close()


def serve() -> None:
    for name in PRELOAD:
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            work(order)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def work(order: dict) -> None:
    """The child: becomes `tune WORDS` and ends with its exit code."""
    from tune.cli.main import entry

    code = 1
    try:
        signal.alarm(300)
        os.chdir(order["cwd"])
        os.environ.clear()
        os.environ.update(order["env"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in enumerate(("out", "err"), start=1):
            os.dup2(os.open(Path(order["folder"]) / name, os.O_WRONLY | os.O_CREAT), number)
        sys.argv[:] = ["tune", *order["words"]]
        sys.path[0] = order["cwd"]
        code = entry()
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else 1
    except Exception:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
