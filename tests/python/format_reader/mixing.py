"""FORMAT.md, section 12.1: logits, inputs, mixers and apms of method `max`."""

from __future__ import annotations

from collections.abc import Sequence

from format_reader.coder import WEIGHT, Cell

LIMIT = 1535


def squash_table() -> list[int]:
    """Of a logit + LIMIT."""
    odds, upper = 2**32, []
    for _ in range(LIMIT + 1):
        upper.append(min(65535, ((odds >> 8) << 16) // (odds + 2**32 >> 8)))
        odds += (odds >> 12) * 33685846 >> 20
    return [65536 - p for p in upper[:0:-1]] + upper


SQUASH = squash_table()


def squash(logit: int) -> int:
    return SQUASH[logit + LIMIT]


def stretch_table() -> list[int]:
    table, x = [], -LIMIT
    for p in range(4096):
        while x < LIMIT and squash(x) < 16 * p + 8:
            x += 1
        table.append(x)
    return table


STRETCH = stretch_table()


def hold(value: int, limit: int) -> int:
    return min(max(value, -limit), limit)


def lean(s: Cell, g: Cell) -> int:
    return s.one if s.count >= 30 else g.one + ((s.one - g.one) * WEIGHT[s.count] >> 16)


def inputs_of(cell: Cell) -> tuple[int, int]:
    n = min(cell.count, 63)
    t = 2560 * n // (10 * n + 4)
    return STRETCH[cell.one >> 10] * t >> 8, ((cell.one >> 12) - 512) * t >> 8


class Mixer:
    def __init__(self, first: int) -> None:
        self.first = first
        self.shared: dict[int, list[int]] = {}
        self.own: dict[int, list[int]] = {}

    def mix(self, inputs: Sequence[int], shared: int, own: int) -> int:
        self.inputs = inputs
        self.sets = self.shared.setdefault(shared, [self.first] * len(inputs)), self.own.setdefault(own, [0] * len(inputs))
        self.logit = hold(sum((a + b >> 8) * i for a, b, i in zip(*self.sets, inputs)) >> 12, LIMIT)
        return self.logit

    def teach(self, bit: int, rate: int) -> None:
        e = ((65535 if bit else 0) - squash(self.logit)) * rate >> 5
        if -8 < e < 8:
            return
        e = hold(e, 32767)
        for weights in self.sets:
            weights[:] = [hold(weight + (i * e + 128 >> 8), 2**22 - 1) for weight, i in zip(weights, self.inputs)]


class Apm:
    def __init__(self) -> None:
        self.rows: dict[int, list[int]] = {}

    def refine(self, logit: int, context: int) -> int:
        self.row = self.rows.setdefault(context, [squash(hold((i - 12) * 128, LIMIT)) for i in range(25)])
        i, w = divmod(logit + 1536, 128)
        self.near = i + (w >= 64)
        return (self.row[i] * (128 - w) + self.row[i + 1] * w) // 128

    def correct(self, bit: int) -> None:
        difference = (65535 if bit else 0) - self.row[self.near]
        self.row[self.near] += difference // 64 if difference >= 0 else -(-difference // 64)


def mixed(p: int) -> int:
    return min(max(p, 2), 65534)
