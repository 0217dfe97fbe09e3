"""`tune cp EXPERIMENT DEST [overrides]`: an experiment of one's own, made from another one and what differs."""

from __future__ import annotations

import json
from pathlib import Path

from tune.cli.arguments import parser_of
from tune.config import files
from tune.config.tree import ConfigTree, locate
from tune.errors import ConfigError, Problem


def cp(words: list[str]) -> int:
    """`tune cp EXPERIMENT DEST [overrides]`. Returns the exit code.

    Raises:
        ConfigError: if the copy stands there already, or would not mean the same.
    """
    about = "Write an experiment of your own: one that builds on another (default), or with every key in it (--full)."
    parser = parser_of("cp", about, "configs")
    parser.add_argument("experiment", help="name of an experiment")
    parser.add_argument("dest", help="name of the new one, for conf/experiment/NAME.yaml; or a file in such a folder")
    parser.add_argument("overrides", nargs="*", help="what differs: lr=1e-4 freeze=mid …")
    parser.add_argument("--full", action="store_true", help="write out every choice and value; nothing is inherited")
    parser.add_argument("--force", action="store_true", help="put it in the place of a file that is there")
    asked = parser.parse_intermixed_args(words)
    from tune.config.compose import compose
    from tune.config.tell import written

    tree = ConfigTree.find(asked.config_dir)
    composed = compose(tree, [f"experiment={asked.experiment}", *asked.overrides])
    if composed.problems:
        raise ConfigError(*composed.problems)
    path = _path(asked.dest, asked.config_dir)
    folder, _, name = locate(path)
    if path.exists() and not asked.force:
        raise ConfigError(Problem(files.shown(path), "is there already: --force replaces it", "command line"))
    if name == asked.experiment and not asked.full:
        raise ConfigError(Problem(name, "cannot build on itself: take another name, or --full", "command line"))
    make = written.full if asked.full else written.overlay
    text = make(composed, tree, asked.experiment, asked.overrides)
    before = path.read_text(encoding="utf-8") if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    try:
        own = ConfigTree(folder)
        if not written.is_same(composed, written.compose_file(own, name), tree, own):
            text = "would not compose to the same config from there, so it was not written. Try --full"
            raise ConfigError(Problem(files.shown(path), text))
    except ConfigError:
        path.unlink() if before is None else path.write_text(before, encoding="utf-8")
        raise
    if asked.json:
        print(json.dumps({"file": str(path), "experiment": name, "full": asked.full}))
    else:
        print(f"{files.shown(path)}     run it: tune run +experiment={name}")
    return 0


def _path(dest: str, config_dir: Path | None) -> Path:
    if dest.endswith((".yaml", ".yml")):
        return Path(dest).absolute()
    return Path(config_dir or "conf").absolute() / "experiment" / f"{dest}.yaml"
