from __future__ import annotations

from warm import warm_sweeps

__all__ = ["warm_sweeps"]
