"""slipstick demo: shows in under a minute a room what it does, on data that is here."""

from __future__ import annotations

from slipstick import demos

from ._messages import DONE, FAILED, UsageError, complain, display, line_width, say
from ._parser import Verb, similar

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from ._parser import Arguments

DESCRIPTION = """
Shows what slipstick does, beside what one would use today: time, size, error.

Measures on this machine, now, under a minute a room, on data that is here already.
Without ROOM, all rooms are shown. A room whose packages are not installed says which
are missing, and the exit status is then 2."""

EXAMPLES = """
slipstick demo
slipstick demo logs"""


def run(arguments: Arguments) -> int:
    for name in arguments.operands:
        if name not in demos.ROOMS:
            raise UsageError(f"unknown room {display(name)}{similar(name, demos.ROOMS)}; expected some of {', '.join(demos.ROOMS)}")
    status = DONE
    for room in arguments.operands or demos.ROOMS:
        try:
            say(demos.run(room).text(line_width(demos.WIDTH)) + "\n")
        except demos.MissingError as missing:
            complain("demo", room, str(missing))
            status = FAILED
    return status


VERB = Verb(
    name="demo",
    operands=("[ROOM...]",),
    description=DESCRIPTION,
    options=(),
    examples=EXAMPLES,
    run=run,
    operand_choices=demos.ROOMS,
)
