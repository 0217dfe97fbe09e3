from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys, torch
if sys.argv[1] == "keep":
    from tune.train.devices.memory import keep_freed_memory
    assert keep_freed_memory()
for _ in range(30):
    torch.ones(16_000_000)  # 64 MB, 15,600 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_a_freed_block_is_reused_without_new_pages():
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", _PROGRAM, how], text=True)) for how in ("keep", "plain")
    }
    assert faults["plain"] - faults["keep"] > 20 * 15_000  # of 30 blocks only the first needs its pages
