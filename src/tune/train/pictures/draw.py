"""Pictures of a run whose best weights are in place and whose predictions are written."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from tune.data.seeds import keyed
from tune.models.interface import FittedHead
from tune.report.predicted import Decided, read_decided
from tune.run_dir import atomic_write, write_json
from tune.train.pictures.attribution import NoMap, Place, judged_plainly, maps_of, places_of

if TYPE_CHECKING:
    from torch import Tensor

    from tune.train.prepare import Prepared

LOG = logging.getLogger("tune")
MISTAKES = 8
_SAMPLES, _VIEWS = 8, 3
_SIDE = 256  # pixels of a picture, at most
_TILE = 128  # of one in the grid
_GAP = 4
_GLOW = torch.tensor([[0.0, 0.0, 0.0], [0.55, 0.08, 0.35], [0.98, 0.45, 0.1], [1.0, 0.98, 0.6]])
"""From nothing to most, RGB 0-1."""


def draw_pictures(prepared: Prepared, run_dir: Path, say: Callable[[str], None], *, is_trial: bool = False) -> None:
    """Write `pictures/` at the end of a run, where it is asked for: `mistake-1.webp` …, `samples.webp`, `index.json`.

    What goes wrong is told and costs nothing else: the run is over.

    Args:
        prepared: the run.
        run_dir: its folder, with predictions.
        say: takes a line where something goes wrong.
        is_trial: whether it is a trial of a sweep, which draws nothing.
    """
    if is_trial or not prepared.config["pictures"] or prepared.rank:
        return
    try:
        write_pictures(prepared, run_dir)
    except Exception as error:  # a backbone of the user's, a full disk: what was trained matters more
        LOG.warning("no pictures: %s", error, exc_info=error)
        say(f"warning   no pictures: {error}")


def write_pictures(prepared: Prepared, run_dir: Path) -> dict[str, Any]:
    """Write `pictures/`, in the place of an earlier one. Returns what `index.json` says.

    It holds `part` and `rows` (how many were decided), `map` (method, layer, why there is none), `mistakes`, each with
    image, map, row, name, label, predicted and confidence, and `samples` (image, rows, names, views, mixes).
    """
    folder = run_dir / "pictures"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.webp"):
        old.unlink()
    with keyed("pictures", prepared.config["seed"]):
        samples = _samples(prepared, folder)
        mistakes = _mistakes(prepared, run_dir, folder)
    index = {**mistakes, "samples": samples}
    write_json(folder / "index.json", index)
    return index


def _mistakes(prepared: Prepared, run_dir: Path, folder: Path) -> dict[str, Any]:
    for part in ("test", "val"):
        decided = read_decided(run_dir / "predictions" / f"{part}.csv")
        if decided is not None:
            break
    else:
        return {"part": "", "rows": 0, "map": _no_map("no row has a label"), "mistakes": []}
    about = {"part": part, "rows": len(decided.labels)}
    chosen = decided.surest_mistakes(MISTAKES)
    if not chosen:
        return {**about, "map": _no_map("there is no mistake"), "mistakes": []}
    images = torch.stack([prepared.data.load("", int(decided.rows[place])) for place in chosen])  # (B, 3, H, W)
    pixels = prepared.data.transform.undone(images)
    told, maps = _maps(prepared, images, torch.from_numpy(decided.predicted[chosen]))
    found = []
    for number, place in enumerate(chosen, start=1):
        shown = pixels[number - 1]
        entry = {"image": f"mistake-{number}.webp", "map": f"mistake-{number}-map.webp" if maps is not None else ""}
        _write(shown, folder / entry["image"])
        if maps is not None:
            _write(_lit(shown, maps[number - 1]), folder / entry["map"])
        found.append({**entry, **_row(decided, place)})
    return {**about, "map": told, "mistakes": found}


def _row(decided: Decided, place: int) -> dict[str, Any]:
    return {
        "row": int(decided.rows[place]),
        "name": decided.names[place],
        "label": decided.classes[decided.labels[place]],
        "predicted": decided.classes[decided.predicted[place]],
        "confidence": float(decided.confidence[place]),
    }


def _maps(prepared: Prepared, images: Tensor, classes: Tensor) -> tuple[dict[str, str], Tensor | None]:
    """What spoke for the class of each image, (B, H, W), and what is told of it."""
    network = prepared.network
    if isinstance(network.head, FittedHead):
        return _no_map("the head was fitted at once and has no gradient"), None
    parameter = next(network.parameters())
    images, classes = images.to(parameter), classes.to(parameter.device)
    with judged_plainly(network):
        try:
            places = places_of(network, images[:1])
        except NoMap as error:
            return _no_map(str(error)), None
        maps = maps_of(network, images, classes, places).cpu()
    return {"method": _method(places), "layer": " and ".join(place.name for place in places), "why": ""}, maps


def _method(places: Sequence[Place]) -> str:
    return "Grad-CAM" if places[0].kind == "map" else "gradient × activation"


def _no_map(why: str) -> dict[str, str]:
    return {"method": "", "layer": "", "why": why}


def _samples(prepared: Prepared, folder: Path) -> dict[str, Any]:
    """Training images side by side, each above some views that augmentation makes of it."""
    data = prepared.data
    rows = [int(row) for row in np.linspace(0, len(data.trained) - 1, min(_SAMPLES, len(data.trained))).round()]
    chosen = [data.trained[row] for row in rows]
    views = ["", *(str(view) for view in range(_VIEWS))] if data.changes_pixels else [""]
    height, width = data.transform.size
    scale = min(1.0, _TILE / max(height, width))
    tile = max(1, round(width * scale)), max(1, round(height * scale))
    grid = Image.new("RGBA", (len(chosen) * (tile[0] + _GAP) - _GAP, len(views) * (tile[1] + _GAP) - _GAP))
    for line, view in enumerate(views):
        pixels = data.transform.undone(torch.stack([data.load(view, row) for row in chosen]))
        for column, image in enumerate(pixels):
            grid.paste(_picture(image).resize(tile), (column * (tile[0] + _GAP), line * (tile[1] + _GAP)))
    _save(grid, folder / "samples.webp")
    names = [data.table.names[row] for row in chosen]
    return {"image": "samples.webp", "rows": chosen, "names": names, "views": len(views) - 1, "mixes": data.mixes}


def _lit(pixels: Tensor, heat: Tensor) -> Tensor:
    """The image in grey, (3, H, W) uint8, with a map (H, W) of 0-1 as light on it."""
    grey = pixels.float().mean(dim=0) / 255  # (H, W)
    place = heat * (len(_GLOW) - 1)
    low = place.floor().long().clamp_max(len(_GLOW) - 2)
    share = (place - low)[..., None]
    color = _GLOW[low] * (1 - share) + _GLOW[low + 1] * share  # (H, W, 3)
    strength = 0.75 * heat.sqrt()[..., None]
    lit = (0.15 + 0.7 * grey)[..., None] * (1 - strength) + color * strength
    return (lit.clamp(0, 1) * 255).round().to(torch.uint8).permute(2, 0, 1)


def _picture(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def _write(pixels: Tensor, path: Path) -> None:
    """Write (3, H, W) uint8; small ones in whole multiples, so that their pixels can be seen."""
    picture = _picture(pixels)
    side = max(picture.size)
    if side > _SIDE:
        picture.thumbnail((_SIDE, _SIDE))
    elif (times := math.floor(_SIDE / 2 / side)) > 1:
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    _save(picture, path)


def _save(picture: Image.Image, path: Path) -> None:
    written = io.BytesIO()
    picture.save(written, format="webp", quality=85)
    atomic_write(path, written.getvalue())
