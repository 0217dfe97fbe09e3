"""A finished run in the form in which it measured itself: what was frozen is folded and in the precision it had.

    form = Form(tune.load(run))
    for answered in form.over(paths, batch_size=32, workers=2):
        answered.rows, answered.probs, answered.tasks, answered.bad

What `tune.load` gives computes in fp32 throughout. A run with a frozen part may have run that in bf16, and its
predictions differ from those of fp32 by what that rounds: up to some hundredths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch
import yaml

from tune.config import gate
from tune.config.build import build
from tune.data.transforms import as_picture
from tune.errors import ConfigError, DataError
from tune.evaluate.loaded import Loaded, LoadedEnsemble
from tune.evaluate.tasks import answer
from tune.features.extract import Encoder, in_order
from tune.features.graph import Uncut
from tune.run_dir import find_run, read_json
from tune.train.choose.auto import TARGET
from tune.train.devices.precision import choose_precision
from tune.train.frozen import cut_in
from tune.train.prepare import unchanged

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Output
    from tune.data.tasks.task import Task
    from tune.data.transforms import InputTransform
    from tune.models.freeze import FreezePlan, Phase
    from tune.models.network import Network


@dataclass(frozen=True)
class Answered:
    """What is said of some images.

    Args:
        rows: their places among those that were asked about, B numbers.
        probs: (B, K).
        tasks: of each, as `tune.evaluate.tasks.answer` gives it.
    """

    rows: list[int]
    probs: Tensor
    tasks: dict[str, Tensor]


_WHOLE = {"bf16-true": torch.bfloat16, "64-true": torch.float64}
_MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@final
class Form:
    """One run, or several that decide together.

    Attributes:
        classes: K names.
        threshold: of two classes, the second one's probability above which it is decided for; None: the likeliest.
        tasks: what is told beside the label.
        transforms: the ways to make a tensor of an image that its networks want, each once.
    """

    def __init__(self, loaded: Loaded | LoadedEnsemble, allow: Sequence[str] = ()) -> None:
        members = [loaded] if isinstance(loaded, Loaded) else loaded.members
        self.classes = loaded.classes
        self.threshold = loaded.threshold if isinstance(loaded, Loaded) else None
        self.tasks: dict[str, Task] = loaded.tasks if isinstance(loaded, Loaded) else {}
        self._recipe = None if isinstance(loaded, Loaded) else loaded.recipe
        kinds = {member.transform.identity(): member.transform for member in members}
        self.transforms: list[InputTransform] = list(kinds.values())
        encoders: dict[tuple[int, frozenset[str]], Encoder | None] = {}
        self._members = [
            _Member(member, list(kinds).index(member.transform.identity()), encoders, allow) for member in members
        ]

    @torch.inference_mode()
    def __call__(self, images: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Probabilities (B, K), and what is told of each task as `tune.evaluate.tasks.answer` gives it; on the CPU.

        Args:
            images: (B, 3, H, W) for each of `transforms`.
        """
        flat: dict[int, Tensor] = {}  # what members with one frozen backbone share
        outputs = [member(images[member.kind], flat) for member in self._members]
        probs = [output.logits.double().softmax(dim=1).float().cpu() for output in outputs]
        if self._recipe is not None:
            # It was fitted to the members' files of predictions, and measured from them: they have six digits.
            return self._recipe.apply(torch.stack(probs).double().round(decimals=6).float()), {}
        return probs[0], {name: answer(task, outputs[0].tasks[name].cpu()) for name, task in self.tasks.items()}

    def over(
        self,
        images: Sequence[Any],
        *,
        batch_size: int,
        workers: int,
        bad: list[tuple[int, str]],
        view: Callable[[Tensor], Tensor] = lambda images: images,
    ) -> Iterator[Answered]:
        """What is said of images, in their order; threads decode and resize the next ones meanwhile.

        Args:
            images: files, arrays, or Pillow images.
            batch_size: images in a forward pass.
            workers: threads.
            bad: gets the place and the reason of each image that cannot be read; these are left out.
            view: what is done to images (B, 3, H, W) before the network sees them.
        """

        def load(place: int) -> tuple[int, list[Tensor] | str]:
            try:
                image = as_picture(images[place])
            except DataError as error:
                return place, error.problems[0].text
            return place, [transform.resized(image) for transform in self.transforms]

        rows, ready = [], []
        for place, made in in_order(load, range(len(images)), workers, depth=3 * batch_size):
            if isinstance(made, str):
                bad.append((place, made))
                continue
            rows.append(place)
            ready.append(made)
            if len(rows) == batch_size:
                yield self._answer(rows, ready, view)
                rows, ready = [], []
        if rows:
            yield self._answer(rows, ready, view)

    def _answer(self, rows: list[int], ready: list[list[Tensor]], view: Callable[[Tensor], Tensor]) -> Answered:
        # Normalised here, all at once: in the threads torch would start threads of its own for each image.
        columns = zip(self.transforms, zip(*ready, strict=True), strict=True)
        return Answered(rows, *self([view(transform.finish(torch.stack(column))) for transform, column in columns]))


class _Member:
    """A network, and the part of it that was frozen.

    Args:
        loaded: from `tune.load`.
        kind: number of the transform that makes its images.
        encoders: frozen parts of members before, by backbone and what trained in it; one more is added.
        allow: modules of the user's that the run may name.
    """

    def __init__(
        self,
        loaded: Loaded,
        kind: int,
        encoders: dict[tuple[int, frozenset[str]], Encoder | None],
        allow: Sequence[str],
    ) -> None:
        self.kind = kind
        self.network = network = loaded.network
        config, record = _config(loaded.run_dir), read_json(loaded.run_dir / "run.json")
        is_gpu = record.get("device") == "cuda" and torch.cuda.is_available()
        self.device = torch.device("cuda" if is_gpu else "cpu")
        precision = choose_precision(config["precision"], self.device.type)
        self.dtype = _WHOLE.get(precision.trainer, torch.float32)
        self.mixed = _MIXED.get(precision.trainer)
        network.frozen_dtype = precision.frozen
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        plan = _plan(config, allow)
        phase = plan.phases(list(network.layers), config["epochs"])[-1]
        self.encoder = None
        if self.dtype == torch.float32:
            key = id(network.backbone), phase.trained - {"head"}
            if key not in encoders:
                encoders[key] = _encoder(network, plan, phase, precision.frozen_part, self.device)
            self.encoder = encoders[key]
        else:
            network.to(self.dtype)
        if self.encoder is not None:
            network.suffix = self.encoder.cut.to(self.device).suffix
        network.to(self.device).eval()
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(any(name in network.layers[layer] for layer in phase.trained))

    def __call__(self, images: Tensor, flat: dict[int, Tensor]) -> Output:
        if self.encoder is not None:
            if id(self.encoder) not in flat:
                flat[id(self.encoder)] = self.encoder(images)
            entering = flat[id(self.encoder)]
        else:
            entering = images.to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.mixed) if self.mixed else nullcontext():
            return self.network(entering)


def frozen_names(loaded: Loaded, allow: Sequence[str] = ()) -> frozenset[str]:
    """Names of the tensors of a run's network that no epoch changed."""
    config = _config(loaded.run_dir)
    plan = _plan(config, allow)
    return unchanged(loaded.network, plan, plan.phases(list(loaded.network.layers), config["epochs"]))


def _encoder(
    network: Network, plan: FreezePlan, phase: Phase, dtype: torch.dtype | None, device: torch.device
) -> Encoder | None:
    try:
        cut = cut_in(network, plan, phase)
    except Uncut:
        return None  # the run had the same reason
    return None if cut is None else Encoder(cut, dtype, device)


def _config(run_dir: Path) -> dict[str, Any]:
    """The config of a run; of a soup, that of its first member."""
    if (run_dir / "config.yaml").is_file():
        return yaml.safe_load((run_dir / "config.yaml").read_text())
    return _config(find_run(read_json(run_dir / "run.json")["ensemble"]["members"][0]))


def _plan(config: dict[str, Any], allow: Sequence[str]) -> FreezePlan:
    node = config["freeze"]
    if node["_target_"] == TARGET:
        node = node[node["chosen"]["option"]]
    if problems := gate.problems({"freeze": node}, gate.allowed_by_user(allow)):
        raise ConfigError(*problems)
    return build(node)
