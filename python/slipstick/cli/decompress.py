"""slipstick decompress: gives back the file that an archive holds."""

from __future__ import annotations

from . import _files, _options, _unpack
from ._messages import Complaint
from ._parser import Verb

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from ._parser import Arguments

DESCRIPTION = """
Unpacks each FILE.slip into FILE, keeping FILE.slip; mode and time are kept too.

Checksums are compared on the way; an output appears under its name only when all of
it is right. Without FILE, or for -, an archive is read from standard input and
unpacked to standard output, block by block."""

EXAMPLES = """
slipstick decompress app.log.slip          app.log is back
slipstick decompress -o - app.log.slip     the same as slipstick cat
slipstick decompress --max-output 2G --max-memory 500M upload.slip"""


def run(arguments: Arguments) -> int:
    paths = _files.inputs(arguments)
    _files.check_single_output(paths, arguments.output)
    return _files.for_each(paths, lambda path: _decompress(path, arguments), writes=True)


def _decompress(path: str, arguments: Arguments) -> None:
    if arguments.output is None and path != _files.STREAM:
        _files.require_regular(path)
    with _files.Input(path) as source, source.progress(arguments.quiet) as progress:
        pieces = _unpack.decoded(source, arguments, progress)
        target = _plain_name(path) if arguments.output is None else arguments.output
        with _files.open_output(source, target, force=arguments.force, binary=False) as output:
            for piece in pieces:
                output.write(piece)


def _plain_name(path: str) -> str:
    if path == _files.STREAM:
        return _files.STREAM
    plain = path.removesuffix(_files.SUFFIX)
    if plain == path or not plain or plain.endswith("/"):
        raise Complaint(f"name does not end in {_files.SUFFIX}; give the output's name with -o")
    return plain


VERB = Verb(
    name="decompress",
    operands=("FILE.slip...", "-"),
    description=DESCRIPTION,
    options=(_options.OUTPUT, *_unpack.LIMITS, _options.FORCE, _options.QUIET),
    examples=EXAMPLES,
    run=run,
)
