"""slipstick recover: the whole blocks of a damaged archive."""

from __future__ import annotations

from slipstick._core import logs as core
from slipstick.logs._assemble import Blocks, joined

from . import _files, _options, _unpack
from ._messages import Complaint, complain, display
from ._parser import Verb

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from ._parser import Arguments

DESCRIPTION = """
Writes an archive of all whole blocks that are in FILE, whatever else is in it.

Every byte is looked at, so that blocks are found behind damage, in a truncated file,
or inside a larger one such as an image of a disk. A block is whole if it decodes to
its checksums; one that continues the block before it needs that one too. FILE.slip is
recovered to FILE.recovered.slip unless -o names another name; FILE stays as it is.
Exit status 2 if there is no whole block."""

EXAMPLES = """
slipstick recover app.log.slip             app.log.recovered.slip appears
slipstick recover -o - broken.slip | slipstick cat"""


def run(arguments: Arguments) -> int:
    paths = _files.inputs(arguments)
    _files.check_single_output(paths, arguments.output)
    return _files.for_each(paths, lambda path: _recover(path, arguments), writes=True)


def _recover(path: str, arguments: Arguments) -> None:
    if path == _files.STREAM and arguments.output is None:
        raise Complaint("is a stream; give the output's name with -o")
    with _files.Input(path) as source:
        data = _unpack.content(source)
        archive = core.Archive(data, recover=True, threads=arguments.threads or 0)
        blocks = [archive.block(index) for index in range(archive.block_count)]
        if not blocks:
            raise Complaint(f"has no whole block in its {len(data)} bytes")
        target = path.removesuffix(_files.SUFFIX) + ".recovered" + _files.SUFFIX if arguments.output is None else arguments.output
        with _files.open_output(source, target, force=arguments.force, binary=True) as output:
            for piece in joined(archive.level, [Blocks(data, archive)]):
                output.write(piece)
    if not arguments.quiet:
        kept = sum(block["archive_bytes"] for block in blocks)
        raw = sum(block["raw_bytes"] for block in blocks)
        whole = "1 whole block" if len(blocks) == 1 else f"{len(blocks)} whole blocks"
        complain(display(path), f"{whole}, {raw} raw bytes; {len(data) - kept} of {len(data)} bytes are in none of them")
        if archive.orphans:
            complain(display(path), f"{archive.orphans} more blocks continue one that is lost, and are lost with it")


VERB = Verb(
    name="recover",
    operands=("FILE.slip...", "-"),
    description=DESCRIPTION,
    options=(_options.OUTPUT, _options.THREADS, _options.FORCE, _options.QUIET),
    examples=EXAMPLES,
    run=run,
)
