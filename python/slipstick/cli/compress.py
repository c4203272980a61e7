"""slipstick compress: packs logs, each into an archive of its own."""

from __future__ import annotations

import os
import sys

from slipstick.logs._foreign import SUFFIXES
from slipstick.logs._stream import compress_chunks

from . import _files, _options
from ._messages import FAILED, Complaint, UsageError, complain, display, is_terminal, reason
from ._parser import Option, Verb

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._parser import Arguments

DESCRIPTION = """
Packs each FILE into FILE.slip, keeping FILE, its mode and its time.

Any bytes come back exactly: line ends, NULs, invalid text. Files that gzip, zstd,
xz or bzip2 packed are read directly and packed as what they hold: app.log.gz
becomes app.log.slip. An output appears under its name only when it is whole.
Without FILE, or for -, standard input is packed to standard output, in memory
that does not grow with the input. -r packs the files in folders too, except
archives and links; --into packs all inputs, in order and as cat joins them, into one archive."""

EXAMPLES = """
slipstick compress app.log                 app.log.slip appears beside it
slipstick compress -l fast *.log.gz        repack what logrotate left
slipstick compress -r /var/log/app         each file in it into an archive
slipstick compress --into 2024.slip app-2024-*.log
journalctl | slipstick compress -o day.slip -
slipstick cat app.log.slip | less          read it again"""


RECURSIVE = Option(("-r", "--recursive"), "pack the files in folders")
INTO = Option(("--into",), "pack all inputs into the archive OUT", metavar="OUT", parse=_options.parse_filled)


def run(arguments: Arguments) -> int:
    paths = _files.inputs(arguments)
    unread: list[OSError] = []
    if arguments.recursive:
        paths = [file for path in paths for file in _files_in(path, unread)]
    for error in unread:
        complain(display(str(error.filename)), reason(error))
    if arguments.into is not None:
        if arguments.output is not None:
            raise UsageError("-o and --into exclude each other")
        if unread:
            return FAILED  # one archive of everything is not made of less
        return _files.for_each([arguments.into], lambda path: _compress_all(paths, path, arguments), writes=True)
    _files.check_single_output(paths, arguments.output)
    written: set[str] = set()
    code = _files.for_each(paths, lambda path: _compress(path, arguments, written), writes=True)
    return FAILED if unread else code


def _files_in(path: str, unread: list[OSError]) -> Iterator[str]:
    """The path itself, or what is worth packing in a folder, in an order that does not depend on the file system; folders that cannot be
    read are added to unread."""
    if not os.path.isdir(path):
        yield path
        return
    for folder, folders, names in os.walk(path, onerror=unread.append):
        folders.sort()
        for name in sorted(names):
            file = os.path.join(folder, name)
            if os.path.isfile(file) and not os.path.islink(file) and not name.endswith((_files.SUFFIX, ".tmp")):
                yield file


def _compress_all(paths: list[str], target: str, arguments: Arguments) -> None:
    if target != _files.STREAM and os.path.exists(target):
        for path in paths:
            if os.path.exists(path) and os.path.samefile(path, target):
                raise Complaint(f"is the input {path} too")

    def raw() -> Iterator[bytes]:
        for path in paths:
            if os.path.isdir(path):
                raise Complaint(f"input {display(path)}: is a directory; -r packs the files in it")
            with _files.Blamed(path), _files.Input(path) as source, source.progress(arguments.quiet) as progress:
                if source.source.format == "slipstick" and not arguments.force:
                    raise Complaint("is a slipstick archive already; concat joins archives, -f packs it once more")
                yield from _files.watched(source.source.plain_chunks(), source, progress)

    with _files.new_output(target, force=arguments.force) as output:
        for piece in compress_chunks(raw(), level=arguments.level, threads=arguments.threads or 0):
            output.write(piece)


def _compress(path: str, arguments: Arguments, written: set[str]) -> None:
    """Packs one input. written: the archives of the inputs before it, which -f does not mean."""
    if arguments.output is None and path != _files.STREAM:
        _files.require_regular(path)
    with _files.Input(path) as source:
        if source.source.format == "slipstick" and not arguments.force:
            raise Complaint("is a slipstick archive already; -f packs it once more")
        target = _archive_name(path, source.source.format) if arguments.output is None else arguments.output
        if target != _files.STREAM:
            if os.path.realpath(target) in written:
                raise Complaint(f"{display(target)} is the archive of another input already")
            written.add(os.path.realpath(target))
        with (
            source.progress(arguments.quiet) as progress,
            _files.open_output(source, target, force=arguments.force, binary=True) as output,
        ):
            raw_bytes = archive_bytes = 0

            def counted() -> Iterator[bytes]:
                nonlocal raw_bytes
                for chunk in _files.watched(source.source.plain_chunks(), source, progress):
                    raw_bytes += len(chunk)
                    yield chunk

            for piece in compress_chunks(counted(), level=arguments.level, threads=arguments.threads or 0):
                output.write(piece)
                archive_bytes += len(piece)
    if not arguments.quiet and is_terminal(sys.stderr):
        _summarise(path, raw_bytes, archive_bytes)


def _archive_name(path: str, format: str) -> str:
    if path == _files.STREAM:
        return _files.STREAM
    return path.removesuffix(SUFFIXES.get(format, "")) + _files.SUFFIX


def _summarise(path: str, raw_bytes: int, archive_bytes: int) -> None:
    from ._progress import short_size

    ratio = f", ratio {raw_bytes / archive_bytes:.1f}"
    sys.stderr.write(f"{display(path)}: {short_size(raw_bytes)} to {short_size(archive_bytes)}{ratio}\n")


VERB = Verb(
    name="compress",
    operands=("FILE...", "-"),
    description=DESCRIPTION,
    options=(_options.LEVEL, _options.OUTPUT, INTO, RECURSIVE, _options.THREADS, _options.FORCE, _options.QUIET),
    examples=EXAMPLES,
    run=run,
)
