"""The processes of a distributed run, started by us: rank 0 is the run, the others are its children.

Lightning's own launcher runs `sys.argv` again, which would start a whole sweep on each rank. Here the ranks are
forked before torch has computed anything, wait for the run folder, and tell the same story as rank 0, silently.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import torch


class Ranks:
    """The other ranks of this run; with one process there are none and every call does nothing.

    Args:
        world: number of processes, this one included.
        follow: what a rank does once it is told the run folder.
    """

    def __init__(self, world: int, follow: Callable[[Path], None]) -> None:
        self.children: dict[int, int] = {}
        self.finished = False
        if world == 1:
            return
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": "0"}
        torch.set_num_threads(max(1, torch.get_num_threads() // world))
        for rank in range(1, world):
            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                for other in [write, *self.children.values()]:
                    os.close(other)
                _be_a_rank(rank, read, follow)
            os.close(read)
            self.children[pid] = write

    def start(self, run_dir: Path, on_death: Callable[[str], None]) -> None:
        """Send the other ranks off; `on_death` is called, from a thread, when one of them fails."""
        for pid, write in self.children.items():
            os.write(write, f"{run_dir}\n".encode())
            threading.Thread(target=self._watch, args=(pid, on_death), daemon=True).start()

    def stop(self, kill: bool = False) -> None:
        """End the other ranks: they leave by themselves, or are killed."""
        self.finished = True
        for pid, write in self.children.items():
            os.close(write)
            if kill:
                os.kill(pid, signal.SIGKILL)
        self.children = {}

    def _watch(self, pid: int, on_death: Callable[[str], None]) -> None:
        _, status = os.waitpid(pid, 0)
        if status != 0 and not self.finished:
            on_death(f"another process of this distributed run ended with {os.waitstatus_to_exitcode(status)}")


def _be_a_rank(rank: int, read: int, follow: Callable[[Path], None]) -> None:
    code = 1
    try:
        os.environ["LOCAL_RANK"] = str(rank)
        for number in (signal.SIGINT, signal.SIGTERM):
            # A terminal and a scheduler tell every process; rank 0 alone decides, and ends this one.
            signal.signal(number, signal.SIG_IGN)
        with os.fdopen(read) as pipe:
            run_dir = pipe.readline().strip()
        if run_dir:
            log = os.open(Path(run_dir) / "run.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            follow(Path(run_dir))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
