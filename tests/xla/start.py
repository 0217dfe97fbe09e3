"""`tune` on a machine that Lightning takes for one with a TPU core: the only thing that is replaced.

XLAAccelerator looks for the chip itself; whatever comes after that (strategy, precision plugin, compiler) is real.
"""

from __future__ import annotations

import sys

from pytorch_lightning.accelerators.xla import XLAAccelerator

from tune.cli.main import main

XLAAccelerator.is_available = staticmethod(lambda: True)
XLAAccelerator.auto_device_count = staticmethod(lambda: 1)

if __name__ == "__main__":
    sys.exit(main())
