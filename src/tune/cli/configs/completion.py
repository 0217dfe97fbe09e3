"""`tune completion SHELL`: a script for the shell; and what may stand next on a line (`--for LINE`), which it asks for.

Neither Hydra nor torch is imported: a Tab must not take longer than a fifth of a second.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from tune.cli.arguments import parser_of
from tune.errors import ConfigError, Problem

BASH = r"""# eval "$(tune completion bash)", for example in ~/.bashrc
_tune() {
    local line="${COMP_LINE:0:COMP_POINT}" word before="" breaks="" each
    word="${line##*[[:space:]]}"
    for each in = :; do [[ "$COMP_WORDBREAKS" == *"$each"* ]] && breaks+="$each"; done
    # Readline replaces only what stands behind the last of its breaks.
    [[ -n "$breaks" && "$word" == *["$breaks"]* ]] && before="${word%"${word##*["$breaks"]}"}"
    local IFS=$'\n'
    COMPREPLY=($("${COMP_WORDS[0]}" completion --for "$line" 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
    [[ ${#COMPREPLY[@]} == 1 && "${COMPREPLY[0]}" != *[=./:] ]] && COMPREPLY=("${COMPREPLY[0]} ")
}
complete -o nospace -o bashdefault -o default -F _tune tune tunex
"""

ZSH = r"""#compdef tune tunex
# eval "$(tune completion zsh)" behind compinit, for example in ~/.zshrc
_tune() {
    local -a found open
    found=("${(@f)$("${words[1]}" completion --for "${LBUFFER}" 2>/dev/null)}")
    found=(${found:#})
    (( $#found )) || { _files; return }
    open=(${(M)found:#*[=./:]})
    found=(${found:#*[=./:]})
    (( $#open )) && compadd -S '' -a open
    (( $#found )) && compadd -a found
}
compdef _tune tune tunex
"""

FISH = r"""# tune completion fish | source, for example in ~/.config/fish/config.fish
function __tune_words
    set -l line (commandline -cp)
    set -l name (string split ' ' -- $line)[1]
    $name completion --for "$line" 2>/dev/null
end
complete -c tune -a '(__tune_words)'
complete -c tunex -a '(__tune_words)'
"""

SHELLS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def completion(words: list[str]) -> int:
    """`tune completion bash|zsh|fish`. Returns the exit code."""
    parser = parser_of("completion", "Print what makes a shell complete verbs, flags, groups, options and runs.")
    parser.add_argument("shell", nargs="?", choices=sorted(SHELLS), help="the shell that is to read it")
    parser.add_argument("--for", metavar="LINE", dest="line", help="print what may stand where this line ends")
    asked = parser.parse_intermixed_args(words)
    if asked.line is not None:
        from tune.cli.configs.candidates import candidates

        print("\n".join(candidates(*split(asked.line), Path.cwd())))
    elif asked.shell is None:
        raise ConfigError(Problem("SHELL", "say which: bash, zsh or fish", "command line"))
    else:
        print(SHELLS[asked.shell], end="")
    return 0


def split(line: str) -> tuple[list[str], str]:
    """The words of a line behind the command that are finished, and the one that the cursor stands at."""
    before, last = line, ""
    if line and not line[-1].isspace():
        before, _, last = line.rpartition(line[max(line.rfind(" "), line.rfind("\t"))] if " " in line else " ")
    try:
        words = shlex.split(before)
    except ValueError:  # a quote that is still open
        words = before.split()
    return words[1:], last
