"""slipstick cat: writes what archives hold to standard output."""

from __future__ import annotations

from . import _files, _options, _unpack
from ._messages import Complaint, UsageError
from ._parser import Option, Verb

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._parser import Arguments

DESCRIPTION = """
Writes what each FILE.slip holds to standard output, one after the other.

A damaged archive gives the blocks before the damage, an error, and exit status 2.
With --lines, --after and --before only the blocks that hold such lines are decoded."""

EXAMPLES = """
slipstick cat app.log.slip | less
slipstick cat app.log.*.slip | grep ERROR
slipstick cat --lines 1000:1020 app.log.slip
slipstick cat --after '2024-05-01 06:00' --before '2024-05-01 06:05' a.slip
ssh host cat app.log.slip | slipstick cat -"""


def parse_lines(text: str) -> tuple[int | None, int | None]:
    """ "A:B": lines A to B, counted from 1, both included; "A:", ":B", and "-A:" for the last A lines."""
    import re

    match = re.fullmatch(r"(-?\d{1,18})?:(\d{1,18})?|(\d{1,18})", text)
    if not match or text == ":":
        raise UsageError(f"{text!r} is no range of lines; expected A:B, A:, :B, A, or -N: for the last N")
    first, last, only = (int(number) if number else None for number in match.groups())
    if only is not None:
        first = last = only
    if first == 0 or last == 0:
        raise UsageError(f"{text!r} has a line 0; lines are counted from 1")
    if first is not None and first > 0:
        first -= 1
    elif first is not None and last is not None:
        raise UsageError(f"{text!r} mixes both ends; expected -N: for the last N lines")
    return first, last


LINES = Option(
    ("--lines",),
    "lines A to B only, counted from 1",
    details="A: goes to the end, :B begins at the first line, A is one line, -N: is the last N lines. Each archive is counted by itself.",
    metavar="A:B",
    parse=parse_lines,
)


def run(arguments: Arguments) -> int:
    timed = arguments.after is not None or arguments.before is not None
    if timed and arguments.lines is not None:
        raise UsageError("--lines and times exclude each other")
    work = _cat_times if timed else _cat if arguments.lines is None else _cat_lines
    return _files.for_each(_files.inputs(arguments), lambda path: work(path, arguments))


def _cat(path: str, arguments: Arguments) -> None:
    with _files.Input(path) as source, source.progress(quiet=True) as progress:
        output = _files.Stdout()
        for piece in _unpack.decoded(source, arguments, progress):
            output.write(piece)


def _cat_lines(path: str, arguments: Arguments) -> None:
    from slipstick.logs._archive import line_pieces

    archive = _unpack.archive(path)
    _unpack.check_limits(archive, arguments)
    start, stop, _ = slice(*arguments.lines).indices(archive.lines)
    _write(line_pieces(archive, start, stop), arguments)


def _cat_times(path: str, arguments: Arguments) -> None:
    from slipstick._core import logs as core

    grep = core.Grep(
        _unpack.archive(path),
        b"",
        max_memory=arguments.max_memory or 0,
        since=arguments.after or "",
        until=arguments.before or "",
        threads=arguments.threads or 0,
    )
    _write((batch.text() for batch in iter(grep.next, None)), arguments)


def _write(pieces: Iterable[bytes], arguments: Arguments) -> None:
    output = _files.Stdout()
    written = 0
    for piece in pieces:
        written += len(piece)
        if arguments.max_output and written > arguments.max_output:
            raise Complaint(f"the output is more than {arguments.max_output} bytes, the limit that was set")
        output.write(piece)


VERB = Verb(
    name="cat",
    operands=("FILE.slip...", "-"),
    description=DESCRIPTION,
    options=(LINES, _options.SINCE, _options.UNTIL, *_unpack.LIMITS),
    examples=EXAMPLES,
    run=run,
)
