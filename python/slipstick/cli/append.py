"""slipstick append: more log at the end of an archive."""

from __future__ import annotations

import mmap

from slipstick.logs._assemble import appended, replaced

from . import _files, _options, _unpack
from ._messages import Complaint, UsageError
from ._parser import Verb

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._parser import Arguments

DESCRIPTION = """
Packs each FILE, in order, behind what ARCHIVE.slip holds.

ARCHIVE.slip is replaced by its successor only when that is whole: a killed append
leaves it as it was (and perhaps a file .slipstick-*.tmp beside it). A second append
to it waits for the first. Blocks that exist are copied, not decoded, but for a small
last one, which is packed anew with what follows. Files that gzip, zstd, xz or bzip2
packed are read directly. Without FILE, or for -, standard input is appended. The
level is that of the archive unless -l names one."""

EXAMPLES = """
slipstick append app.log.slip app.log.1
journalctl --since yesterday | slipstick append journal.slip"""

LEVEL = _options.LEVEL.replaced(default=None)


def run(arguments: Arguments) -> int:
    if not arguments.operands:
        raise UsageError("no ARCHIVE given")
    target, *arguments.operands = arguments.operands
    if target == _files.STREAM:
        raise UsageError("ARCHIVE is a stream; expected a file")
    paths = _files.inputs(arguments)
    return _files.for_each([target], lambda path: _append(path, paths, arguments), writes=True)


def _append(target: str, paths: list[str], arguments: Arguments) -> None:
    with _files.Input(target) as source:  # for its messages about what is no archive
        if source.source.format != "slipstick":
            raise Complaint(_unpack.not_an_archive(source))
        if source.stat is None:
            raise Complaint("is not a regular file; append needs one")
    with replaced(target) as (file, output):
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        for piece in appended(data, _raw(paths, arguments), level=arguments.level, threads=arguments.threads or 0):
            output.write(piece)


def _raw(paths: list[str], arguments: Arguments) -> Iterator[bytes]:
    for path in paths:
        with _files.Blamed(path), _files.Input(path) as source, source.progress(arguments.quiet) as progress:
            if source.source.format == "slipstick":
                raise Complaint("is an archive; concat joins archives")
            yield from _files.watched(source.source.plain_chunks(), source, progress)


VERB = Verb(
    name="append",
    operands=("ARCHIVE.slip FILE...", "ARCHIVE.slip -"),
    description=DESCRIPTION,
    options=(LEVEL, _options.THREADS, _options.QUIET),
    examples=EXAMPLES,
    run=run,
)
