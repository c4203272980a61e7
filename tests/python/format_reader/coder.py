"""FORMAT.md, section 7: the range coder and its cells, which method `default` and mixed text share."""

from __future__ import annotations

from format_reader.numbers import U64

RATE = [131072 // (2 * n + 3) for n in range(501)]
WEIGHT = [65535 * n // (n + 2) for n in range(501)]


class Cell:
    __slots__ = ("count", "one")

    def __init__(self) -> None:
        self.one, self.count = 2**21, 0

    def learn(self, bit: int, limit: int = 500) -> None:
        self.one += ((2**22 - 1 if bit else 0) - self.one) * RATE[self.count] >> 16
        if self.count < limit:
            self.count += 1


class Cells(dict):
    """Cells by name and place, made when they are first met."""

    def __missing__(self, key: object) -> Cell:
        self[key] = Cell()
        return self[key]


def clamp(p: int) -> int:
    return min(max(p, 24), 65512)


class RangeDecoder:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 8
        self.low, self.high, self.code = 0, U64, int.from_bytes(data[:8].ljust(8, b"\0"), "big")

    def decode(self, p: int) -> int:
        middle = self.low + (self.high - self.low >> 16) * p
        bit = int(self.code <= middle)
        if bit:
            self.high = middle
        else:
            self.low = middle + 1
        while self.low >> 56 == self.high >> 56:
            byte = self.data[self.at] if self.at < len(self.data) else 0
            self.at += 1
            self.low = self.low << 8 & U64
            self.high = self.high << 8 & U64 | 255
            self.code = self.code << 8 & U64 | byte
        return bit

    def plain(self, n: int) -> int:
        value = 0
        for _ in range(n):
            value = 2 * value + self.decode(32768)
        return value

    def single(self, cell: Cell) -> int:
        bit = self.decode(clamp(cell.one >> 6))
        cell.learn(bit)
        return bit

    def pair(self, s: Cell, g: Cell) -> int:
        if s.count >= 30:
            return self.single(s)
        one = g.one + ((s.one - g.one) * WEIGHT[s.count] >> 16)
        bit = self.decode(clamp(one >> 6))
        s.learn(bit)
        g.learn(bit)
        return bit
