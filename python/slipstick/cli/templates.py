"""slipstick templates: what kinds of lines archives hold, and how many of each."""

from __future__ import annotations

from . import _files, _options, _unpack
from ._messages import display, say
from ._parser import Option, Verb

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from typing import Any

    from ._parser import Arguments

DESCRIPTION = """
Prints the templates that each FILE.slip found in its lines, the frequent ones first.

A template is the text that lines share, with <*> for what varies. Each is printed
with its number of lines, their share of all lines, and the first line that has it.
Lines of blocks that were stored without a model have none. Decodes every block."""

EXAMPLES = """
slipstick templates app.log.slip | head -n 20
slipstick templates --json app.log.slip | jq -r 'select(.count == 1).example'"""

JSON = Option(
    ("--json",),
    "one JSON object for each template, each on a line",
    details="Keys: path, template, count, share (of the archive's lines, 0 to 1), example. Bytes that are not UTF-8 become \\xNN.",
)

MOST = Option(("-m", "--most"), "at most N templates of each archive", metavar="N", parse=_options.parse_count)


def run(arguments: Arguments) -> int:
    return _files.for_each(_files.inputs(arguments), lambda path: _show(path, arguments))


def _show(path: str, arguments: Arguments) -> None:
    archive = _unpack.archive(path)
    templates, lines = archive.templates(), archive.lines
    templates = templates[: arguments.most]
    if arguments.json:
        import json

        for each in templates:
            say(json.dumps(_as_json(path, each, lines)) + "\n")
        return
    say(f"{'lines':>12} {'share':>7}  template and example\n")
    for each in templates:
        say(f"{each['count']:>12,} {each['count'] / lines:>7.2%}  {_text(each['text'])}\n{'':>22}{_text(each['example'])}\n")


def _as_json(path: str, each: dict[str, Any], lines: int) -> dict[str, Any]:
    return {
        "path": display(path),
        "template": each["text"].decode("utf-8", "backslashreplace"),
        "count": each["count"],
        "share": each["count"] / lines,
        "example": each["example"].decode("utf-8", "backslashreplace"),
    }


def _text(data: bytes) -> str:
    return display(data.decode("utf-8", "surrogateescape"))


VERB = Verb(
    name="templates",
    operands=("FILE.slip...", "-"),
    description=DESCRIPTION,
    options=(JSON, MOST),
    examples=EXAMPLES,
    run=run,
)
