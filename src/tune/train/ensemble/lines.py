"""What is said of an ensemble. Torch-free."""

from __future__ import annotations

from typing import Any


def result_line(record: dict[str, Any]) -> str:
    """What an ensemble gives, beside its members."""
    part = "test" if "test/accuracy" in record["metrics"] else "val"
    low, high = record["intervals"].get(f"{part}/accuracy", (None, None))
    words = [f"{part} accuracy {record['metrics'][f'{part}/accuracy']:.3f}"]
    words[0] += f" [{low:.3f}, {high:.3f}]" if low is not None else ""
    if (auroc := record["metrics"].get(f"{part}/auroc")) is not None:
        words.append(f"auroc {auroc:.3f}")
    apart = record["apart"].get(f"{part}/accuracy")
    if apart is not None:
        words.append(f"members {apart['mean']:.3f} ± {apart['sd']:.3f}, best on validation {apart['best']:.3f}")
    kept = f" ({len(record['ensemble']['kept'])} kept)" if "kept" in record["ensemble"] else ""
    return f"{record['ensemble']['how']} of {len(record['ensemble']['members'])}{kept}: {'   '.join(words)}"
