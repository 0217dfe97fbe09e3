"""What techniques bring on photographs of solar cells with a frozen backbone: five splits each, mean ± sd.

Not a matter of time: `tune` alone, with the quickstart's settings and a word or two more. A line per technique.
`python -m benchmarks.catalogue`
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import process, tune

SPLITS = range(5)
SEEDS = f"data.split.seed={','.join(map(str, SPLITS))}"
QUICK = "+experiment=quickstart"


def catalogue() -> Iterator[str]:
    """A line per technique: accuracy and ROC AUC of the test part."""
    with tempfile.TemporaryDirectory() as folder:
        cache, output = Path(folder) / "cache", Path(folder) / "outputs"

        def sweep(*words: str) -> dict:
            out = process(tune("-m", *words, output=output), cache).out
            return json.loads(out.splitlines()[-1])

        def average(trials: list[dict]) -> dict[str, float]:
            runs = [trial["run_dir"] for trial in trials]
            command = [sys.executable, "-m", "tune", "ensemble", *runs, "--output", str(output), "--json"]
            return json.loads(process(command, cache).out.splitlines()[-1])["metrics"]

        for word in ("backbone=efficientnet_lite0", "backbone=efficientnet_lite2", "backbone=pair"):
            yield line_of(word, [trial["metrics"] for trial in sweep(QUICK, SEEDS, word)["trials"]])
        for word in ("ensemble=seeds", "ensemble=bagging", "ensemble=boosting"):
            yield line_of(word, [each["metrics"] for each in sweep(QUICK, SEEDS, word)["ensembles"]])
        for loss in ("cross_entropy", "center", "triplet", "contrastive", "supcon"):
            answer = sweep(QUICK, SEEDS, "head=mlp", "lr=1e-3", f"loss={loss}")
            yield line_of(f"head=mlp lr=1e-3 loss={loss}", [trial["metrics"] for trial in answer["trials"]])
        soups = [
            sweep(QUICK, f"data.split.seed={seed}", "lr=3e-3,1e-2,3e-2", "regularize=none,dropout", "ensemble=soup")
            for seed in SPLITS
        ]
        yield line_of("ensemble=soup of 6 (3 rates, with and without dropout)", [_ensemble(each) for each in soups])
        yield line_of("the best of these 6 on validation", [_best(each) for each in soups])
        stacks = [sweep("+experiment=elpv/stacking", f"data.split.seed={seed}") for seed in SPLITS]
        for number, what in enumerate(("linear", "mlp", "random forest", "svm")):
            members = [average(each["trials"][5 * number : 5 * number + 5]) for each in stacks]
            yield line_of(f"{what}, its five folds averaged", members)
        yield line_of("ensemble=stacking of these 4", [_ensemble(each) for each in stacks])


def _ensemble(answer: dict) -> dict[str, float]:
    return answer["ensembles"][0]["metrics"]


def _best(answer: dict) -> dict[str, float]:
    return max((trial["metrics"] for trial in answer["trials"]), key=lambda metrics: metrics["val/accuracy"])


def line_of(what: str, metrics: list[dict[str, float]]) -> str:
    """A line of the table: mean ± standard deviation of several runs, or the numbers of one."""
    cells = [what]
    for name in ("test/accuracy", "test/balanced_accuracy", "test/auroc"):
        values = [each[name] for each in metrics]
        spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        cells.append(f"{statistics.fmean(values):.4f}{spread}")
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print("| technique | test accuracy | balanced accuracy | ROC AUC |\n|---|---|---|---|", flush=True)
    for line in catalogue():
        print(line, flush=True)
