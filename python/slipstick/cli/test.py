"""slipstick test: decodes archives and compares every checksum, writing nothing."""

from __future__ import annotations

from . import _files, _options, _unpack
from ._messages import display, say
from ._parser import Verb

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from ._parser import Arguments

DESCRIPTION = """
Decodes each FILE.slip, compares every checksum, and writes no file.

Prints a line for each archive that is whole. Takes as long as decompress."""

EXAMPLES = """
slipstick test *.slip
slipstick test -q app.log.slip && rm app.log"""


def run(arguments: Arguments) -> int:
    return _files.for_each(_files.inputs(arguments), lambda path: _test(path, arguments))


def _test(path: str, arguments: Arguments) -> None:
    with _files.Input(path) as source, source.progress(arguments.quiet) as progress:
        raw_bytes = sum(len(piece) for piece in _unpack.decoded(source, arguments, progress))
    if not arguments.quiet:
        say(f"{display(path)}: whole, {raw_bytes} bytes\n")


VERB = Verb(
    name="test",
    operands=("FILE.slip...", "-"),
    description=DESCRIPTION,
    options=(*_unpack.LIMITS, _options.QUIET),
    examples=EXAMPLES,
    run=run,
)
