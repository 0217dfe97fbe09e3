"""`tune cat --plot scheduler`: the learning rate over a run as text, from the schedule that a run would build.

Torch is imported here, when a curve is asked for.
"""

from __future__ import annotations

from typing import Any

from tune.config.build import build

STEPS = 100
"""Optimizer steps per epoch of a curve, where the config names none: the data are not read."""

HEIGHT = 8  # lines
_BLOCKS = " ▁▂▃▄▅▆▇█"


def schedule_of(config: dict[str, Any]) -> tuple[list[float], str]:
    """The head's rate in each step of a run, and nothing; or no rates, and what they depend on.

    Args:
        config: the composed and checked config; of it `scheduler`, `lr`, `epochs` and `epoch_steps`.

    Raises:
        ConfigError: if the schedule does not fit the number of epochs.
    """
    import torch

    steps = steps_per_epoch(config)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=config["lr"])
    total = config["epochs"] * steps
    made = build(config["scheduler"], optimizer=optimizer, total_steps=total, steps_per_epoch=steps)
    if made["interval"] == "epoch":
        return [], made["monitor"]
    rates = []
    for _ in range(total):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        made["scheduler"].step()
    return rates, ""


def steps_per_epoch(config: dict[str, Any]) -> int:
    """Those that the config names, else `STEPS`."""
    return config["epoch_steps"] or STEPS


def draw(rates: list[float], epochs: int, width: int) -> list[str]:
    """Lines of text of at most `width` characters: bars from 0 to the highest rate, each of one step in its middle.

    Args:
        rates: of each step.
        epochs: of the run, for the axis.
        width: characters.
    """
    top = max(rates)
    label = f"{top:.3g}"
    columns = max(8, width - len(label) - 2)
    picked = [rates[int((column + 0.5) * len(rates) / columns)] for column in range(columns)]
    eighths = [round(8 * HEIGHT * rate / top) for rate in picked]
    lines = []
    for line in reversed(range(HEIGHT)):
        bars = "".join(_BLOCKS[min(8, max(0, each - 8 * line))] for each in eighths)
        lines.append(f"{label if line == HEIGHT - 1 else '':>{len(label)}} ┤{bars}".rstrip())
    end = f"{epochs} epoch{'s' if epochs > 1 else ''}"
    return [*lines, f"{'0':>{len(label)}} └{'─' * columns}", f"{' ' * (len(label) + 2)}0{end:>{columns - 1}}"]


def describe(rates: list[float], option: str, steps: int) -> str:
    """The line above the curve: first, highest, lowest and last rate.

    Args:
        rates: of each step.
        option: of the group `scheduler`.
        steps: per epoch.
    """
    high, low = max(rates), min(rates)
    if high == low:
        return f"{option}   lr {high:.3g} in every step"
    peak, bottom = (f"after {rates.index(each) / steps:.3g} epochs" for each in (high, low))
    return f"{option}   lr {rates[0]:.3g} at first, at most {high:.3g} {peak}, at least {low:.3g} {bottom}"
