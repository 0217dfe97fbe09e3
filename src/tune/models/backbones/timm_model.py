from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any, final

import timm
import torch
from timm.layers.drop import DropPath
from timm.models import PretrainedCfg
from torch import nn

from tune.errors import ConfigError
from tune.models import weights as sources
from tune.models.interface import Backbone, InputSpec
from tune.models.layers import ordered_layers
from tune.models.readout import Kind, Readout
from tune.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor


@final
class TimmBackbone(Backbone):
    """Any model of timm, without its classifier.

    Draws random weights from the global generator, then loads what `weights` names.

    Args:
        name: timm's name, with or without the tag of its weights ("resnet50", "resnet50.a1_in1k").
        weights: none (random), package (an installed package carries them), hub (timm's, from the Hugging Face
            cache or hub), run:ID (a finished run), or a file (safetensors or state dict).
        drop_path: chance that a residual branch is left out for a row in training; in most families it grows from 0
            at the input to this value.
        input_size: height and width of the images, pixels; without it, what the weights were trained with.
        readout: how the last map becomes features: as the model does it (model), average, max, average_max (both, one
            behind the other), gem (generalised mean), or flatten (all of it).
        readout_power: of gem, 3 by default; 1 is the average.
        output: folder below which `run:ID` is looked for.

    Raises:
        ConfigError: if there is no such model, its weights cannot be had, or a key has no effect on it.
    """

    def __init__(
        self,
        name: str,
        weights: str = "hub",
        drop_path: Annotated[float, Range("[0, 1)")] = 0.0,
        input_size: Annotated[int, Range("[1, inf)")] | None = None,
        readout: Kind = "model",
        readout_power: Annotated[float, Range("[1, inf)")] | None = None,
        output: str = "outputs",
    ) -> None:
        super().__init__()
        _check_name(name)
        if readout_power is not None and readout != "gem":
            raise ConfigError(f"backbone.readout_power: has no effect with backbone.readout={readout}, but with gem.")
        pool: dict[str, Any] = {} if readout == "model" else {"global_pool": ""}
        model = _create(name, drop_path, input_size, **pool)
        if not hasattr(model, "group_matcher"):  # 3 of timm's 98 families
            raise ConfigError(
                f"backbone.name: timm does not tell the layers of {name} apart, so it has no depth to freeze."
            )
        cfg = PretrainedCfg(**model.pretrained_cfg)
        classifier = _classifier_names(cfg.classifier)
        if weights == "none":
            self.weights_source = "random weights"
        elif weights == "package":
            self.weights_source = sources.load_package(model, name, classifier)
        elif weights == "hub":
            from tune.models.hub import weights_file  # 0.3 s that other sources need not pay

            # timm adapts its own files: older names, position embeddings of another image size.
            overlay = {"file": str(weights_file(name, cfg)), "custom_load": False}
            model = _create(name, drop_path, input_size, pretrained=True, pretrained_cfg_overlay=overlay, **pool)
            self.weights_source = f"timm's weights {cfg.hf_hub_id}"
        elif weights.startswith("run:"):
            self.weights_source = sources.load_run(model, weights.removeprefix("run:"), output, "backbone.model.")
        else:
            self.weights_source = sources.load_path(model, weights, classifier)
        self.model: nn.Module = model
        self.weights_digest = "" if weights == "none" else sources.digest(self)
        self.feature_dim: int = model.head_hidden_size
        _, height, width = (3, input_size, input_size) if input_size else cfg.input_size
        self.input = InputSpec((height, width), tuple(cfg.mean), tuple(cfg.std), cfg.interpolation)
        self.readout = _readout(model, name, readout, readout_power or 3.0, (height, width)) if pool else nn.Identity()
        if pool:
            with torch.no_grad():
                self.feature_dim = self.eval()(torch.zeros(1, 3, height, width)).shape[1]
            self.train()
        layers = ordered_layers(model)
        self.layers = {layer: [f"model.{tensor}" for tensor in tensors] for layer, tensors in layers.items()}

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features (B, D), the input of timm's classifier."""
        return self.readout(self.model(images))


def _readout(model: nn.Module, name: str, kind: Kind, power: float, size: tuple[int, int]) -> Readout:
    with torch.no_grad():
        maps = model.eval()(torch.zeros(1, 3, *size))
    model.train()
    if maps.ndim != 4:
        raise ConfigError(f"backbone.readout: has no effect, {name} ends in {maps.ndim - 1} dimensions, not in a map.")
    channels = getattr(model, "num_features", 0), model.head_hidden_size
    return Readout(kind, power, channels_last=maps.shape[1] not in channels and maps.shape[3] in channels)


def _check_name(name: str) -> None:
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), 3)
        hint = f" Nearest: {', '.join(near)}." if near else ""
        raise ConfigError(f"backbone.name: timm has no model called {architecture!r}.{hint}")
    tags = timm.list_pretrained(f"{architecture}.*") if "." in name else [name]
    if name not in tags:
        raise ConfigError(
            f"backbone.name: {architecture} has no weights called {name!r}, but {', '.join(tags) or 'none'}."
        )


def _create(name: str, drop_path: float, input_size: int | None, pretrained: bool = False, **overlay: Any) -> Any:
    """timm's model without classifier. `drop_path` and `input_size` reach it only when set: not all take them."""
    keys: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    cfg = timm.get_pretrained_cfg(name)
    if input_size is not None and cfg is not None and cfg.fixed_input_size:
        keys["img_size"] = input_size
    try:
        model = timm.create_model(name, pretrained=pretrained, num_classes=0, **keys, **overlay)
    except TypeError as error:
        if drop_path and "drop_path_rate" in str(error):
            raise ConfigError(f"backbone.drop_path: has no effect, {name} has no residual branches to drop.") from error
        raise
    except (AssertionError, ValueError) as error:
        if input_size is None:
            raise
        raise ConfigError(f"backbone.input_size: {name} cannot take {input_size} pixels: {error}") from error
    if drop_path and not any(isinstance(module, DropPath) and module.drop_prob for module in model.modules()):
        raise ConfigError(f"backbone.drop_path: has no effect, {name} has no residual branches to drop.")
    return model


def _classifier_names(classifier: str | tuple[str, ...] | None) -> list[str]:
    modules = (classifier,) if isinstance(classifier, str) else classifier or ()
    return [f"{module}.{tensor}" for module in modules for tensor in ("weight", "bias")]
