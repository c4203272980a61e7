"""FORMAT.md, section 7: symbols of method `fast`."""

from __future__ import annotations

from format_reader.block import Block, Column, Slot
from format_reader.numbers import NONE, NUMBER, STRING, Bytes, check, combine


class FastBlock(Block):
    def begin(self) -> None:
        at = Bytes(self.symbols)
        header_size, count = at.varint(), at.varint()
        check(count <= 2**14 + 1, "too many streams")
        sizes = [(at.varint(), at.varint()) for _ in range(count)]
        self.header = Bytes(at.take(header_size))
        self.misses = [Bytes(at.take(size)) for size, _ in sizes]
        self.runs = [Bytes(at.take(size)) for _, size in sizes]
        check(at.done(), "bytes after the last stream")
        self.counts = [self.next_run(i) for i in range(count)]
        bits, ignored, templates = (self.header.varint() for _ in range(3))
        check(max(bits, ignored, templates) < 2**32, "a size has more than 32 bits")
        self.read_text(bits, templates)
        self.before_last = 0
        check(count > 0, "no stream of templates")

    def next_run(self, stream: int) -> int:
        return NONE if self.runs[stream].done() else self.runs[stream].varint()

    def right(self, stream: int) -> bool:
        if self.counts[stream] == 0:
            self.counts[stream] = self.next_run(stream)
            return False
        self.counts[stream] -= self.counts[stream] != NONE
        return True

    def read_plan(self, column: Column) -> None:
        check(column.number + 1 < len(self.misses), "a column is missing")
        column.first, column.second = self.choice(17), self.choice(17)
        if column.numeric:
            column.base, column.width = self.choice(5), self.choice(19)

    def choice(self, below: int) -> int:
        n = self.header.varint()
        check(n < below, "illegal plan")
        return n

    def read_session(self) -> None:
        self.session = NONE

    def read_template(self) -> None:
        a, b = self.template, self.before_last
        one, two = self.find(256, combine(a, b)), self.find(257, a)
        known = len(self.templates)
        if self.right(0):
            template = one.value
            check(template < known, "a template is guessed that is not there")
        else:
            n = self.misses[0].varint()
            template = two.value if n == 0 else known if n == 1 else n - 2
            check(template <= known, "a template is out of range")
        one.value = two.value = template
        self.before_last = self.previous = a
        self.template = template
        if template == known:
            self.add_template()

    def begin_values(self) -> None:
        pass

    def read_slot(self, column: Column, slot: Slot) -> int:
        one = self.guess(column.first, column, slot)
        if self.right(column.number + 1):
            v = one.value
            check(v != NONE, "a value is guessed that is not there")
        else:
            two = self.guess(column.second, column, slot)
            v = self.miss(column, one.value, two.value)
            two.value = one.value = v
        column.push(v, self.left0)
        return v

    def miss(self, column: Column, f: int, s: int) -> int:
        stream = self.misses[column.number + 1]
        n = stream.varint()
        if not column.numeric:
            return self.string(column, n, s)
        if n == 0:
            check(s != NONE, "a number is guessed that is not there")
            return s
        if n == 1:
            return self.string(column, stream.varint(), NONE)
        if n == 2:
            return stream.varint() & ~STRING
        n -= 3
        b = self.base(column, f, s)
        m = (b - n // 2 if n % 2 else b + n // 2) & NUMBER
        return m | column.zeros(m) << 60

    def string(self, column: Column, n: int, s: int) -> int:
        if n == 0:
            check(s != NONE and s & STRING, "a string is guessed that is not there")
            return s
        if n >= 3:
            check(n - 3 < len(column.entries), "a place is past the end")
            return column.entries[-1 - (n - 3)]
        if n == 2:
            number = self.misses[column.number + 1].varint()
            check(number < len(self.strings), "a string is used before it is given")
            v = STRING | number
        else:
            v = self.new_string(column)
        column.entries.append(v)
        return v
