"""The checks by name, in the order in which they are made, which is that of what to repair first. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """One check.

    Args:
        look: MODULE.FUNCTION in this folder, of a function from a case to what it finds.
        needs: "" nothing, "rows" data that can be read, "run" a run that can be built, "training" steps of it.
        is_slow: whether a quick look leaves it out.
    """

    look: str
    needs: Literal["", "rows", "run", "training"] = ""
    is_slow: bool = False


CHECKS = {
    "versions": Check("environment.check_versions"),
    "device": Check("environment.check_device"),
    "threads": Check("environment.check_threads"),
    "disk": Check("environment.check_disk"),
    "images": Check("rows.check_images", "rows"),
    "duplicates": Check("rows.check_duplicates", "rows"),
    "classes": Check("rows.check_classes", "rows"),
    "labels": Check("rows.check_labels", "run"),
    "crop": Check("rows.check_crop", "run"),
    "picture": Check("speed.check_picture", "run"),
    "pixels": Check("start.check_pixels", "run"),
    "loss": Check("start.check_loss", "run"),
    "start": Check("start.check_start", "run"),
    "inputs": Check("start.check_inputs", "run"),
    "leak": Check("start.check_leak", "run"),
    "units": Check("learning.check_units", "run"),
    "gradcheck": Check("start.check_gradients", "run"),
    "terms": Check("start.check_terms", "training"),
    "optimizer": Check("learning.check_optimizer", "training"),
    "trained": Check("learning.check_trained", "training"),
    "frozen": Check("learning.check_frozen", "training"),
    "gradients": Check("learning.check_gradient", "training"),
    "update": Check("learning.check_update", "training"),
    "rate": Check("learning.check_rate", "training"),
    "stable": Check("learning.check_stable", "training", is_slow=True),
    "loader": Check("speed.check_loader", "training"),
    "overfit": Check("learning.check_overfit", "training"),
}
