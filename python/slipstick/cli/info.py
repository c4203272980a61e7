"""slipstick info: what archives hold and where their bytes went."""

from __future__ import annotations

import sys

from . import _files, _unpack
from ._messages import Complaint, UsageError, display, fold, line_width, say
from ._parser import Option, Verb

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from typing import Any

    from ._parser import Arguments

STREAMS_SHOWN = 16  # the largest; with the lines above them they fit a screen
LABEL_COLUMN = 13

DESCRIPTION = """
Prints what each FILE.slip holds: ratio, lines, templates, where the bytes went.

Sizes are bytes; a ratio is raw bytes by archive bytes. Decodes every block to count
templates and columns, so it takes as long as test."""

EXAMPLES = """
slipstick info app.log.slip
slipstick info --json *.slip | python3 -m json.tool"""

JSON = Option(
    ("--json",),
    "one JSON object for each archive, each on a line",
    details="Keys: path and those of slipstick.logs.Archive.info(), ratio.",
)

ALL = Option(
    ("-a", "--all"),
    f"every stream, not only the {STREAMS_SHOWN} largest",
)


def run(arguments: Arguments) -> int:
    if not arguments.operands:
        raise UsageError("no FILE given")
    shown: list[dict[str, Any]] = []
    code = _files.for_each(arguments.operands, lambda path: shown.append(_show(path, arguments)))
    if len(shown) > 1 and not arguments.json:
        say(_format_total(shown, line_width(sys.maxsize)))
    return code


def _show(path: str, arguments: Arguments) -> dict[str, Any]:
    if path == _files.STREAM:
        raise Complaint("is a stream; info needs a file")
    with _files.Input(path) as source:  # for its messages about what is no file or no archive
        if not source.is_file:
            raise Complaint("is not a regular file; info needs one")
        if source.source.format != "slipstick":
            raise Complaint(_unpack.not_an_archive(source))
    from slipstick.logs import Archive

    with Archive(path) as archive:
        info = archive.info()
    if arguments.json:
        import json

        say(json.dumps({"path": display(path), **info, "ratio": _ratio(info)}) + "\n")
    else:
        say(_format(path, info, len(info["streams"]) if arguments.all else STREAMS_SHOWN, line_width(sys.maxsize)))
    return info


def _ratio(info: dict[str, Any]) -> float:
    return info["raw_bytes"] / info["archive_bytes"]


def _format(path: str, info: dict[str, Any], most_streams: int, width: int = sys.maxsize) -> str:
    """In lines of at most width characters, at least LEAST_COLUMNS, where no name is longer."""
    continued = f" ({info['continued']:,} continue the one before)" if info["continued"] else ""
    lines = [
        display(path),
        *_line("raw", f"{info['raw_bytes']:,} bytes, {info['lines']:,} lines", width),
        *_line("archive", f"{info['archive_bytes']:,} bytes, ratio {_ratio(info):.2f}", width),
        *_line("blocks", f"{info['blocks']:,}{continued}, level {info['level']}, format version {info['version']}", width),
        *_line("templates", f"{info['templates']:,}", width),
    ]
    rows: list[tuple[str, ...]]
    if info["categories"]:
        rows = [(f"{size:,}", _share(size, info), name) for name, size in sorted(info["categories"].items(), key=lambda item: -item[1])]
        lines += ["", *_table(("archive", "share", "where the bytes went"), rows, width)]
    if info["streams"]:
        streams = sorted(info["streams"], key=lambda stream: -stream["archive_bytes"])
        rows = []
        for stream in streams[:most_streams]:
            size, name = stream["archive_bytes"], f"{display(stream['name'])} ({stream['kind']})"
            rows.append((f"{size:,}", _share(size, info), f"{stream['raw_bytes']:,}", name))
        lines += ["", *_table(("archive", "share", "raw", "stream"), rows, width)]
        if len(streams) > most_streams:
            lines += fold(f"and {len(streams) - most_streams} smaller streams (-a shows them)", width, "  ").splitlines()
    return "\n".join(lines) + "\n\n"


def _line(label: str, text: str, width: int) -> list[str]:
    lines = fold(text, width, " " * LABEL_COLUMN).splitlines()
    return [f"  {label}".ljust(LABEL_COLUMN) + lines[0][LABEL_COLUMN:], *lines[1:]]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]], width: int) -> list[str]:
    """Figures, and a name behind them or, where not all lines have room for it, above."""
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    beside = sum(widths) + len(widths) + 2 <= width
    lines = []
    for *figures, name in (head, *rows):
        line = "  " + " ".join(figure.rjust(wide) for figure, wide in zip(figures, widths))
        if beside:
            lines.append(f"{line}  {name}")
            continue
        above = [f"  {name}"] if len(name) + 2 <= width else fold(name, width, "  ").splitlines()
        lines += [*above, f"  {line}" if len(line) + 2 <= width else line]
    return lines


def _share(size: int, info: dict[str, Any]) -> str:
    return f"{size / info['archive_bytes']:.1%}"


def _format_total(infos: list[dict[str, Any]], width: int) -> str:
    total = {key: sum(info[key] for info in infos) for key in ("raw_bytes", "archive_bytes", "lines")}
    return fold(
        f"{len(infos)} archives: {total['raw_bytes']:,} bytes, {total['lines']:,} lines"
        f" in {total['archive_bytes']:,} bytes, ratio {_ratio(total):.2f}",
        width,
    )


VERB = Verb(
    name="info",
    operands=("FILE.slip...",),
    description=DESCRIPTION,
    options=(JSON, ALL),
    examples=EXAMPLES,
    run=run,
)
