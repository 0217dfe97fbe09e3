"""Image transfer learning, written down as YAML. See `tune --help`, and `tune.load` to use what was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tune.evaluate.loaded import Loaded, LoadedEnsemble

__version__ = "0.1.0"


def load(run: str | Path, output: str | Path = "outputs", allow: Sequence[str] = ()) -> Loaded | LoadedEnsemble:
    """Load the best network of a finished run, or an ensemble.

    Args:
        run: a run folder, the start of a run's id, or "latest".
        output: folder to look for runs in.
        allow: modules of your own that the run was allowed to name.

    Returns:
        The network in eval mode, the transform of its images and the names of its classes; of an ensemble its members
        and how they decide. Both have `predict` and `classes`.

    Raises:
        ConfigError: if there is no such run.
    """
    from tune.evaluate.loaded import load as load_run  # torch takes seconds, so only now

    return load_run(run, output, allow)
