"""The options that verbs share, each declared once."""

from __future__ import annotations

from slipstick._arguments import MOST_THREADS
from slipstick.logs import LEVELS

from . import _messages
from ._parser import Option


def parse_size(text: str) -> int:
    """Bytes of "300M", "1.5G", "4096": units of 1024, written K or KiB, or of 1000, written KB."""
    import re

    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:([kmgt])(ib|b)?|b)?", text, re.IGNORECASE)
    size = 0.0
    if match:
        number, prefix, unit = match.groups()
        power = "kmgt".index(prefix.lower()) + 1 if prefix else 0
        size = float(number) * (1000 if unit and unit.lower() == "b" else 1024) ** power
    if not 1 <= size < 1 << 63:
        raise _messages.UsageError(f"{text!r} is not a size; expected a number of bytes such as 300M or 2G")
    return int(size)


def parse_count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise _messages.UsageError(f"{text!r} is not a count; expected a positive integer")
    return count


def parse_threads(text: str) -> int:
    count = parse_count(text)
    if count > MOST_THREADS:
        raise _messages.UsageError(f"{text!r} is too many; expected at most {MOST_THREADS}")
    return count


def parse_filled(text: str) -> str:
    """Any text but none: an unset variable of a script must not mean the default."""
    if not text:
        raise _messages.UsageError("is empty")
    return text


def parse_time(text: str) -> str:
    """The text of a time that the core understands."""
    from slipstick._core import logs as core

    parse_filled(text)
    try:
        core.Grep(core.Archive(core.Compressor("fast").finish()), b"", since=text)
    except (TypeError, ValueError) as error:  # TypeError: of bytes that are no text
        raise _messages.UsageError(_messages.display(str(error).splitlines()[0])) from None
    return text


LEVEL = Option(
    ("-l", "--level"),
    "effort",
    details="fast packs above 100 MB/s a core; default takes about three times as long for a smaller archive. Both unpack about "
    "three times as fast as they pack. max is the smallest, at a few MB/s, and unpacking takes about as long as packing.",
    metavar="LEVEL",
    default="default",
    choices=LEVELS,
)

OUTPUT = Option(
    ("-o", "--output"),
    "write to OUT (- is standard output), for one input",
    metavar="OUT",
    parse=parse_filled,
)

THREADS = Option(
    ("-j", "--threads"),
    "threads (default: one a core)",
    details="The default is SLIPSTICK_NUM_THREADS, else the cores that this process may use. Does not change a byte "
    "of the result. Each thread needs memory for the block it works on.",
    metavar="N",
    parse=parse_threads,
)

FORCE = Option(
    ("-f", "--force"),
    "overwrite files that exist",
)

QUIET = Option(
    ("-q", "--quiet"),
    "no progress and no summary; errors are told",
)

MAX_MEMORY = Option(
    ("--max-memory",),
    "refuse what needs more memory, such as 300M",
    metavar="SIZE",
    parse=parse_size,
)

MAX_OUTPUT = Option(
    ("--max-output",),
    "refuse what unpacks to more bytes, such as 2G",
    details="Counted for each archive. Use it, and --max-memory, for archives from people you do not trust.",
    metavar="SIZE",
    parse=parse_size,
)

_TIMES = "Times are compared as they are written in the log, whatever its zone; where one side has no year, years do not count. "

SINCE = Option(
    ("--after",),
    "only lines of this time and later",
    details=_TIMES + "A line without a time has that of the line before it. Written as in logs: '2024-05-01 12:00:00', "
    "'2024-05-01', 'May 1 12:00', 1714564800. Blocks out of range are not decoded.",
    metavar="TIME",
    parse=parse_time,
)

UNTIL = Option(
    ("--before",),
    "only lines earlier than this time",
    metavar="TIME",
    parse=parse_time,
)
