"""What `evaluate` asks for when a run is over, beside the plain test part: an attack, flipped views, a calibration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.config.gate import nodes
from tune.config.schema import Evaluate
from tune.data.loading.orders import tested_rows
from tune.evaluate.loaded import load_run
from tune.train.finished.attacked import with_attack
from tune.train.finished.form import Form
from tune.train.finished.other import Ask, calibration_lines, measure_rows
from tune.train.finished.rows import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tune.train.prepare import Prepared


def with_measures(
    result: dict[str, Any], prepared: Prepared, run_dir: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Add to a result what is asked for; flips as metrics `test/tta_…`, a calibration as `calibration`.

    Args:
        result: with `metrics`, `intervals` and `threshold`.
        prepared: the run.
        run_dir: its folder, with the best weights and what they say of the validation rows.
        say: takes a line about each.
    """
    result = with_attack(result, prepared, say)
    options, config = Evaluate(**prepared.config["evaluate"]), prepared.config
    if prepared.rank or not (options.tta or options.calibrate):
        return result
    own = [str(node["_target_"]).rpartition(".")[0] for _, node in nodes(config) if "_target_" in node]
    form = Form(load_run(run_dir, own), own)  # the gate has let this config through already
    rows = {
        part: rows_of(prepared.table, some, [])
        for part, some in (("val", prepared.parts.val), ("test", tested_rows(prepared.table, prepared.parts)))
    }
    if options.tta:
        found = measure_rows(form, run_dir, config, Ask(tta=True), rows["test"], lambda: rows["val"])
        for key in ("metrics", "intervals"):
            named = {name.replace("test/", "test/tta_", 1): value for name, value in found[key].items()}
            result = result | {key: result[key] | named}
        result["views"] = found["views"]
        say(f"flipped   accuracy {found['metrics']['test/accuracy']:.3f}, the mean of {', '.join(found['views'])}")
    if options.calibrate:
        found = measure_rows(form, run_dir, config, Ask(calibrate=True), rows["test"], lambda: rows["val"])
        result = result | {"calibration": found["calibration"]}
        for line in calibration_lines(found["calibration"]):
            say(line)
    return result
