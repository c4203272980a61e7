"""slipstick completion: shell scripts made from the verbs' own tables, so that they cannot fall behind."""

from __future__ import annotations

from . import _verbs
from ._messages import DONE, UsageError, say
from ._parser import Option, Verb, help_option

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from ._parser import Arguments

DESCRIPTION = """
Prints a script that completes slipstick's verbs and options in SHELL.

SHELL is bash, zsh or fish. The script is made by this version of slipstick; print it
again after an upgrade, or evaluate it when the shell starts, as the examples do."""

EXAMPLES = """
bash: eval "$(slipstick completion bash)"      in ~/.bashrc
zsh:  eval "$(slipstick completion zsh)"       in ~/.zshrc, after compinit
fish: slipstick completion fish > ~/.config/fish/completions/slipstick.fish"""

BASH = """\
# bash completion of slipstick
_slipstick() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} verb=${{COMP_WORDS[1]}} offer=
  if (( COMP_CWORD == 1 )); then
    offer="{verbs} --version --help"
  else
    case "$verb $previous" in
{values}    *)
      case "$verb $word" in
{options}      esac ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$offer" -- "$word"))
}}
# Where nothing is offered, files are.
complete -o bashdefault -o default -F _slipstick slipstick
"""

ZSH = """\
#compdef slipstick
_slipstick() {{
  local -a verbs
  verbs=({verbs})
  if (( CURRENT == 2 )); then
    _describe verb verbs
    return
  fi
  local verb=$words[2]
  shift words
  (( CURRENT-- ))
  case $verb in
{cases}  esac
}}
# Both ways to load it: from a folder of completions, or evaluated.
if [[ $funcstack[1] == _slipstick ]]; then _slipstick "$@"; else compdef _slipstick slipstick; fi
"""


def _options_of(verb: Verb) -> tuple[Option, ...]:
    return (*verb.options, help_option(verb).replaced(help="help"))


def bash(verbs: list[Verb]) -> str:
    values, options = [], []
    for verb in verbs:
        for option in verb.options:
            if option.metavar:
                patterns = "|".join(f'"{verb.name} {name}"' for name in option.names)
                values.append(f'    {patterns}) offer="{" ".join(option.choices)}" ;;\n')
        names = " ".join(name for option in _options_of(verb) for name in option.names)
        options.append(f'      "{verb.name} -"*) offer="{names}" ;;\n')
        if verb.operand_choices:
            options.append(f'      "{verb.name} "*) offer="{" ".join(verb.operand_choices)}" ;;\n')
    return BASH.format(verbs=" ".join(verb.name for verb in verbs), values="".join(values), options="".join(options))


def zsh(verbs: list[Verb]) -> str:
    described = " ".join(_quote(f"{verb.name}:{_verbs.SUMMARIES[verb.name]}") for verb in verbs)
    cases = []
    for verb in verbs:
        specifications = [_zsh_option(option) for option in _options_of(verb)]
        action = f"({' '.join(verb.operand_choices)})" if verb.operand_choices else _zsh_files(verb)
        specifications.append(_quote(f"*:{verb.operands[0].lower().rstrip('.')}:{action}"))
        cases.append(f"    {verb.name}) _arguments -s " + " \\\n      ".join(specifications) + " ;;\n")
    return ZSH.format(verbs=described, cases="".join(cases))


def _zsh_option(option: Option) -> str:
    help = option.help.replace("[", "(").replace("]", ")")
    value = ""
    if option.metavar:
        action = f"({' '.join(option.choices)})" if option.choices else "_files" if option.metavar == "OUT" else " "
        value = f":{option.metavar.lower()}:{action}"
    described = _quote(f"[{help}]{value}")
    if len(option.names) == 1:
        return option.names[0] + described
    return f"'({' '.join(option.names)})'{{{','.join(option.names)}}}{described}"


def _zsh_files(verb: Verb) -> str:
    return '_files -g "*.slip(-.)"' if verb.reads_archives else "_files"


def fish(verbs: list[Verb]) -> str:
    lines = ["# fish completion of slipstick"]
    start = "complete -c slipstick -n __fish_use_subcommand -f"
    lines += [f"{start} -a {verb.name} -d {_quote(_verbs.SUMMARIES[verb.name])}" for verb in verbs]
    lines += [f"{start} -s V -l version -d 'the version'", f"{start} -s h -l help -d 'help'"]
    for verb in verbs:
        here = f"complete -c slipstick -n '__fish_seen_subcommand_from {verb.name}'"
        lines += [f"{here} {_fish_option(option)}" for option in _options_of(verb)]
        if verb.operand_choices:
            lines.append(f"{here} -f -a {_quote(' '.join(verb.operand_choices))}")
        elif verb.reads_archives:
            lines.append(f"{here} -f -a '(__fish_complete_suffix .slip)'")
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> str:
    words = []
    for name in option.names:
        words.append(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}")
    if option.choices:
        words.append(f"-x -a {_quote(' '.join(option.choices))}")
    elif option.metavar:
        words.append("-r" if option.metavar == "OUT" else "-x")
    return " ".join(words) + f" -d {_quote(option.help)}"


def _quote(text: str) -> str:
    """For any of the three shells, as long as the text holds no backslash."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}


def run(arguments: Arguments) -> int:
    if len(arguments.operands) != 1 or arguments.operands[0] not in SHELLS:
        got = " ".join(arguments.operands) or "missing"
        raise UsageError(f"SHELL is {got}; expected one of {', '.join(SHELLS)}")
    say(SHELLS[arguments.operands[0]]([_verbs.load(name) for name in _verbs.SUMMARIES]))
    return DONE


VERB = Verb(
    name="completion",
    operands=("SHELL",),
    description=DESCRIPTION,
    options=(),
    examples=EXAMPLES,
    run=run,
    operand_choices=tuple(SHELLS),
)
