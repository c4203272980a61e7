"""FORMAT.md, section 12.7: the text of method `max`."""

from __future__ import annotations

import functools
import pickle
import re
from pathlib import Path

from format_reader.coder import Cell, Cells, RangeDecoder
from format_reader.mixing import STRETCH, Apm, Mixer, inputs_of, mixed, squash
from format_reader.numbers import U64, combine, mix

LARGEST = 2**22
GOLDEN_RATIO = 0x9E3779B97F4A7C15


@functools.cache
def vocabulary() -> bytes:
    """The bytes between the quotes of vocabulary.cpp."""
    source = (Path(__file__).parents[3] / "cpp" / "logs" / "vocabulary.cpp").read_bytes()
    literals = re.search(rb"kVocabulary\[\] =\n(.*?);\n", source, re.DOTALL).group(1)
    text = b"".join(re.findall(rb'"((?:[^"\\]|\\.)*)"', literals))

    def unescape(match: re.Match) -> bytes:
        code = match.group(1)
        return bytes([int(code, 8)]) if code.isdigit() else {b"n": b"\n", b"t": b"\t"}.get(code, code)

    return re.sub(rb"\\([0-7]{1,3}|.)", unescape, text)


class Match:
    def __init__(self, m: int, k: int) -> None:
        self.m, self.size = m, 2 ** (k + 3)
        self.table: dict[int, int] = {}
        self.at = self.length = self.missed = 0
        self.cells = [Cell() for _ in range(92)]

    def after(self, text: bytearray) -> None:
        c, n = text[-1], len(text)
        if self.length > 0 and text[self.at] == c:
            self.length, self.at, self.missed = self.length + 1, self.at + 1, 2 * self.missed % 256
        elif self.length > 0:
            self.length, self.missed = 0, (2 * self.missed + 1) % 256
        if n < self.m:
            return
        x = int.from_bytes(text[-self.m :], "little")
        y = (self.m * GOLDEN_RATIO & U64 ^ (x if self.m == 8 else x + (x << 32))) * 0xD6E8FEB86659FD93 & U64
        if self.m == 8:
            y = (y ^ y >> 32) * 0xD6E8FEB86659FD93 & U64
        j = mix(y) % self.size
        if self.length == 0 and self.table.get(j, 0) > 0:
            self.at = self.table[j]
            while self.length < min(40, self.at) and text[self.at - 1 - self.length] == text[n - 1 - self.length]:
                self.length += 1
            if self.length < self.m:
                self.length = 0
        self.table[j] = n

    def bucket(self) -> int:
        return self.length if self.length < 16 else 16 + (min(self.length, 40) - 16) // 4

    def state(self) -> int:
        return 4 * self.bucket() + (0 if self.missed == 0 else 2 if self.missed & 3 else 1)

    def expected(self, text: bytearray) -> int | None:
        return text[self.at] if self.length > 0 else None

    def bit(self, text: bytearray, node: int, sh: int) -> int | None:
        """The expected bit while the byte's upper bits are as expected."""
        e = self.expected(text)
        return None if e is None or (e | 256) >> sh + 1 != node else e >> sh & 1


class Bucket:
    def __init__(self, check: int = 0) -> None:
        self.check, self.cells = check, Cells()


def first_count(bucket: Bucket) -> int:
    return bucket.cells[0].count if 0 in bucket.cells else 0


class MaxText:
    def __init__(self, packed: bytes, size: int) -> None:
        words = vocabulary()
        k = 12
        while k < 16 and 8 * 2**k < size + len(words):
            k += 1
        self.__dict__.update(pickle.loads(primed(k)).__dict__)
        self.coder, self.size = RangeDecoder(packed), size

    def read(self) -> bytes:
        begin = len(self.text)
        while len(self.text) < begin + self.size:
            self.read_byte(None)
        return bytes(self.text[begin:])

    def read_byte(self, byte: int | None) -> None:
        """The next byte; `byte` is given in the vocabulary."""
        self.begin()
        e = self.long.expected(self.text)
        if e is not None and self.decode(self.expected_p(e), None if byte is None else int(byte == e)):
            self.teach_expected(1)
            self.after(e)
            return
        if e is not None:
            self.teach_expected(0)
        last = self.last(1)
        contexts = (
            last,
            self.last(2),
            self.last(3),
            self.last(5),
            combine(self.word, last),
            self.here,
            combine(self.inside, self.last(2)),
            combine(self.shape & (1 << 48) - 1, 1),
            combine(combine(self.above, self.inside), self.shape & 0xFFFF),
        )
        hashes = [combine(c, i + 1) for i, c in enumerate(contexts)]
        node = 1
        for sh in range(7, -1, -1):
            if sh in (7, 3):
                buckets = [self.bucket(i, h, 0 if sh == 7 else (node & 15) + 1) for i, h in enumerate(hashes)]
            place = node - 1 if sh > 3 else 2 ** (3 - sh) + node % 2 ** (3 - sh) - 1
            node = 2 * node + self.read_bit([b.cells[place] for b in buckets], node, sh, None if byte is None else byte >> sh & 1)
        self.after(node - 256)

    def decode(self, p: int, known: int | None) -> int:
        return self.coder.decode(mixed(p)) if known is None else known

    def last(self, n: int) -> int:
        return int.from_bytes(self.text[-n:], "big")

    def begin(self) -> None:
        column = len(self.text) - self.line
        self.above = 0
        if self.above_begin + column < self.above_end:
            self.above = self.text[self.above_begin + column] + 256 * self.text[self.above_begin + column + 1]
        self.inside = combine(self.section, 1000)
        self.here = combine(self.above, combine(self.last(1), min(column, 255)))

    # The expected byte

    def expected_p(self, e: int) -> int:
        contexts = (
            self.long.state(),
            self.last(1),
            self.last(3),
            self.last(5),
            combine(self.word, self.last_word),
            self.here,
            combine(self.prefix, self.inside),
            combine(self.field, self.field_text),
        )
        places = [combine(combine(c, e if i else 0), 100 + i) >> 62 - self.k for i, c in enumerate(contexts)]
        self.flag_cells = [self.flags[place] for place in places]
        inputs = [i for cell in self.flag_cells for i in inputs_of(cell)] + [64]
        other = self.short.expected(self.text)
        logit = self.flag_mixer.mix(inputs, 3 * self.long.bucket() + (0 if other is None else 1 if other == e else 2), e)
        return 3 * squash(logit) + self.flag_apm.refine(logit, e) >> 2

    def teach_expected(self, bit: int) -> None:
        self.flag_mixer.teach(bit, 10)
        self.flag_apm.correct(bit)
        for cell in self.flag_cells:
            cell.learn(bit, 255)

    # Other bytes

    def bucket(self, i: int, h: int, u: int) -> Bucket:
        j = (h >> 64 - self.k) ^ u
        check = (h + u * 0x9E3779B1) % 2**32 | 1
        bucket = self.buckets.setdefault((i, j), Bucket())
        if bucket.check != check:
            other = self.buckets.setdefault((i, j ^ 1), Bucket())
            if other.check == check or first_count(other) < first_count(bucket):
                bucket = other
            if bucket.check != check:
                bucket.__init__(check)
        return bucket

    def read_bit(self, cells: list[Cell], node: int, sh: int, known: int | None) -> int:
        inputs = [i for cell in cells for i in inputs_of(cell)]
        following = []
        for match in (self.long, self.short):
            e = match.bit(self.text, node, sh)
            if e is None:
                inputs += [0, 0]
                continue
            cell = match.cells[match.state()]
            following.append((match, cell, e))
            sign = 1 if e else -1
            inputs += [sign * STRETCH[cell.one >> 10], sign * ((cell.one >> 12) - 512)]
        inputs.append(64)
        q = 2 if following and following[0][0] is self.long and self.long.bucket() > 16 else 1 if following else 0
        last = self.last(1)
        logit = self.mixer.mix(inputs, 256 * q + node, 8 * last + sh)
        first = self.first_apm.refine(logit, 256 * last + node)
        second = self.second_apm.refine(logit, 256 * min(7, sum(match.bucket() for match, _, _ in following)) + node)
        bit = self.decode(2 * squash(logit) + first + second >> 2, known)
        self.rate = max(self.rate - 1, 1280)
        self.mixer.teach(bit, self.rate >> 8)
        for cell in cells:
            cell.learn(bit, 255)
        for _, cell, e in following:
            cell.learn(bit == e, 250)
        self.first_apm.correct(bit)
        self.second_apm.correct(bit)
        return bit

    def after(self, c: int) -> None:
        self.text.append(c)
        digit, n = 48 <= c <= 57, len(self.text)
        self.shape = (self.shape << 8 | (48 if digit else c)) & U64
        if c == 10:
            self.section += n == self.line + 1
            self.above_begin, self.above_end, self.line = self.line, n - 1, n
            self.word = self.last_word = self.field = self.field_text = self.prefix = 0
        else:
            self.prefix = combine(self.prefix, c)
            if digit or c > 127 or 65 <= c <= 90 or 97 <= c <= 122:
                self.word = combine(self.word, c | 32)
            elif self.word:
                self.last_word, self.word = self.word, 0
            if c in b'=/:" &?(,':
                self.field, self.field_text = combine(self.last_word, c), 0
            else:
                self.field_text = combine(self.field_text, c)
        self.long.after(self.text)
        self.short.after(self.text)


@functools.cache
def primed(k: int) -> bytes:
    """The model that has read the vocabulary, pickled: that is the fastest way to copy it."""
    model = MaxText.__new__(MaxText)
    model.k, model.text = k, bytearray()
    model.long, model.short = Match(8, k), Match(4, k)
    model.buckets, model.flags = {}, Cells()
    model.mixer, model.flag_mixer = Mixer(104857), Mixer(104857)
    model.first_apm, model.second_apm, model.flag_apm = Apm(), Apm(), Apm()
    model.rate = 6144
    model.word = model.last_word = model.field = model.field_text = model.prefix = model.section = model.shape = 0
    model.line = model.above_begin = model.above_end = 0
    for byte in vocabulary():
        model.read_byte(byte)
    model.section = 0
    model.line = model.above_begin = model.above_end = len(model.text)
    return pickle.dumps(model)
