"""FORMAT.md, section 12: symbols of method `max`."""

from __future__ import annotations

from collections.abc import Sequence

from format_reader.block import Column, Slot, push
from format_reader.coder import Cell, Cells
from format_reader.default import DefaultBlock
from format_reader.mixing import STRETCH, Apm, Mixer, inputs_of, lean, mixed, squash
from format_reader.numbers import NONE, NUMBER, U64, check, combine

SESSION, TEMPLATE, PLACE, KIND, LENGTH, MANTISSA = range(6)
KINDS = (0, 1, 2, 4, 6, 7, 8, 12, 13)


class Memory:
    def __init__(self) -> None:
        self.check = 0
        self.clear()

    def clear(self) -> None:
        self.v0, self.v1, self.h0, self.h1 = NONE, NONE, 0, 0

    def settle(self, v: int) -> None:
        hit = self.v0 == v
        self.h0 = push(self.h0, hit)
        if hit:
            return
        self.h1 = (0 if self.v1 == NONE else push(self.h1, self.v1 == v)) or 1
        self.v0, self.v1 = v, self.v0

    def state(self, c: int) -> int:
        return self.h0 if self.v0 == c else 16 + self.h1 if self.v1 == c else 32 + self.h0


class Group:
    def __init__(self) -> None:
        self.check = 0
        self.clear()

    def clear(self) -> None:
        self.cells = [Cell() for _ in range(7)]


class Table(dict):
    """Entries by place, made when they are first met and emptied in place by others."""

    def __init__(self, size: int, entry: type) -> None:
        self.size, self.entry = size, entry

    def find(self, x: int):
        place = x % self.size
        if place not in self:
            self[place] = self.entry()
        entry = self[place]
        if entry.check != x >> 32:
            entry.clear()
            entry.check = x >> 32
        return entry


class MaxSlot(Slot):
    def __init__(self) -> None:
        super().__init__()
        self.offset = self.step = self.hits = 0
        self.runs, self.sure_source, self.sure = [0] * 14, None, [Cell(), Cell()]


class MaxBlock(DefaultBlock):
    slot_class = MaxSlot

    def begin(self) -> None:
        super().begin()
        self.memories = Table(4 * len(self.table), Memory)
        self.groups = Table(4 * len(self.table), Group)
        self.mixer, self.apm = Mixer(83886), Apm()
        self.symbol_mixer, self.symbol_apm = Mixer(125829), Apm()
        self.session_slot = MaxSlot()
        self.sure = [Cell() for _ in range(32)]
        self.source_cells = Cells()  # by (column, None for all columns or "template"; source; state)
        self.predictions: dict[int, list[Memory]] = {}
        self.low = Cells()  # by column and place, or column and "usual"
        self.misses = self.l0 = self.l1 = self.gap = self.hash = self.outcomes = 0

    def read_plan(self, column: Column) -> None:
        column.first, column.second = self.plan_number(17), self.plan_number(17)
        if column.numeric:
            column.base, column.dictionary, column.width = self.plan_number(5), self.plan_number(2), self.plan_number(19)

    def plan_number(self, below: int) -> int:
        number = self.coder.plain(5)
        check(number < below, "illegal plan")
        return number

    # 12.3 Candidates

    def candidate(self, sources: Sequence[Memory], owner: object, contexts: Sequence[int], set_: int, space: int, below: int) -> int | None:
        general = "templates" if space else "values"

        def trust(i: int, state: int) -> tuple[Cell, Cell]:
            return self.source_cells[owner, i, state], self.source_cells[general, i, state]

        scores: dict[int, int] = {}

        def add(value: int, score: int) -> None:
            if value in scores:
                more, less = max(score, scores[value]), min(score, scores[value])
                score = more + ((2**22 - more) * less // 3 >> 22)
            if value != NONE:
                scores[value] = score

        for i, source in enumerate(sources):
            if source.h0:
                add(source.v0, lean(*trust(i, source.h0)))
                if source.v1 != NONE:
                    add(source.v1, lean(*trust(i, 16 + source.h1)))
        groups = [self.groups.find(combine(combine(c, i), 1280 + space)) for i, c in enumerate(contexts)]
        rank = 0
        for value, score in sorted(scores.items(), key=lambda item: -item[1]):
            if rank == 6:
                break
            if value >= below or value == self.denied:
                continue
            if rank > 1 and score < 2**16:
                break
            if self.flag(value, rank, sources, trust, groups, set_, space):
                return value
            rank += 1
        return None

    def flag(self, c: int, rank: int, sources, trust, groups: list, set_: int, space: int) -> int:
        cells, inputs, votes = [], [], []
        for i, source in enumerate(sources):
            if not source.h0:
                inputs.append(0)
                continue
            state = source.state(c)
            if state < 16:
                votes.append(i)
            cells.append(trust(i, state))
            inputs.append(STRETCH[lean(*cells[-1]) >> 10])
        groups = [
            *groups,
            self.groups.find(combine(combine(c, set_), 1296 + space)),
            self.groups.find(combine(combine(sum(2**i for i in votes), set_), 1312 + space)),
        ]
        node = min(rank, 6) + 1
        for group in groups:
            inputs += inputs_of(group.cells[node - 1])
        inputs.append(64)
        own = 2 * set_ + (rank > 0)
        agree = min(len(votes) * 8 // (len(sources) + 1), 7)
        logit = self.mixer.mix(inputs, (4 * space + min(rank, 3)) * 8 + agree, own)
        bit = self.coder.decode(mixed(3 * squash(logit) + self.apm.refine(logit, own % 1024) >> 2))
        self.mixer.teach(bit, 10)
        self.apm.correct(bit)
        for own_cell, general in cells:
            own_cell.learn(bit)
            general.learn(bit)
        for group in groups:
            group.cells[node - 1].learn(bit)
        return bit

    # 12.4 A value

    def context(self, i: int, column: Column) -> int:
        w = self.line_template * 65536 + self.slot
        return (
            lambda: 0,
            lambda: w,
            lambda: self.session,
            lambda: combine(self.left0, self.left1),
            lambda: combine(column.last, column.before),
            lambda: combine(w, self.left0),
            lambda: combine(w, self.session),
            lambda: combine(w, self.previous),
            lambda: combine(self.left2, 2),
        )[i]()

    def memory(self, i: int, column: Column) -> Memory:
        return self.memories.find(combine(self.context(i, column), 512 + 32 * column.number + KINDS[i]))

    def prediction(self, i: int, column: Column, slot: MaxSlot, six: Memory | None) -> int:
        if i == 13:
            return NONE if slot is self.session_slot else self.ring.values[(self.ring.r - slot.distance) % 32]
        if i == 12 and not six.h0:
            return NONE
        number = {
            9: lambda: column.last + (column.last - column.before),
            10: lambda: self.left0 + column.offset,
            11: lambda: self.left0 + slot.offset,
            12: lambda: six.v0 + slot.step,
        }[i]() & U64
        return number if column.numeric and number < 2**60 else NONE

    def value(self, column: Column, slot: MaxSlot) -> int:
        w = self.line_template * 65536 + self.slot
        missed = False
        v = self.read_sure(column, slot)
        if v is None:
            sources = [self.memory(i, column) for i in range(9)]
            predicted = self.predictions.setdefault(column.number, [Memory() for _ in range(5)])
            for i, memory in enumerate(predicted):
                memory.v0 = self.prediction(9 + i, column, slot, sources[6])
            x = sources[6].v0
            contexts = (combine(w, slot.hits), combine(w, self.misses & 15), combine(w, combine(self.previous, self.gap)))
            v = self.candidate(sources + predicted, column, contexts, column.number % 2048, 0, NONE)
            if v is None:
                missed = True
                v = self.miss(column, sources + predicted, w)
            elif not any(v in (memory.v0, memory.v1) for memory in sources):
                self.enter(column, v)
            slot.runs = [min(run + 1, 255) if memory.v0 == v else 0 for run, memory in zip(slot.runs, sources + predicted)]
            best = max(slot.runs)
            slot.sure_source = slot.runs.index(best) if best >= 16 else None
            for memory in sources:
                memory.settle(v)
            for memory in predicted:
                if memory.v0 != NONE:
                    memory.h0 = push(memory.h0, memory.v0 == v)
            if x != NONE:
                slot.step = v - x & U64
            if slot is not self.session_slot and predicted[4].v0 != v:
                found = [d for d in range(1, 33) if self.ring.values[(self.ring.r - d) % 32] == v]
                slot.distance = found[0] if found else slot.distance
        self.misses = 2 * self.misses + missed
        slot.hits = (2 * slot.hits + (not missed)) % 256
        if not missed:
            self.l1, self.l0 = self.l0, 0
        if column.kind >= 24:
            self.gap = abs((v & NUMBER) - (column.last & NUMBER)).bit_length()
        slot.offset = v - self.left0 & U64
        column.push(v, self.left0)
        return v

    def read_sure(self, column: Column, slot: MaxSlot) -> int | None:
        self.denied = NONE
        s = slot.sure_source
        if s is None:
            return None
        memory = self.memory(s, column) if s < 9 else self.memory(6, column) if s == 12 else None
        g = memory.v0 if s < 9 else self.prediction(s, column, slot, memory)
        if g == NONE:
            return None
        own = slot.sure[(self.misses & 3) != 0]
        general = self.sure[min(slot.runs[s].bit_length(), 7) * 4 + (self.misses & 3)]
        bit = self.coder.decode(mixed(lean(own, general) >> 6))
        own.learn(bit)
        general.learn(bit)
        if not bit:
            slot.runs[s], slot.sure_source, self.denied = 0, None, g
            return None
        slot.runs[s] = min(slot.runs[s] + 1, 255)
        if memory:
            memory.settle(g)
        if s > 8:
            self.enter(column, g)
        return g

    # 12.5 What no candidate was

    def find_groups(self, contexts: Sequence[int], salt: int) -> None:
        self.found = [self.groups.find(combine(c, salt)) for c in contexts]
        self.first_context = contexts[0]

    def symbol(self, node: int, kind: int) -> int:
        cells = [group.cells[node - 1] for group in self.found]
        inputs = [i for cell in cells for i in inputs_of(cell)] + [64]
        logit = self.symbol_mixer.mix(inputs, kind, self.first_context % 4096)
        refined = self.symbol_apm.refine(logit, (self.first_context + kind) % 1024)
        bit = self.coder.decode(mixed(3 * squash(logit) + refined >> 2))
        self.symbol_mixer.teach(bit, 10)
        self.symbol_apm.correct(bit)
        for cell in cells:
            cell.learn(bit)
        return bit

    def small_tree(self, contexts: Sequence[int], n: int, salt: int, kind: int) -> int:
        self.find_groups(contexts, salt)
        node = 1
        for _ in range(n):
            node = 2 * node + self.symbol(node, kind)
        return node - 2**n

    def read_length(self, contexts: Sequence[int], a: int, kind: int) -> int:
        c = self.small_tree(contexts, 3, 256 * a, kind)
        first, n = ((0, 0), (1, 0), (2, 1), (4, 1), (6, 1), (8, 2), (12, 3), (20, 6))[c]
        if n == 0:
            return first
        if n < 6:
            return first + self.small_tree(contexts, n, 256 * a + 1 + c, kind)
        u = self.small_tree(contexts, 3, 256 * a + 1 + c, kind)
        return first + 8 * u + self.small_tree(contexts, 3, 256 * a + 9 + c + u, kind)

    def mixed_place(self, contexts: Sequence[int], count: int, kind: int) -> int:
        if count == 1:
            return 0
        length = left = self.read_length(contexts, 100, kind) - 1
        check(0 <= length <= 32, "a place is past the end")
        node = 1
        while left > 0:
            n = min(left, 3)
            left -= n
            node = (node << n) + self.small_tree(contexts, n, node + (length << 34) & U64, kind)
        check(node <= count, "a place is past the end")
        return node - 1

    def miss(self, column: Column, sources: Sequence[Memory], w: int) -> int:  # type: ignore[override]
        contexts = [
            combine(c, 1024 + i)
            for i, c in enumerate(
                (
                    column.number,
                    combine(column.number, column.length),
                    combine(column.number, self.left0),
                    combine(w, self.previous),
                    combine(w, combine(self.l0, self.l1)),
                )
            )
        ]
        return self.mixed_number(column, sources, contexts) if column.numeric else self.mixed_string(column, contexts)

    def known(self, column: Column, contexts: Sequence[int]) -> int | None:
        if not column.entries:
            return None
        self.find_groups(contexts, 0)
        if not self.symbol(1, KIND):
            return None
        return column.entries[self.mixed_place(contexts, len(column.entries), PLACE)]

    def mixed_string(self, column: Column, contexts: Sequence[int]) -> int:
        v = self.known(column, contexts)
        if v is not None:
            return v
        self.find_groups(contexts, 0)
        return self.entered_string(column, foreign=bool(self.symbol(2, KIND)))

    def mixed_number(self, column: Column, sources: Sequence[Memory], contexts: Sequence[int]) -> int:
        self.find_groups(contexts, 0)
        if self.symbol(3, KIND):
            return self.mixed_string(column, contexts)
        if column.dictionary:
            v = self.known(column, contexts)
            if v is not None:
                return v

        def guess(kind: int) -> int:
            i = {15: 9, 16: 10}.get(kind, KINDS.index(kind) if kind in KINDS else None)
            return NONE if i is None or sources[i].h0 == 0 else sources[i].v0

        b = self.base(column, guess(column.first), guess(column.second))
        length = self.read_length(contexts, 1, LENGTH)
        check(length <= 60, "a difference has more than 60 bits")
        column.length = length
        self.l1, self.l0 = self.l0, length
        n = b
        if length > 0:
            minus = self.small_tree(contexts, 1, length << 48, KIND)
            m, left = 1, length - 1
            while left > 0:
                if m < 4096:
                    bits = min(left, 3)
                    left -= bits
                    m = (m << bits) + self.small_tree(contexts, bits, (length << 48) + m + 2**40, MANTISSA)
                else:
                    left -= 1
                    m = 2 * m + self.coder.single(self.low[column, left])
            n = (b - m if minus else b + m) & NUMBER
        z = column.zeros(n) if self.coder.single(self.low[column, "usual"]) else self.coder.plain(3)
        v = n | z << 60
        self.enter(column, v)
        return v

    # 12.6 Lines

    def has_session(self) -> int:
        a, b = self.recent[:2]
        y = self.last_session
        contexts = (0, a, combine(a, b), y + 3 & U64, y + 4 & U64)
        self.find_groups([combine(c, 70 + i) for i, c in enumerate(contexts)], 0)
        self.misses = 0
        return self.symbol(1, SESSION)

    def choose_template(self) -> int:
        a, b, c, d = self.recent
        t0, t1 = self.ring.t0, self.ring.t1
        two = combine(a, b)
        three = combine(two, c)
        contexts = (a, two, three, combine(three, d), combine(t0, t1), combine(combine(t0, t1), a), combine(two, t0), combine(self.hash, a))
        memories = [self.memories.find(combine(context, 256 + i)) for i, context in enumerate(contexts)]
        known = len(self.templates)
        self.denied = NONE
        flags = (self.outcomes & 255, combine(a, self.outcomes & 7), combine(t0, self.gap))
        template = self.candidate(memories, "template", flags, 2048, 1, known)
        self.outcomes = 2 * self.outcomes + (template is not None)
        if template is None:
            places = [combine(c, 768 + i) for i, c in enumerate((1, a, two, combine(t0, 3), self.gap))]
            self.find_groups(places, 0)
            new = self.symbol(1, TEMPLATE)
            template = known if new or known == 0 else self.mixed_place(places, known, TEMPLATE)
        for memory in memories:
            memory.settle(template)
        return template

    def begin_values(self) -> None:
        super().begin_values()
        self.misses = self.l0 = self.l1 = 0
        self.hash = self.template

    def read_slot(self, column: Column, slot: Slot) -> int:
        v = super().read_slot(column, slot)
        if not column.kind >= 24:
            self.hash = combine(self.hash, v)
        return v
