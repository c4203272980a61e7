"""FORMAT.md, sections 4 to 6: templates, slots, columns, and what the models share."""

from __future__ import annotations

from format_reader.numbers import NONE, NUMBER, STRING, U64, check, combine

# 5. Templates, slots, columns


def is_legal(kind: int) -> bool:
    return 1 <= kind <= 5 or 11 <= kind <= 17 or 24 <= kind <= 33 or 41 <= kind <= 49 or 57 <= kind <= 65


def render(kind: int, value: int) -> bytes:
    n, z = value & NUMBER, value >> 60 & 7
    if kind <= 3:
        digits = {1: "%d", 2: "%x", 3: "%X"}[kind] % n
        return (" " if z == 7 else "0" * z).encode() + digits.encode()
    if kind < 24:
        d = kind - 8
        return b"%d.%0*d" % (n // 10**d, d, n % 10**d)
    base, mark = (56, b":") if kind >= 56 else (40, b",") if kind >= 40 else (24, b".")
    d = kind - base
    s = n // 10**d
    time = b"%02d:%02d:%02d" % (s // 3600 % 100, s // 60 % 60, s % 60)
    return time + (b"%s%0*d" % (mark, d, n % 10**d) if d else b"")


class Template:
    """Static pieces of bytes, the kinds of the slots between them, and the keys of their columns."""

    def __init__(self, text: bytes) -> None:
        check(len(text) <= 2**18, "template too long")
        self.pieces, self.kinds, self.keys = [b""], [], []
        before = b""
        at = 0
        while at < len(text):
            if text[at] != 0:
                self.pieces[-1] += text[at : at + 1]
                before += text[at : at + 1]
                at += 1
                continue
            check(at + 1 < len(text), "slot without a kind")
            kind = text[at + 1]
            at += 2
            check(is_legal(kind & 127), "illegal kind")
            if kind >= 128:
                end = text.find(0, at)
                check(end >= 0, "constant without an end")
                self.pieces[-1] += text[at:end]
                at = end + 1
            else:
                self.keys.append((kind, before[-10:], text[at : at + 1]))
                self.kinds.append(kind)
                self.pieces.append(b"")
            before += bytes([0, kind & 127])


# 6. What the models share


class Guess:
    def __init__(self) -> None:
        self.value, self.h, self.check = NONE, 0, 0

    def settle(self, v: int) -> None:
        self.h = push(self.h, self.value == v)
        self.value = v

    def predict(self, v: int) -> Guess:
        self.value = v if v < 2**60 else NONE
        return self


def push(h: int, hit: bool) -> int:
    if h == 0:
        return 1
    n = 2 * h + hit
    return n if n < 16 else n & 7 | 8


class Slot:
    """What is kept for each slot of each template: the guess of kind 1, and for `default` a copy distance and how it did."""

    def __init__(self) -> None:
        self.guess, self.distance, self.history = Guess(), 1, 1


class Column:
    def __init__(self, number: int, kind: int) -> None:
        self.number, self.kind, self.numeric = number, kind, kind not in (4, 5)
        self.last = self.before = self.offset = 0
        self.guess, self.p0, self.p1 = Guess(), Guess(), Guess()
        self.first = self.second = self.base = self.width = self.dictionary = 0
        self.entries: list[int] = []
        self.length = 0  # of the last difference (default)

    def push(self, v: int, left0: int) -> None:
        self.offset = v - left0 & U64
        self.before, self.last = self.last, v

    def zeros(self, n: int) -> int:
        return min(max(self.width - len(str(n)), 0), 6) if self.width else 0


class Block:
    """The part that all methods share: text, templates, columns, guesses, the line."""

    slot_class: type[Slot] = Slot

    def __init__(self, symbols: bytes, text: bytes) -> None:
        self.symbols, self.text, self.text_at = symbols, text, 0
        self.templates: list[Template] = []
        self.slots: list[list[Slot]] = []
        self.template_columns: list[list[Column]] = []
        self.columns: list[Column] = []
        self.column_of_key: dict[tuple, Column] = {}
        self.strings: list[bytes] = []
        self.slot_total = 0
        self.template = self.previous = 0
        self.begin_line(0)
        self.session = NONE

    def text_line(self) -> bytes:
        end = self.text.find(b"\n", self.text_at)
        check(end >= 0, "the text ends early")
        line = self.text[self.text_at : end]
        self.text_at = end + 1
        return line

    def read_text(self, bits: int, templates: int) -> None:
        """The guess table of 2^bits, and where template texts and the sections of columns are."""
        self.by_slot = bits >= 32
        bits -= 32 * self.by_slot
        check(10 <= bits <= 17, "illegal table size")
        self.table = [Guess() for _ in range(2**bits)]
        self.template_texts = [self.text_line() for _ in range(templates)]
        self.sections: list[list[bytes]] = []
        while self.text_at < len(self.text):
            self.sections.append([])
            while line := self.text_line():
                self.sections[-1].append(line)
        for section in self.sections:
            section.reverse()  # the next string is its last

    def find(self, space: int, context: int) -> Guess:
        x = combine(context, space)
        entry = self.table[x % len(self.table)]
        if entry.check != x >> 32:  # emptied in place: who found it before sees that
            entry.value, entry.h, entry.check = NONE, 0, x >> 32
        return entry

    def begin_line(self, template: int) -> None:
        self.line_template, self.slot = template, 0
        self.left0 = self.left1 = self.left2 = self.first = 0

    def push(self, v: int) -> None:
        self.left2, self.left1, self.left0 = self.left1, self.left0, v
        if self.slot == 0:
            self.first = v
        self.slot += 1

    def guess(self, kind: int, column: Column, slot: Slot) -> Guess:
        w = self.line_template * 65536 + self.slot
        if kind == 0:
            return column.guess
        if kind == 1:
            return slot.guess
        if kind == 15:
            return column.p0.predict(column.last + (column.last - column.before) & U64)
        if kind == 16:
            return column.p1.predict(self.left0 + column.offset & U64)
        context = {
            2: lambda: self.session,
            3: lambda: self.left0,
            4: lambda: combine(self.left0, self.left1),
            5: lambda: column.last,
            6: lambda: combine(column.last, column.before),
            7: lambda: combine(w, self.left0),
            8: lambda: combine(w, self.session),
            9: lambda: combine(w, column.last),
            10: lambda: combine(self.left1, 1),
            11: lambda: combine(self.session, self.left0),
            12: lambda: combine(w, self.previous),
            13: lambda: combine(self.left2, 2),
            14: lambda: combine(w, self.first),
        }[kind]()
        return self.find(512 + 17 * column.number + kind, context)

    def base(self, column: Column, f: int, s: int) -> int:
        b = column.last
        if column.base == 0 and f != NONE:
            b = f
        elif column.base == 1 and s != NONE:
            b = s
        elif column.base == 3:
            b = self.left0
        elif column.base == 4:
            b = 0
        return 0 if b & STRING else b & NUMBER

    def new_string(self, column: Column) -> int:
        check(column.number < len(self.sections) and self.sections[column.number], "a column has too few strings")
        self.strings.append(self.sections[column.number].pop())
        return STRING | len(self.strings) - 1

    def add_template(self) -> None:
        check(len(self.templates) < len(self.template_texts), "a template is missing")
        template = Template(self.template_texts[len(self.templates)])
        self.slot_total += len(template.kinds)
        check(len(template.kinds) <= 65535, "a template has too many slots")
        check(self.slot_total <= 2**19, "too many slots")
        self.templates.append(template)
        self.slots.append([self.slot_class() for _ in template.kinds])
        keys = [(*key, len(self.templates), slot) if self.by_slot else key for slot, key in enumerate(template.keys)]
        for key in keys:
            if key not in self.column_of_key:
                column = Column(len(self.columns), key[0])
                check(column.number < 2**14, "too many columns")
                self.column_of_key[key] = column
                self.columns.append(column)
                self.read_plan(column)
        self.template_columns.append([self.column_of_key[key] for key in keys])

    def read(self, lines: int, raw_size: int) -> bytes:
        self.begin()
        check(len(self.template_texts) <= min(lines, 2**18), "too many templates")
        check(len(self.sections) <= 2**14, "too many columns")
        out = []
        for _ in range(lines):
            self.read_session()
            self.read_template()
            self.begin_line(self.template)
            self.begin_values()
            template = self.templates[self.template]
            out.append(template.pieces[0])
            for i, column in enumerate(self.template_columns[self.template]):
                v = self.read_slot(column, self.slots[self.template][i])
                self.push(v)
                if v & STRING:
                    check(v != NONE and v % 2**32 < len(self.strings), "no such string")
                    out.append(self.strings[v % 2**32])
                else:
                    check(column.numeric, "a number in a string column")
                    out.append(render(template.kinds[i], v))
                out.append(template.pieces[i + 1])
            out.append(b"\n")
        raw = b"".join(out)
        return raw[:-1] if len(raw) == raw_size + 1 else raw
