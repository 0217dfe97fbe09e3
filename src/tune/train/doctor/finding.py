"""What a check found: one line for the user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["PASS", "WARN", "FAIL", "SKIP"]


@dataclass(frozen=True)
class Finding:
    """What one check says.

    Args:
        check: its name.
        status: FAIL: the run cannot give what is asked of it; WARN: it may, but look here first; SKIP: not looked at.
        text: the number and what it means.
        do: the override to paste, or what else to do about it.
    """

    check: str
    status: Status
    text: str
    do: str = ""

    def line(self, width: int) -> str:
        """As it is printed."""
        return f"{self.status}  {self.check:<{width}}  {self.text}" + (f"   → {self.do}" if self.do else "")


def judged(check: str, is_sound: bool, text: str, do: str = "", *, otherwise: Status = "FAIL") -> Finding:
    """PASS without advice where it is sound, and `otherwise` with it where it is not."""
    return Finding(check, "PASS", text) if is_sound else Finding(check, otherwise, text, do)


def listed(names: list[str], limit: int = 3) -> str:
    """The first few, and how many more."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
