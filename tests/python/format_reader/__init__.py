"""A reader of slipstick archives, written from cpp/logs/FORMAT.md alone: slow, simple, and a test of that text.

It shares no code with the library; names and section numbers are the document's. read(archive) gives the content, or
ValueError for an archive that breaks a rule. A block of 20 KB takes about a second.
"""

from __future__ import annotations

import re

import zstandard

from format_reader.coder import Cells, RangeDecoder
from format_reader.default import DefaultBlock
from format_reader.fast import FastBlock
from format_reader.max_symbols import MaxBlock
from format_reader.max_text import LARGEST, MaxText
from format_reader.mixed import MixedText
from format_reader.numbers import Bytes, check, hash32, hash64

MAGIC = bytes.fromhex("89 53 4C 49 50 0D 0A 1A")


# 2. An archive


def read(data: bytes) -> bytes:
    """The content of one archive or of several that follow each other."""
    at = Bytes(data)
    content = b""
    while True:
        check(at.take(8) == MAGIC, "not an archive")
        check(at.number(1) == 1, "unsupported version")
        check(at.number(1) <= 2, "unknown level")
        blocks = []
        while (tag := at.number(1)) == 1:
            begin = at.at - 1
            raw, lines = read_block(at, begin, content[-blocks[-1][1] :][-(2**21) :] if blocks else b"")
            content += raw
            blocks.append((at.at - begin, len(raw), lines))
        check(tag == 2, "neither block nor footer")
        begin = at.at - 1
        footer = [tuple(at.varint() for _ in range(3)) for _ in range(at.varint())]
        check(footer == blocks, "footer and blocks differ")
        end = at.at
        check(at.number(4) == hash32(data[begin:end]), "footer checksum")
        check(at.number(8) == at.at + 4 - begin and at.take(4) == b"PILS", "trailer")
        if at.done():
            return content


# 3. A block


def read_block(at: Bytes, begin: int, prefix: bytes) -> tuple[bytes, int]:
    """The raw bytes of a block whose tag was read, and its field `lines` as it stands; prefix is b"" for the first block."""
    size = at.varint()
    check(size <= 1024, "header too large")
    fields = Bytes(at.take(size))
    end = at.at
    check(at.number(4) == hash32(at.data[begin:end]), "header checksum")
    method, raw_size, lines, payload_size = fields.number(1), fields.varint(), fields.varint(), fields.varint()
    raw_sum, payload_sum = fields.number(8), fields.number(4)
    records = read_records(fields)
    check(method <= 6, "unsupported method")
    check(raw_size <= 2**26 and lines >> 1 <= raw_size and lines != 1 and payload_size <= raw_size, "illegal size")
    payload = at.take(payload_size)
    check(hash32(payload) == payload_sum, "payload checksum")
    if method == 0:
        raw = payload
    elif method == 1:
        raw = unzstd(payload, raw_size)
    elif method == 6:
        raw = unzstd(whole_frame(payload, raw_size), raw_size)
    elif method == 5:
        check(prefix != b"", "the first block continues another")
        raw = read_continued(Bytes(payload), prefix, raw_size)
    else:
        streams = Bytes(payload)
        symbols, text = read_stream(streams, 3 * raw_size + 1024), read_stream(streams, 3 * raw_size + 1024)
        check(streams.done(), "bytes after the last stream")
        raw = {2: FastBlock, 3: DefaultBlock, 4: MaxBlock}[method](symbols, text).read(lines >> 1, raw_size)
    check(len(raw) == raw_size and hash64(raw) == raw_sum, "raw checksum")
    if field := records.get(1):
        check(all(has_group(field, group[1].lower()) for group in re.finditer(rb"(?i)(?=([a-z]{4}))", raw)), "a letter group is denied")
    return raw, lines


def read_records(at: Bytes) -> dict[int, bytes]:
    records = {}
    while not at.done():
        kind = at.varint()
        records[kind] = at.take(at.varint())
    if 2 in records:
        times = Bytes(records[2])
        check(times.varint() >= 0 and times.varint() >= times.varint() and times.done(), "the last time is before the least")
    return records


def has_group(field: bytes, group: bytes) -> bool:
    """Whether the block may have four letters, given in lower case."""
    if max(group) <= ord("f"):
        return True
    code = 0
    for letter in group:
        code = code << 5 | letter - ord("a") + 1
    bit = (code * 0x9E3779B1 % 2**32) * len(field) * 8 >> 32
    return field[bit // 8] >> bit % 8 & 1 == 1


# 3.1 Continued blocks


def read_continued(at: Bytes, prefix: bytes, raw_size: int) -> bytes:
    repeats, literals = Bytes(read_stream(at, raw_size)), Bytes(read_stream(at, raw_size, prefix))
    check(at.done(), "bytes after the last stream")
    out = bytearray(prefix)
    while not repeats.done():
        out += literals.take(repeats.varint())
        length, distance = repeats.varint(), repeats.varint()
        check(1 <= length <= raw_size + len(prefix) - len(out) and 1 <= distance <= len(out), "illegal repeat")
        while length > 0:  # an overlap doubles what can be taken at once
            piece = out[len(out) - distance :][:length]
            out += piece
            length -= len(piece)
            distance += len(piece)
    return bytes(out[len(prefix) :]) + literals.take(len(literals.data) - literals.at)


# 3.2 Trimmed frames


def whole_frame(data: bytes, size: int) -> bytes:
    at = Bytes(data)
    count = at.varint()
    check(1 <= count <= size // 256 + 2, "illegal number of zstd blocks")
    coder, cells, sizes = RangeDecoder(at.take(at.varint())), Cells(), [0, 0, 0]

    def tree(name: object, bits: int) -> int:
        node = 1
        for _ in range(bits):
            node = 2 * node + coder.single(cells[name, node])
        return node - 2**bits

    frame = bytes.fromhex("28B52FFD A0") + size.to_bytes(4, "little")
    for i in range(count):
        kind = tree("kind", 2)
        check(kind <= 2, "unknown kind of zstd block")
        if length := tree(kind, 5):
            minus = coder.single(cells[kind])
            change = 2 ** (length - 1) + coder.plain(length - 1)
            sizes[kind] += -change if minus else change
        check(0 <= sizes[kind] <= 131072, "illegal size of a zstd block")
        frame += (sizes[kind] << 3 | kind << 1 | (i == count - 1)).to_bytes(3, "little")
        frame += at.take(1 if kind == 1 else sizes[kind])
    check(at.done(), "bytes after the last zstd block")
    return frame


def unzstd(data: bytes, size: int, prefix: bytes = b"") -> bytes:
    dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if prefix else None
    try:
        raw = zstandard.ZstdDecompressor(dict_data=dictionary).decompress(data, max_output_size=max(size, 1), allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"zstd frame: {error}") from None
    check(len(raw) == size, "zstd frame of another size")
    return raw


def read_stream(at: Bytes, most: int, prefix: bytes = b"", *, is_rest: bool = False) -> bytes:
    codec, size, packed_size = at.number(1), at.varint(), at.varint()
    packed = at.take(packed_size)
    check((codec <= 3 or (codec in (4, 5) and prefix != b"") or (codec == 6 and not is_rest)) and size <= most, "illegal stream")
    if codec == 0:
        check(size == packed_size, "stored stream of another size")
        return packed
    if codec == 1:
        return unzstd(packed, size)
    if codec in (4, 5):
        return unzstd(packed if codec == 4 else whole_frame(packed, size), size, prefix)
    if codec == 6:
        return put_digits_back(Bytes(packed), size)
    if codec == 3:
        check(size <= LARGEST and size <= 4096 * (packed_size + 1) - 1, "text of max too long")
        return MaxText(packed, size).read()
    check(size <= 96 * 1024, "mixed text too long")
    return MixedText(packed, size).read()


# 3.3 Digits taken out

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
ALPHABETS = [(4, b"0123456789abcdef"), (4, b"0123456789ABCDEF"), (6, f"{LETTERS}+/".encode()), (6, f"{LETTERS}-_".encode())]


def put_digits_back(at: Bytes, size: int) -> bytes:
    layouts = {}
    count = at.varint()
    check(1 <= count <= 64, "illegal number of layouts")
    for _ in range(count):
        mark, alphabet, groups = at.number(1), at.number(1), at.varint()
        check(mark not in layouts and alphabet < len(ALPHABETS) and 1 <= groups <= 16, "illegal layout")
        pieces = []
        for group in range(groups):
            pieces.append((at.varint(), at.take(1) if group < groups - 1 else b""))
            check(1 <= pieces[-1][0] <= 2**28, "illegal group")
        layouts[mark] = (*ALPHABETS[alphabet], pieces)
    rest = read_stream(at, size, is_rest=True)
    need = whole = 0
    for byte in rest:
        wide, _, pieces = layouts.get(byte, (0, b"", [(1, b"")]))
        need += wide * sum(digits for digits, _ in pieces)
        whole += sum(digits + len(separator) for digits, separator in pieces)
    left = at.take(len(at.data) - at.at)
    check(whole == size and (need + 7) // 8 == len(left), "digits of another size")
    # A digit at a time, from what the last bytes left.
    out, bits, held, source = bytearray(), 0, 0, iter(left)
    for byte in rest:
        if byte not in layouts:
            out.append(byte)
            continue
        wide, alphabet, pieces = layouts[byte]
        for digits, separator in pieces:
            for _ in range(digits):
                if held < wide:
                    bits |= next(source) << held
                    held += 8
                out.append(alphabet[bits % 2**wide])
                bits >>= wide
                held -= wide
            out += separator
    check(bits == 0, "bits behind the last digit")
    return bytes(out)
