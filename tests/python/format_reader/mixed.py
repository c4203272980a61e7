"""FORMAT.md, section 8: mixed text."""

from __future__ import annotations

from format_reader.coder import Cell, RangeDecoder
from format_reader.numbers import U64, combine, mix

SQUASH = [1, 2, 3, 6, 10, 16, 27, 45, 73, 120, 194, 310, 488, 747, 1101, 1546, 2047, 2549, 2994, 3348, 3607, 3785, 3901, 3975, 4024]
SQUASH += [4050, 4068, 4079, 4085, 4089, 4092, 4093, 4094]
CELL_RATE = [40960, 25206, 18204, 14247, 11703, 9930, 8623, 7620, 6827, 6183, 5650, 5201, 4819, 4489, 4201, 2731]
TRUST = [0, 2, 4, 5, 6, 7, 8, 8, 9, 9, 10, 10, 11, 12, 13, 16]


def squash(x: int) -> int:
    if x > 2047:
        return 4095
    if x < -2047:
        return 0
    i, w = (x >> 7) + 16, x & 127
    return SQUASH[i] * (128 - w) + (SQUASH[i + 1] if w else 0) * w + 64 >> 7


def stretch_table() -> list[int]:
    table = []
    for x in range(-2047, 2048):
        while len(table) <= squash(x):
            table.append(x)
    return table + [2047] * (4096 - len(table))


STRETCH = stretch_table()


class MixedText:
    def __init__(self, packed: bytes, size: int) -> None:
        self.coder, self.size = RangeDecoder(packed), size
        self.k = 14
        while self.k < 19 and 2**self.k < 4 * size:
            self.k += 1
        self.contexts: list[dict[int, list[int]]] = [{} for _ in range(8)]  # [p, count] by place; absent is new
        self.matches: dict[int, int] = {}
        self.weights: dict[int, list[int]] = {}
        self.refine = {}
        self.follow = [Cell() for _ in range(32)]
        self.word = self.last_word = 0
        self.line = self.line_before = 0
        self.at = self.length = 0

    def read(self) -> bytes:
        text = bytearray()
        while len(text) < self.size:
            text.append(self.read_byte(text))
            self.after(text)
        return bytes(text)

    def hashes(self, text: bytearray) -> list[int]:
        def last(i: int) -> int:
            return int.from_bytes(text[-i:], "big")

        col = len(text) - self.line
        above = 0
        if self.line_before + col + 1 < self.line:
            above = text[self.line_before + col] + 256 * text[self.line_before + col + 1]
        return [
            *(combine(1 + i, last(size)) for i, size in enumerate((1, 2, 3, 4, 6))),
            combine(combine(6, self.word), last(1)),
            combine(combine(7, self.word), self.last_word),
            combine(combine(8, above), combine(last(1), min(col, 255))),
        ]

    def read_byte(self, text: bytearray) -> int:
        hashes = self.hashes(text)
        predicted = text[self.at] + 256 if self.at > 0 and self.length > 0 else None
        order1 = text[-1] if text else 0
        node = 1
        for sh in range(7, -1, -1):
            if sh in (7, 3):
                lines = [mix(h + node * 0x9E3779B97F4A7C15 & U64) >> 64 - self.k & ~15 for h in hashes]
            place = node if sh > 3 else 2 ** (3 - sh) + node % 2 ** (3 - sh)
            cells = [table.setdefault(line + place, [2048, 0]) for table, line in zip(self.contexts, lines)]
            node = 2 * node + self.read_bit(cells, node, sh, predicted, order1)
        return node - 256

    def read_bit(self, cells: list[list[int]], node: int, sh: int, predicted: int | None, order1: int) -> int:
        inputs = []
        for p, count in cells:
            inputs += [STRETCH[p], (p - 2048) * TRUST[count] >> 4]
        following = predicted is not None and predicted >> sh + 1 == node
        e = predicted >> sh & 1 if following else 0
        follow = self.follow[min(self.length, 31)]
        g = follow.one >> 10
        sign = 0 if not following else 1 if e else -1
        inputs += [sign * STRETCH[g], sign * (g - 2048), 256]
        group = 0 if not following else 1 if self.length < 16 else 2
        weights = self.weights.setdefault(group * 256 + node, [2457] * 19)
        x = sum(w * i for w, i in zip(weights, inputs)) >> 13
        x = min(max(x, -2047), 2047)
        p = squash(x)
        y = (x + 2048) * 32
        j, w = y >> 12, y & 4095
        row = self.refine.setdefault(order1 * 4 + sh // 2, [squash((i - 16) * 128) * 16 for i in range(33)])
        refined = row[j] * (4096 - w) + row[j + 1] * w >> 16
        bit = self.coder.decode(min(max((p + refined >> 1) * 16, 32), 65504))
        error = ((4095 if bit else 0) - p) * 14
        for i, value in enumerate(inputs):
            weights[i] = min(max(weights[i] + (value * error + 2**18 >> 19), -32768), 32767)
        for cell in cells:
            cell[0] += ((4095 if bit else 0) - cell[0]) * CELL_RATE[cell[1]] >> 16
            cell[1] = min(cell[1] + 1, 15)
        if following:
            follow.learn(bit == e, 250)
            if bit != e:
                self.length = 0
        difference = (65535 if bit else 0) - row[j + (w >> 11)]
        row[j + (w >> 11)] += difference // 64 if difference >= 0 else -(-difference // 64)
        return bit

    def after(self, text: bytearray) -> None:
        c, n = text[-1], len(text)
        if c == 10:
            self.line_before, self.line = self.line, n
            self.word = self.last_word = 0
        elif c > 127 or c == 95 or chr(c).isalnum():
            self.word = combine(self.word, c)
        elif self.word != 0:
            self.last_word, self.word = self.word, 0
        if self.length > 0 and text[self.at] == c:
            self.length += 1
            self.at += 1
        else:
            self.length = 0
        if n < 5:
            return
        x = int.from_bytes(text[-5:-1], "little") + 2**32 * int.from_bytes(text[-4:], "little")
        m = mix((5 * 0x9E3779B97F4A7C15 & U64 ^ x) * 0xD6E8FEB86659FD93 & U64) % 2 ** min(self.k, 18)
        if self.length == 0 and self.matches.get(m, 0) > 0:
            self.at = self.matches[m]
            while self.length < min(32, self.at) and text[self.at - 1 - self.length] == text[n - 1 - self.length]:
                self.length += 1
            if self.length < 5:
                self.length = 0
        self.matches[m] = n
