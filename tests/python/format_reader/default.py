"""FORMAT.md, section 7: symbols of method `default`."""

from __future__ import annotations

from format_reader.block import Block, Column, Slot, push
from format_reader.coder import Cells, RangeDecoder
from format_reader.numbers import NONE, NUMBER, STRING, check, combine, mix


class Ring:
    def __init__(self, key: int = NONE) -> None:
        self.key, self.values, self.r, self.t0, self.t1 = key, [NONE] * 32, 0, 0, 0


class DefaultBlock(Block):
    def begin(self) -> None:
        self.coder = RangeDecoder(self.symbols)
        self.own, self.general = Cells(), Cells()
        bits = self.read_size()
        self.session_column = self.read_size() - 1  # -1: none
        self.read_text(bits, self.read_size())
        self.rings = [Ring() for _ in range(2048)]
        self.session_slot = Slot()
        self.last_session = 0
        self.recent = [0, 0, 0, 0]  # templates a, b, c, d
        self.entered: set[int] = set()

    def read_size(self) -> int:
        n = self.coder.plain(6)
        check(n <= 32, "a size has more than 32 bits")
        return self.coder.plain(n)

    def pair(self, owner: object, name: str, at: int = 0) -> int:
        return self.coder.pair(self.own[owner, name, at], self.general[name, at])

    def tree(self, bits: int, own: tuple, general: tuple) -> int:
        node = 1
        for _ in range(bits):
            node = 2 * node + self.coder.pair(self.own[(*own, node)], self.general[(*general, node)])
        return node - 2**bits

    def read_plan(self, column: Column) -> None:
        column.first = self.choice("planFirst", 17)
        column.second = self.choice("planSecond", 17)
        if column.numeric:
            column.base = self.choice("planBase", 5)
            column.dictionary = self.coder.single(self.general["planDictionary"])
            column.width = self.choice("planWidth", 19)

    def choice(self, name: str, below: int) -> int:
        node = 1
        for _ in range(5):
            cell = self.general[name, node]
            node = 2 * node + self.coder.pair(cell, cell)
        check(node - 32 < below, "illegal plan")
        return node - 32

    def read_session(self) -> None:
        if self.session_column < 0 or self.session_column >= len(self.columns):
            self.session, self.ring = NONE, self.rings[0]
            return
        self.begin_line(self.template)
        self.slot, self.left0, self.session, self.stress = 65535, self.last_session, NONE, 0
        if self.has_session():
            self.session = self.value(self.columns[self.session_column], self.session_slot)
        self.last_session = self.session
        i = (mix(self.session) >> 20) % 2048
        if self.rings[i].key != self.session:
            self.rings[i] = Ring(self.session)
        self.ring = self.rings[i]

    def has_session(self) -> int:
        return self.coder.pair(self.own["sessionFlag", self.template & 4095], self.general["sessionFlag"])

    def read_template(self) -> None:
        known = len(self.templates)
        template = self.choose_template()
        ring, previous = self.ring, self.recent[0]
        self.recent = [template, *self.recent[:3]]
        ring.t0, ring.t1 = template, ring.t0
        self.previous, self.template = previous, template
        if template == known:
            self.add_template()

    def choose_template(self) -> int:
        a, b, c, d = self.recent
        ring = self.ring
        if self.session_column < 0:
            guesses = [self.find(256, combine(combine(combine(a, b), c), d)), self.find(257, combine(a, b))]
        else:
            guesses = [self.find(258, combine(combine(ring.t0, ring.t1), a)), self.find(259, combine(combine(a, b), ring.t0))]
        guesses.append(self.find(260, a))
        values = [guess.value for guess in guesses]
        agree = (values[0] == values[1]) + 2 * (values[0] == values[2])
        template = None
        for i, guess in enumerate(guesses):
            if guess.h == 0 or values[i] >= len(self.templates) or values[i] in values[:i]:
                continue
            following = guesses[i + 1].h if i < 2 else 0
            own = self.own["templateHit", i, (guess.h * 16 + following) * 4 + agree]
            if self.coder.pair(own, self.general["templateHit", i, guess.h]):
                template = values[i]
                break
        known = len(self.templates)
        if template is None:
            new = self.coder.single(self.general["templateNew"])
            template = known if new or known == 0 else self.place("templates", known)
        for guess in guesses:
            guess.settle(template)
        return template

    def begin_values(self) -> None:
        self.stress = 0
        self.session_waits = self.session != NONE
        numbers = [column.number for column in self.template_columns[self.template]]
        check(not self.session_waits or self.session_column in numbers, "a session without a place")

    def read_slot(self, column: Column, slot: Slot) -> int:
        if self.session_waits and column.number == self.session_column:
            self.session_waits = False
            v = self.session
        else:
            v = self.value(column, slot)
        self.ring.values[self.ring.r % 32] = v
        self.ring.r += 1
        return v

    def value(self, column: Column, slot: Slot) -> int:
        one = self.guess(column.first, column, slot)
        two = self.guess(column.second, column, slot)
        f = one.value if one.h > 0 else NONE
        s = two.value if two.h > 0 else NONE
        doubt = 0 if s == NONE else 1 if s == f else 2 if two.h % 2 else 3
        q = self.stress & 3
        v = None
        if f != NONE and self.pair(column, "firstHit", (one.h * 4 + doubt) * 4 + q):
            v = f
        if v is None and s != NONE and s != f and self.pair(column, "secondHit", two.h * 4 + q):
            v = s
        self.stress *= 2
        if v is None:
            v = self.miss(column, slot, f, s, q)
            self.stress += 1
        one.settle(v)
        if two is not one:
            two.settle(v)
        column.push(v, self.left0)
        return v

    def miss(self, column: Column, slot: Slot, f: int, s: int, q: int) -> int:
        if slot is self.session_slot:
            return self.fresh(column, f, s)
        ring = self.ring
        x = ring.values[(ring.r - slot.distance) % 32]
        if x not in (NONE, f, s) and not (x & STRING and column.numeric):
            hit = self.pair(column, "ringHit", slot.history * 4 + q)
            slot.history = push(slot.history, bool(hit))
            if hit:
                self.enter(column, x)
                return x
        v = self.fresh(column, f, s)
        for distance in range(1, 33):
            if ring.values[(ring.r - distance) % 32] == v:
                if slot.distance != distance:
                    slot.distance, slot.history = distance, 1
                break
        return v

    def fresh(self, column: Column, f: int, s: int) -> int:
        return self.number(column, f, s) if column.numeric else self.string(column)

    def string(self, column: Column) -> int:
        v = self.dictionary(column)
        if v is not None:
            return v
        return self.entered_string(column, foreign=bool(self.pair(column, "foreign")))

    def entered_string(self, column: Column, *, foreign: bool) -> int:
        """A string that is no entry of the column yet: one of another column, or a new one."""
        if foreign:
            n = self.coder.plain(len(self.strings).bit_length())
            check(n < len(self.strings), "a string is used before it is given")
            v = STRING | n
        else:
            v = self.new_string(column)
        self.enter(column, v)
        return v

    def number(self, column: Column, f: int, s: int) -> int:
        if self.pair(column, "odd"):
            return self.string(column)
        if column.dictionary:
            v = self.dictionary(column)
            if v is not None:
                return v
        b = self.base(column, f, s)
        i = 0 if column.length == 0 else 1 if column.length < 6 else 2 if column.length < 14 else 3
        if self.pair(column, "small", i):
            length = self.tree(2, (column, "length 2", i), ("length 2", i))
        elif self.pair(column, "medium", i):
            length = 4 + self.tree(3, (column, "length 3", i), ("length 3", i))
        else:
            length = self.tree(6, (column, "length 6", i), ("length 6", i))
        check(length <= 60, "a difference has more than 60 bits")
        column.length = length
        n = b
        if length > 0:
            minus = self.pair(column, "sign", min(length // 4, 7))
            m, node, left = 1, 1, length - 1
            while left > 0 and node < 8:
                bit = self.pair(column, "top", length * 8 + node)
                node, m, left = 2 * node + bit, 2 * m + bit, left - 1
            m = m << left | self.coder.plain(left)
            n = (b - m if minus else b + m) & NUMBER
        z = column.zeros(n) if self.pair(column, "widthKept") else self.coder.plain(3)
        v = n | z << 60
        self.enter(column, v)
        return v

    def dictionary(self, column: Column) -> int | None:
        if not column.entries or not self.pair(column, "known"):
            return None
        return column.entries[self.place(column, len(column.entries))]

    def enter(self, column: Column, v: int) -> None:
        if column.numeric and not column.dictionary:
            return
        key = combine(v, column.number)
        if key not in self.entered:
            self.entered.add(key)
            column.entries.append(v)

    def place(self, owner: object, count: int) -> int:
        if count == 1:
            return 0
        length = self.tree(5, (owner, "placeLength"), ("placeLength",))
        node = 1
        for _ in range(length):
            bit = self.coder.single(self.own[owner, "placeTree", node]) if node < 1024 else self.coder.plain(1)
            node = 2 * node + bit
        check(node <= count, "a place is past the end")
        return node - 1
