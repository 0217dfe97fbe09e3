"""Trials as processes: started through the server, watched, reported when they end. The driver's end of the socket."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from tune.errors import RunError
from tune.train.sweep.causes import cause_of_end

_SERVE = "from tune.train.sweep.server import main; main()"


@dataclass(frozen=True)
class Ended:
    """How the process of a trial ended.

    Args:
        number: of the trial.
        code: exit code, None when a signal ended it.
        cause: in words, what it raised or how it was ended; says "ended without a result" for a plain exit.
        timed_out: it was ended because its time was over.
        seconds: from its fork to its end.
    """

    number: int
    code: int | None
    cause: str
    timed_out: bool
    seconds: float


class Processes:
    """Starts one process per trial. The server behind it starts with the first, and again if it is killed.

    Use as a context manager: leaving it ends whatever still runs.

    Args:
        target: the trial function, "module:function"; called with the job in the trial's process, gives its exit code.
        preload: modules that the server imports before the first trial. One that fails there is left to the trials.
        threads: threads of each trial.
        log: file for what the server itself has to say.
    """

    def __init__(self, target: str, preload: list[str], threads: int, log: Path) -> None:
        self.target = target
        self.preload = preload
        self.threads = threads
        self.log = log
        self.running: dict[int, _Started] = {}
        self._server: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._received = b""
        self._is_ready = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(
        self,
        number: int,
        job: dict[str, Any],
        log: Path,
        *,
        env: dict[str, str],
        limit_s: float | None,
        grace_s: float,
    ) -> None:
        """Start a trial whose output goes to the end of `log`; SIGTERM comes at `limit_s`, SIGKILL `grace_s` later."""
        if self._link is None:
            self._open()
        self.running[number] = _Started(time.monotonic())
        order = {"number": number, "job": job, "log": str(log), "env": env, "limit_s": limit_s, "grace_s": grace_s}
        self._send(do="start", **order)

    def wait(self, timeout_s: float | None = None) -> list[Ended]:
        """Wait until a trial ends, and return those that did; an empty list when the time is over.

        Raises:
            RunError: if the server ends before it could start any trial.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while self._link is not None and self.running:
            left = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([self._link], [], [], left)[0]:
                return []
            if ended := self._receive():
                return ended
        return []

    def stop(self, grace_s: float) -> None:
        """Ask every running trial to save and end (SIGINT); it is killed after `grace_s` seconds."""
        if self._link is not None:
            self._send(do="stop", grace_s=grace_s)

    def close(self) -> None:
        """End every trial and the server. Returns when they are gone."""
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._server is not None:
            try:
                self._server.wait(timeout=30)  # it kills the trials when our end of the socket closes
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
                self._kill_groups()
            self._server = None
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size == 0:
                self.log.unlink()

    def _open(self) -> None:
        ours, theirs = socket.socketpair()
        threads = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        # macOS ends a forked child that touches a framework which the server had loaded, unless told not to.
        macos = {"OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES"} if sys.platform == "darwin" else {}
        # With NVML torch counts GPUs without opening one, which no forked child would survive.
        env = os.environ | threads | macos | {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
        with theirs, self.log.open("ab") as log:
            self._server = start_server(theirs, env, log)
        self._link, self._received, self._is_ready = ours, b"", False
        self._send(do="setup", target=self.target, preload=self.preload, sys_path=sys.path, argv=sys.argv)

    def _send(self, **order: Any) -> None:
        assert self._link is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the next wait() sees that the server is gone
            self._link.sendall(json.dumps(order).encode() + b"\n")

    def _receive(self) -> list[Ended]:
        assert self._link is not None
        try:
            data = self._link.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            return self._lose_server()
        *lines, self._received = (self._received + data).split(b"\n")
        ended = []
        for event in map(json.loads, lines):
            if event["event"] == "ready":
                self._is_ready = True
            elif event["event"] == "started":
                self.running[event["number"]].pid = event["pid"]
            else:
                del self.running[event["number"]]
                cause = event["cause"] or cause_of_end(event["code"], event["signal"], event["limit_s"])
                if event["limit_s"] is not None:  # what it raised then is only how it took the SIGTERM
                    cause = cause_of_end(None, None, event["limit_s"])
                timed_out = event["limit_s"] is not None
                ended.append(Ended(event["number"], event["code"], cause, timed_out, event["seconds"]))
        return ended

    def _lose_server(self) -> list[Ended]:
        """The server is gone: its guard kills the trials, and so do we. They count as killed."""
        lost, was_ready = dict(self.running), self._is_ready
        self._kill_groups()
        self.close()
        self.running.clear()
        if not was_ready:
            raise RunError(f"the process that starts the trials ended before it was ready. Log: {self.log}")
        cause = "killed by SIGKILL, together with the process that starts the trials"
        return [Ended(number, None, cause, False, time.monotonic() - trial.at) for number, trial in lost.items()]

    def _kill_groups(self) -> None:
        for trial in self.running.values():
            if trial.pid is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(trial.pid, signal.SIGKILL)


def start_server(link: socket.socket, env: dict[str, str], log: BinaryIO) -> subprocess.Popen[bytes]:
    """Start the process that forks the trials, with its end of the socket; what it says goes to the end of `log`."""
    return subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(link.fileno())],
        pass_fds=[link.fileno()],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # a Ctrl-C in the terminal reaches the driver alone
    )


@dataclass
class _Started:
    at: float
    pid: int | None = None


class Terminated(KeyboardInterrupt):
    """SIGTERM, taken like Ctrl-C."""


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM raises `Terminated` within, where the main thread can hear it."""

    def interrupt(*_: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
