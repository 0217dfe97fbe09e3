from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, final

from pytorch_lightning.callbacks import Callback

from tune.run_dir import atomic_write

if TYPE_CHECKING:
    from pathlib import Path


@final
class History(Callback):
    """Writes metrics.csv: one row per epoch with step, the head's learning rate and every metric.

    A resumed run drops the rows of epochs that it trains again.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "metrics.csv"
        self.rows: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        rates = {group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups}
        rate = [value for name, value in rates.items() if name not in ("loss", "transfer")][
            -1
        ]  # of the head, if it trains
        row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "lr": rate}
        row |= {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        self.rows.append(row)
        if trainer.is_global_zero:
            write_history(self.path, self.rows)


def write_history(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write metrics.csv; a metric that an epoch lacks is left empty there."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for each in rows for name in each))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, text.getvalue())
