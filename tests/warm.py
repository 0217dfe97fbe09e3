"""Processes forked from one that has loaded torch already: what a test waits for is the run, not the imports.

Everything else is as in a process of its own: working directory, environment, streams, exit code. `tune WORDS` starts
so, and so does the process that forks the trials of a sweep. What starts and dies like a user's process (kills,
signals, process groups) is tested on real ones.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import BinaryIO, NoReturn

import pytest

PRELOAD = ["tune.cli.run", "tune.train.experiment", "tune.train.fused.run", "tune.evaluate.loaded"]
SWEEPS = "tune.train.sweep.processes"


class Warm:
    """One server, started when it is first needed, unless it listens already."""

    def __init__(self, address: str = "") -> None:
        self.address = address

    def __call__(self, words: list[str], cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run `tune WORDS` in a folder."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            done = self._fork({"words": words, "cwd": str(cwd), "env": env}, [out.fileno(), err.fileno()])
            code = done.wait()
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(words, code, out.read().decode(), err.read().decode())

    def start_server(self, link: socket.socket, env: dict[str, str], log: BinaryIO) -> Forked:
        """Stands for the function of this name in `tune.train.sweep.processes`."""
        order = {"words": None, "cwd": str(Path.cwd()), "env": env}
        return self._fork(order, [log.fileno(), log.fileno(), link.fileno()])

    def _fork(self, order: dict, handles: list[int]) -> Forked:
        if not self.address:
            self._start()
        return Forked(self.address, order, handles)

    def _start(self) -> None:
        folder = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, folder)
        self.address = str(Path(folder) / "warm")
        command = [sys.executable, str(Path(__file__)), self.address]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        atexit.register(server.communicate)  # it ends when its standard input closes
        assert server.stdout
        assert server.stdout.readline() == b"ready\n"


WARM = Warm()


@pytest.fixture(autouse=True, scope="module")
def warm_sweeps():
    """Sweeps that a test starts in its own process get a warm server too; a conftest.py takes this in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{SWEEPS}.start_server", WARM.start_server)
        yield


class Forked:
    """What it starts; of `subprocess.Popen` what is asked of one."""

    def __init__(self, address: str, order: dict, handles: list[int]) -> None:
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link.connect(address)
        socket.send_fds(self.link, [json.dumps(order).encode()], handles)
        self.pid = int(self.link.recv(64))

    def wait(self, timeout: float | None = None) -> int:
        self.link.settimeout(timeout)
        try:
            code = int(self.link.recv(64))
        except TimeoutError:
            raise subprocess.TimeoutExpired("warm", timeout or 0) from None
        self.link.close()
        return code

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def serve(address: str) -> None:
    """Fork what is asked for, until standard input closes."""
    for name in PRELOAD:
        importlib.import_module(name)
    importlib.import_module(SWEEPS).start_server = Warm(address).start_server
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing is left of a child that ends
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([sys.stdin, listener], [], [])
        if sys.stdin in ready:
            return
        link, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            keep(link)
        link.close()


def keep(link: socket.socket) -> NoReturn:
    """Fork the process that was asked for, and tell its id and its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, handles, _, _ = socket.recv_fds(link, 1 << 18, 8)
    child = os.fork()
    if child == 0:
        link.close()
        become(json.loads(message), handles)
    for handle in handles:
        os.close(handle)
    link.send(str(child).encode())
    _, status = os.waitpid(child, 0)
    try:
        link.send(str(os.waitstatus_to_exitcode(status)).encode())
    finally:
        os._exit(0)


def become(order: dict, handles: list[int]) -> NoReturn:
    """The child: is `tune WORDS`, or the process that forks trials, and ends with its exit code."""
    from tune.cli.main import entry
    from tune.train.sweep import server

    code = 1
    try:
        os.setsid()
        os.chdir(order["cwd"])
        os.environ.clear()
        os.environ.update(order["env"])
        for number, handle in enumerate([os.open(os.devnull, os.O_RDONLY), *handles[:2]]):
            os.dup2(handle, number)
        sys.path[0] = order["cwd"]
        if order["words"] is None:
            sys.argv[:] = ["-c", str(handles[2])]
            server.main()
        signal.alarm(300)
        sys.argv[:] = ["tune", *order["words"]]
        code = entry()
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
