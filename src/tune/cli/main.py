"""`tune VERB [--flags] [overrides]`: the table of verbs, and how errors are shown.

Nothing heavy is imported here; a verb's module is imported when the verb is called.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import sys
import threading
from pathlib import Path

VERBS = {
    "run": ("run", "train what a config says; -m sweeps"),
    "resume": ("run", "go on with a run that was killed or interrupted, exactly"),
    "evaluate": ("models.evaluate", "measure the test part of a finished run again, or attack it"),
    "predict": ("models.predict", "what a finished run says of images"),
    "export": ("models.export", "a finished run as ONNX, torch-export or safetensors, with a card"),
    "reproduce": ("models.reproduce", "run a finished run again, and say how far it came out otherwise"),
    "next": ("results.next", "what the curves of a run say, and what to try next"),
    "status": ("results.status", "what runs now and how far it is; of a sweep what failed"),
    "top": ("results.top", "trials of a sweep, or all runs of an experiment, best first"),
    "report": ("results.report", "a page about runs and sweeps: curves, mistakes, calibration, leaderboard"),
    "ls": ("configs.look", "list groups, their options and experiments"),
    "cat": ("configs.look", "print a composed config"),
    "init": ("configs.init", "make a folder with an experiment for photographs of your own"),
    "cp": ("configs.cp", "write an experiment of your own, made from another one"),
    "validate": ("configs.look", "check experiments without running them"),
    "explain": ("configs.explain", "where the value of a key comes from, and who reads it"),
    "doctor": ("before.doctor", "look for what is wrong with a run before it starts"),
    "lr-find": ("before.find", "look for the learning rate, before anything trains"),
    "batch-find": ("before.find", "look for the largest batch that fits"),
    "rank": ("before.rank", "compare backbones on your data before anything trains"),
    "compare": ("results.compare", "finished runs on the same rows: what was set, what came of it, what flipped"),
    "rm": ("results.rm", "remove runs and sweeps, or their checkpoints"),
    "ensemble": ("ensemble", "let finished runs decide together: average, vote, soup, stack"),
    "cache": ("cache", "what frozen networks said of images: ls, build, verify, rm"),
    "completion": ("configs.completion", "make bash, zsh or fish complete verbs, flags, options and runs"),
}

_OF_EVERY_VERB = ("--json", "--quiet", "--traceback")

USAGE = """tune: image transfer learning, written down as YAML

usage: tune VERB [--flags] [overrides]     a word with "=" is an override: tune run data.root=PHOTOS lr=3e-4

{verbs}

  tune run +experiment=quickstart          train on photographs of solar cells, on any CPU
  tune run data.root=DIR                   train on your own: one folder of images per class
  tune run -m lr=1e-4,1e-3 data.root=DIR   a sweep
  tune VERB --help                         flags of a verb        tune --version
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command line. Returns the exit code (0 ok, 2 usage or config; see the README for the others)."""
    # Threads of OpenMP that wait by spinning take the cores from whoever else works on them: with one other busy
    # process on 2 cores a forward pass ran at 12 images/s, at 44 with threads that sleep. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # GNU's OpenMP may spin for some microseconds before it sleeps: 8 % on idle cores, nothing lost on busy ones.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    words = _verb_first(list(sys.argv[1:] if arguments is None else arguments))
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE.format(verbs="\n".join(f"  {verb:<10} {what}" for verb, (_, what) in VERBS.items())))
        return 0
    if words[0] in ("--version", "-V"):
        from tune import __version__

        print(f"tune {__version__}")
        return 0
    verb = words.pop(0) if words[0] in VERBS else ""
    if not verb:
        if not any("=" in word or word.startswith("-") for word in words[:1]):
            return _unknown_verb(words[0])
        verb = "run"
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # modules that the user allows are looked for here, as with python -m
    module = importlib.import_module(f"tune.cli.{VERBS[verb][0]}")
    return guarded(getattr(module, verb.replace("-", "_")), words)


def _verb_first(words: list[str]) -> list[str]:
    """The words with flags that every verb knows behind the first other word, for those who typed them before it."""
    number = next((place for place, word in enumerate(words) if word not in _OF_EVERY_VERB), 0)
    return [words[number], *words[:number], *words[number + 1 :]] if number else words


def entry() -> int:
    """`main` for the console script: the process ends when the answer is out.

    Once torch is loaded an interpreter takes a second to let go of it, which nobody needs to wait for.
    """
    code = main()
    if "torch" in sys.modules and all(t.daemon or t is threading.main_thread() for t in threading.enumerate()):
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(BrokenPipeError, ValueError):  # nobody reads it any more
                stream.flush()
        os._exit(code)
    return code


def guarded(call, words: list[str]) -> int:
    """Call a verb and show what goes wrong: in a few lines, and as JSON where that was asked for."""
    from tune import talk
    from tune.errors import ConfigError, TuneError

    talk.quiet = "--quiet" in words
    try:
        return call(words)
    except ConfigError as error:
        show_problems(error, as_json="--json" in words)
        if "--traceback" in words:
            raise
        return error.exit_code
    except TuneError as error:
        print(f"error: {error}", file=sys.stderr)
        if "--json" in words:
            _print_json({"status": "failed", "cause": str(error)})
        if "--traceback" in words:
            raise
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:
        if "--traceback" in words:
            raise
        first = str(error).splitlines()[0] if str(error) else ""
        print(f"error: {type(error).__name__}: {first}", file=sys.stderr)
        print(f"       {_whose(first)}; --traceback shows where", file=sys.stderr)
        if "--json" in words:
            _print_json({"status": "failed", "cause": f"{type(error).__name__}: {first}"})
        return 1


def show_problems(error, as_json: bool) -> None:
    """Print every problem of a ConfigError: key, where it was written, what to do."""
    count = f"{len(error.problems)} problems" if len(error.problems) != 1 else "1 problem"
    print(f"error: {count}, nothing was started", file=sys.stderr)
    width = max((len(problem.key) for problem in error.problems), default=0)
    for problem in error.problems:
        where = f"({problem.where})  " if problem.where else ""
        print(f"  {problem.key:<{width}}  {where}{problem.text}", file=sys.stderr)
    if as_json:
        from dataclasses import asdict

        _print_json({"status": "refused", "problems": [asdict(problem) for problem in error.problems]})


def _whose(message: str) -> str:
    """Whose mistake an error is that nobody foresaw."""
    if "torchvision::" not in message:
        return "this is a mistake in tune"
    from importlib.metadata import version

    # Its compiled half is not loaded beside another torch than it was built with, and what is in it is then missing.
    both = f"torchvision {version('torchvision')} was not built for torch {version('torch')}"
    return f"{both}: pip install --force-reinstall torch torchvision, both from the same index"


def _print_json(answer: dict[str, object]) -> None:
    import json

    print(json.dumps(answer))


def _unknown_verb(word: str) -> int:
    from difflib import get_close_matches

    near = get_close_matches(word, VERBS, 1)
    hint = f"Did you mean: tune {near[0]}" if near else f"Verbs: {', '.join(VERBS)}"
    print(f"error: {word} is no verb. {hint}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(entry())
