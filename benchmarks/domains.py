"""From one domain to another: every method on the experiments of conf/experiment/domains, three seeds, mean ± sd.

Not a matter of time: `tune` alone. Beside the methods stand what the guard of each run measured: the source alone, the
target's statistics, and the ceiling, a run on the target with all its labels.
`python -m benchmarks.domains [FOLDER] [EXPERIMENT …] [words]`; what a FOLDER holds already is not run again.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import process, tune

EXPERIMENTS = ("mnist_to_digits", "digits_to_mnist", "poly_to_mono", "mono_to_poly")
METHODS = ("coral", "mmd", "dann", "source_free")


def domains(experiment: str, words: list[str], folder: Path) -> Iterator[str]:
    """A line per method: accuracy (and ROC AUC of two classes) on the target's test part."""
    asked = [f"+experiment=domains/{experiment}", f"transfer={','.join(METHODS)}", "sweep.jobs=2", *words]
    if not any(word.startswith("seed=") for word in words):
        asked.append("seed=0,1,2")
    out = process(tune("-m", *asked, output=folder / "outputs"), folder / "cache").out
    trials = json.loads(out.splitlines()[-1])["trials"]
    records = [json.loads((Path(trial["run_dir"]) / "run.json").read_text()) for trial in trials]
    first = [record for record in records if record["choices"]["transfer"] == METHODS[0]]
    for name in ("source only", "statistics"):
        yield _line(experiment, name, [record["guard"]["differences"][name] for record in first])
    for method in METHODS:
        of = [record for record in records if record["choices"]["transfer"] == method]
        values = [{metric: {"value": each["metrics"][f"test/{metric}"]} for metric in _metrics(each)} for each in of]
        helped = sum(each["guard"]["helped"] for each in of)
        hurt = sum(each["guard"]["hurt"] for each in of)
        said = f"; helped {helped} of {len(of)}" + (f", hurt {hurt}" if hurt else "")
        yield _line(experiment, method, values, said)
    yield _line(experiment, "ceiling", [record["guard"]["differences"]["ceiling"] for record in first])


def _metrics(record: dict) -> list[str]:
    return list(next(iter(record["guard"]["differences"].values())))


def _line(experiment: str, method: str, found: list[dict], said: str = "") -> str:
    cells = []
    for metric in ("accuracy", "auroc"):
        values = [each[metric]["value"] for each in found if metric in each]
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        cells.append(f"{statistics.fmean(values):.3f}{spread}" if values else "")
    return f"| {experiment} | {method}{said} | {' | '.join(cells)} |"


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:] if Path(word).is_dir()]
    named = [word for word in sys.argv[1:] if word in EXPERIMENTS] or list(EXPERIMENTS)
    others = [word for word in sys.argv[1:] if word not in EXPERIMENTS and Path(word) not in given]
    print(
        "| experiment | method; seeds for which the guard says so | accuracy | ROC AUC |\n|---|---|---|---|", flush=True
    )
    with tempfile.TemporaryDirectory() as place:
        for name in named:
            for line in domains(name, others, given[0] if given else Path(place)):
                print(line, flush=True)
