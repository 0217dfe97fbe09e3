"""The pictures of the README, made anew: python docs/make.py

Trains a run and a sweep on the handwritten digits that come with scikit-learn (about two minutes on two cores), writes
their reports, and photographs parts of them with Chromium (apt-get install chromium) into docs/*.png.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

HERE = Path(__file__).parent
WIDTH, TALLEST = 1180, 4000  # pixels
LARGEST = 200_000  # bytes
RUN = "data=digits data.split.fraction=0.3 backbone.input_size=128 freeze=mid augment=affine epochs=6 lr=3e-3"
SWEEP = "-m data=digits data.split.fraction=0.2 backbone.input_size=64 epochs=6 seed=0,1 lr=1e-4,1e-3,1e-2,1e-1"
SWEEP += " regularize.dropout=0,0.2,0.5 batch_size=32,128"
PICTURES = {
    "report-result": ("run", ["Result", "What the curves say"]),
    "report-training": ("run", ["Training"]),
    "report-classes": ("run", ["Classes"]),
    "report-mistakes": ("run", ["The surest mistakes"]),
    "report-sweep": ("sweep", ["What each key does", "Keys together"]),
}
"""File → page, and the sections of it that are shown."""


def main() -> int:
    """Make all of them. Returns the exit code."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("needs Chromium: apt-get install chromium", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        tune(here, *f"run {RUN} name=digits".split())
        tune(here, *f"run {SWEEP} name=sweep".split())
        found = {"run": next(here.glob("outputs/digits/2*")), "sweep": next(here.glob("outputs/sweep/sweep-*"))}
        for path in found.values():
            tune(here, "report", str(path))
        for name, (page, sections) in PICTURES.items():
            part = here / f"{name}.html"
            part.write_text(only((found[page] / "report.html").read_text(), sections))
            photograph(chromium, part, HERE / f"{name}.png")
            print(f"docs/{name}.png  {(HERE / name).with_suffix('.png').stat().st_size // 1000} kB")
    return 0


def tune(folder: Path, *words: str) -> None:
    """Run `tune WORDS` in a folder, with a cache of its own."""
    command = [sys.executable, "-m", "tune", *words]
    subprocess.run(command, cwd=folder, env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}, check=True)


def only(page: str, titles: list[str]) -> str:
    """A page with some of its sections alone, without head and links."""
    page = re.sub(r"<header>.*?</header>|<nav>.*?</nav>", "", page, flags=re.DOTALL)
    shown = [f"<h2>{title}</h2>" for title in titles]
    return re.sub(
        r"<section.*?</section>",
        lambda found: found[0] if any(title in found[0] for title in shown) else "",
        page,
        flags=re.DOTALL,
    )


def photograph(chromium: str, page: Path, path: Path) -> None:
    """Write what a page looks like, cut to what is on it, in 256 colours, or fewer where that is too large."""
    raw = page.with_suffix(".png")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},{TALLEST}"]
    command = [chromium, *flags, f"--screenshot={raw}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(raw) as opened:
        picture = opened.convert("RGB")
    empty = Image.new("RGB", picture.size, picture.getpixel((0, 0)))
    box = ImageChops.difference(picture, empty).getbbox()
    assert box is not None, f"{page} is empty"
    picture = picture.crop((max(0, box[0] - 24), max(0, box[1] - 24), min(WIDTH, box[2] + 24), box[3] + 24))
    for colors in (256, 96, 48):
        picture.quantize(colors, dither=Image.Dither.NONE).save(path, optimize=True)
        if (size := path.stat().st_size) <= LARGEST:
            return
    raise SystemExit(f"{path} has {size:,} bytes, at most {LARGEST:,} are wanted: show less")


if __name__ == "__main__":
    sys.exit(main())
