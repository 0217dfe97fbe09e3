"""The process that forks the trials: it imports torch once, so that a trial starts in milliseconds.

Started by `processes.Processes`, with one socket to the driver (JSON lines). It never touches a device: CUDA does
not survive a fork. Three deaths must leave no process behind, whatever a trial is doing:

- the driver's: the server reads end-of-file and kills every trial's process group;
- the server's: a guard, forked before anything else, reads end-of-file on its pipe and does the same;
- a trial's: what is left of its group (data-loader workers, ddp ranks) is killed when it ends.

Driver to server: setup (sys_path, argv, preload, target), start (number, job, log, env, limit_s, grace_s),
stop (grace_s).
Server to driver: ready, started (number, pid), ended (number, code, signal, cause, limit_s, seconds).
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
import warnings
from dataclasses import dataclass
from typing import Any, NoReturn

from tune.train.sweep.causes import cause_of


@dataclass
class _Child:
    """A trial that runs. Times are those of time.monotonic."""

    number: int
    report: int  # read end of the pipe on which it says what it raised
    started: float
    limit_s: float | None
    grace_s: float
    kill_at: float | None = None
    timed_out: bool = False


class _Server:
    """Forks trials on request, watches over their time and reports how they end."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.target = ""
        self.children: dict[int, _Child] = {}
        self.guard = _fork_guard(link)
        self.wake, self.woken = os.pipe()
        os.set_blocking(self.woken, False)
        signal.set_wakeup_fd(self.woken)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler makes the wake-up pipe speak
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's business

    def serve(self) -> None:
        """Work until the driver's end of the socket closes; then end every trial."""
        received = b""
        try:
            while True:
                ready, _, _ = select.select([self.link, self.wake], [], [], self._next_deadline())
                if self.wake in ready:
                    os.read(self.wake, 4096)
                if self.link in ready:
                    data = self.link.recv(1 << 16)
                    if not data:
                        return
                    *lines, received = (received + data).split(b"\n")
                    for line in lines:
                        self._obey(json.loads(line))
                self._reap()
                self._end_the_late()
        except (BrokenPipeError, ConnectionResetError):
            return
        finally:
            for pid in self.children:
                _kill_group(pid)
            for pid in self.children:
                os.waitpid(pid, 0)
                _write(self.guard, f"-{pid}\n")

    def _obey(self, order: dict[str, Any]) -> None:
        if order["do"] == "setup":
            self.target = order["target"]
            sys.path[:], sys.argv[:] = order["sys_path"], order["argv"]  # a trial notes the command that started it
            for module in order["preload"]:
                try:
                    importlib.import_module(module)
                except Exception:  # the trial meets it again, and has a log to tell it in
                    traceback.print_exc()
            self._say(event="ready")
        elif order["do"] == "start":
            self._start(order)
        elif order["do"] == "stop":
            for pid, child in self.children.items():
                # The trial alone: with its data-loader workers gone it could not save.
                self._end_softly(pid, child, signal.SIGINT, order["grace_s"])

    def _start(self, order: dict[str, Any]) -> None:
        report, reporter = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._become_trial(order, reporter)
        os.close(reporter)
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)  # the child does so too: whoever comes first
        self.children[pid] = _Child(order["number"], report, time.monotonic(), order["limit_s"], order["grace_s"])
        self._say(event="started", number=order["number"], pid=pid)

    def _become_trial(self, order: dict[str, Any], reporter: int) -> NoReturn:
        """What the child does from its fork to its end."""
        code = 1
        try:
            with contextlib.suppress(PermissionError):
                os.setpgid(0, 0)
            _write(self.guard, f"+{os.getpid()}\n")
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.link.close()
            for handle in (self.guard, self.wake, self.woken, *(child.report for child in self.children.values())):
                os.close(handle)
            log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.close(log)
            for stream in (sys.stdout, sys.stderr):
                stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a text stream
            faulthandler.enable()
            os.environ.update(order["env"])
            code = _call(self.target, order["job"], reporter)
            atexit._run_exitfuncs()  # loggers and worker pools say goodbye there; os._exit would skip them
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code & 0xFF)

    def _reap(self) -> None:
        for pid, child in list(self.children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            seconds = time.monotonic() - child.started
            _kill_group(pid)
            _write(self.guard, f"-{pid}\n")
            os.set_blocking(child.report, False)
            cause = ""
            with contextlib.suppress(BlockingIOError):  # a worker that outlives the trial can hold the pipe open
                cause = os.read(child.report, 1 << 16).decode()
            os.close(child.report)
            del self.children[pid]
            killed = os.WIFSIGNALED(status)
            self._say(
                event="ended",
                number=child.number,
                code=None if killed else os.WEXITSTATUS(status),
                signal=os.WTERMSIG(status) if killed else None,
                cause=cause,
                limit_s=child.limit_s if child.timed_out else None,
                seconds=seconds,
            )

    def _next_deadline(self) -> float | None:
        """Seconds until a trial must be told to end or be killed; None when there is no limit."""
        moments = [moment for child in self.children.values() if (moment := _deadline(child)) is not None]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _end_the_late(self) -> None:
        now = time.monotonic()
        for pid, child in self.children.items():
            moment = _deadline(child)
            if moment is None or moment > now:
                continue
            if child.kill_at is not None:
                _kill_group(pid)
                child.kill_at = now + 1.0  # again, should it have forked meanwhile
            else:
                child.timed_out = True
                self._end_softly(pid, child, signal.SIGTERM, child.grace_s)

    def _end_softly(self, pid: int, child: _Child, number: int, grace_s: float) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        child.kill_at = time.monotonic() + grace_s

    def _say(self, **event: Any) -> None:
        self.link.sendall(json.dumps(event).encode() + b"\n")


def _call(target: str, job: dict[str, Any], reporter: int) -> int:
    """Run the trial function; what it raises goes into the log, and as one line to the server."""
    module, _, function = target.partition(":")
    try:
        return int(getattr(importlib.import_module(module), function)(job))
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        _write(reporter, f"sys.exit: {stop.code}")
        return 1
    except BaseException as error:
        traceback.print_exc()
        _write(reporter, cause_of(error))
        return 130 if isinstance(error, KeyboardInterrupt) else 1


def _fork_guard(link: socket.socket) -> int:
    """Fork the guard and return the pipe on which it is told which groups live: "+pid", "-pid".

    A process, not a thread or a parent-death signal: it needs no lock of a trial's interpreter, takes the trial's
    own children along, and works on macOS.
    """
    read, write = os.pipe()
    if os.fork():
        os.close(read)
        return write
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        link.close()
        os.close(write)
        alive: set[int] = set()
        with os.fdopen(read) as lines:
            for line in lines:
                (alive.add if line[0] == "+" else alive.discard)(int(line[1:]))
        for pid in alive:
            _kill_group(pid)
    finally:
        os._exit(0)


def _deadline(child: _Child) -> float | None:
    """When something must be done about a trial: be killed, or else be told to end."""
    if child.kill_at is not None:
        return child.kill_at
    return None if child.limit_s is None else child.started + child.limit_s


def _kill_group(pid: int) -> None:
    # macOS answers PermissionError for a group of which only a dead leader is left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _write(handle: int, text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(handle, text.encode()[:4096])  # one piece: pipes do not mix writes up to this size


def main() -> None:
    """Serve the driver whose socket's number is the first argument."""
    # Libraries start native threads on import; what forks here is this thread alone, which holds none of their locks.
    warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
    _Server(socket.socket(fileno=int(sys.argv[1]))).serve()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a second sooner than an interpreter takes to let go of torch
