"""The surest mistakes with what decided them, and images as the network sees them, from `pictures/` of a run."""

from __future__ import annotations

from tune.report.page.blocks import Block, Pair, Picture, Pictures, Table, Text
from tune.report.told import Told

_LISTED = 8


def mistakes(told: Told) -> list[Block]:
    """As pictures where the run drew them, else as a table."""
    index, folder = told.pictures, told.run_dir / "pictures"
    if index:
        pairs = []
        for each in index["mistakes"]:
            pictures = [Picture(folder / each["image"], f"{each['name']}, {each['label']}")]
            if each["map"]:
                pictures.append(Picture(folder / each["map"], f"what spoke for {each['predicted']}"))
            lines = [f"taken for {each['predicted']}, {100 * each['confidence']:.1f} %", each["name"]]
            pairs.append(Pair(pictures, each["label"], lines))
        if not pairs:
            return [Text(f"None: every one of the {index['rows']:,} {index['part']} rows is decided right.")]
        return [Text(_about_map(index["map"])), Pictures(pairs)]
    if not told.part:
        return []
    decided = told.decided[told.part]
    rows = [
        (
            decided.names[i],
            decided.classes[decided.labels[i]],
            decided.classes[decided.predicted[i]],
            f"{decided.confidence[i]:.3f}",
        )
        for i in decided.surest_mistakes(_LISTED)
    ]
    if not rows:
        return [Text(f"None: every one of the {len(decided.labels):,} {told.part} rows is decided right.")]
    how = " With pictures: " + f"tune evaluate {told.name} --pictures" if "choices" in told.record else ""
    return [Table(("row", "class", "taken for", "confidence"), rows, words=(0, 1, 2)), Text(how.strip(), quiet=True)]


def samples(told: Told) -> list[Block]:
    """Training images as they are, and below each what augmentation makes of it."""
    index = told.pictures
    if not index:
        return []
    drawn = index["samples"]
    views = (
        f"below each, {drawn['views']} of the ways in which training sees it"
        if drawn["views"]
        else "training sees them so"
    )
    mixed = "; mixup and cutmix come on top" if drawn["mixes"] else ""
    about = f"Training images as the network sees them; {views}{mixed}."
    picture = Picture(told.run_dir / "pictures" / drawn["image"], "training images")
    return [Text(about), Pictures([Pair([picture], "", [])], wide=True)]


def _about_map(about: dict[str, str]) -> str:
    if about["why"]:
        return f"Without a map of what spoke for the decision: {about['why']}."
    return f"On the right what spoke for the decision ({about['method']}, at {about['layer']}): the brighter, the more."
