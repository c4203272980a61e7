"""slipstick concat: archives joined to one, without decoding them."""

from __future__ import annotations

from slipstick._core import logs as core
from slipstick.logs._assemble import Blocks, joined

from . import _files, _options, _unpack
from ._messages import Status, UsageError
from ._parser import Verb
from ._signals import unwinding

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from ._parser import Arguments

DESCRIPTION = """
Joins archives to one that holds what they hold, one after the other.

Blocks are copied as they are, which takes as long as copying files. (The same bytes
come out of cat a.slip b.slip > c.slip, an archive too; concat writes one index, and
looks at the indexes it was given.) OUT appears under its name only when it is whole."""

EXAMPLES = """
slipstick concat -o week.slip mon.slip tue.slip wed.slip
slipstick concat -o - part-*.slip | ssh host 'cat > all.slip'"""


def run(arguments: Arguments) -> int:
    if not arguments.operands:
        raise UsageError("no FILE given")
    if arguments.output is None:
        raise UsageError("no output given; -o names it")
    with unwinding():
        return _concat(arguments)


def _concat(arguments: Arguments) -> int:
    status = Status()
    parts = []
    for path in arguments.operands:
        with status.watch(path):
            data = _unpack.mapped(path)
            parts.append(Blocks(data, core.Archive(data)))
    if len(parts) < len(arguments.operands):
        return status.code  # half of what was asked for is no answer
    with status.watch(arguments.output), _files.new_output(arguments.output, force=arguments.force) as output:
        for piece in joined(parts[0].archive.level, parts):
            output.write(piece)
    return status.code


VERB = Verb(
    name="concat",
    operands=("FILE.slip...",),
    description=DESCRIPTION,
    options=(_options.OUTPUT.replaced(help="write to OUT (- is standard output)"), _options.FORCE),
    examples=EXAMPLES,
    run=run,
)
