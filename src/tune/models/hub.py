"""timm's weights on the Hugging Face hub: the cache first, then a download with a short wait."""

from __future__ import annotations

import importlib.util
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

from tune.errors import ConfigError, Problem
from tune.models.weights import KEY, PACKAGES

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

_WAIT_S = 5.0


def weights_file(name: str, pretrained_cfg: PretrainedCfg) -> Path:
    """Find the file with timm's weights of the model `name`: in the cache, without the network, or on the hub.

    Raises:
        ConfigError: if timm has no weights of this model, or they are neither cached nor reachable; the message
            lists what would work on this machine.
    """
    repo, _, revision = (pretrained_cfg.hf_hub_id or "").partition("@")
    if not repo:
        raise ConfigError(Problem(KEY, f"timm has no weights of {name} on the hub. {what_works(name)}"))
    files = _candidates(pretrained_cfg.hf_hub_filename)
    for file in files:
        cached = try_to_load_from_cache(repo, file, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    try:
        _knock()
        return _download(repo, revision or None, files)
    except (OSError, HfHubHTTPError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        text = f"{repo} is not in the cache and the hub cannot be reached ({reason}). {what_works(name)}"
        raise ConfigError(Problem(KEY, text)) from error


def what_works(name: str) -> str:
    """What gives a backbone here, without the network."""
    installed = [model for model, (_, module, _) in PACKAGES.items() if importlib.util.find_spec(module)]
    options = ["backbone.weights=FILE", "backbone.weights=run:ID of a finished run", "backbone.weights=none (random)"]
    if installed:
        names = ", ".join(model.removeprefix("tf_") for model in installed)
        options.insert(0, f"backbone={names} (weights from an installed package)")
    return f"What works here for {name}, or instead of it: {' · '.join(options)}"


def _candidates(filename: str | None) -> list[str]:
    """Names under which the weights may be stored; safetensors first, as timm does."""
    filename = filename or "pytorch_model.bin"
    safe = {"pytorch_model.bin": "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}
    if filename in safe:
        return [safe[filename], filename]
    return [filename.removesuffix(".bin") + ".safetensors", filename] if filename.endswith(".bin") else [filename]


def _knock() -> None:
    """See whether the hub answers, whatever it says. Its own client would try for 23 s before it gives up.

    Raises:
        OSError: if it does not.
    """
    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=_WAIT_S).close()
    except urllib.error.HTTPError:
        return


def _download(repo: str, revision: str | None, files: list[str]) -> Path:
    for file in files[:-1]:
        try:
            return Path(hf_hub_download(repo, file, revision=revision, etag_timeout=_WAIT_S))
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):  # not "no such file", but "no connection"
                raise
    return Path(hf_hub_download(repo, files[-1], revision=revision, etag_timeout=_WAIT_S))
