"""FORMAT.md, sections 1 and 9: numbers, bytes and hashes."""

from __future__ import annotations

U64 = 2**64 - 1
NONE = U64
STRING = 2**63
NUMBER = 2**60 - 1


def check(good: object, what: str) -> None:
    if not good:
        raise ValueError(what)


# 1. Conventions


def mix(x: int) -> int:
    x ^= x >> 32
    x = x * 0x9E3779B97F4A7C15 & U64
    return x ^ x >> 29


def combine(h: int, x: int) -> int:
    return mix((h ^ x) * 0xD6E8FEB86659FD93 + x & U64)


class Bytes:
    """Reads bytes, varints and little-endian numbers, and never past the end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        check(size <= len(self.data) - self.at, "data end early")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def varint(self) -> int:
        value = 0
        for group in range(10):
            byte = self.number(1)
            value |= (byte & 127) << 7 * group
            if byte < 128:
                check(value <= U64, "a varint has more than 64 bits")
                return value
        raise ValueError("a varint has more than 10 bytes")

    def done(self) -> bool:
        return self.at == len(self.data)


# 9. hash64


def hash64(data: bytes) -> int:
    p1, p2, p3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
    p4, p5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5

    def r(x: int, k: int) -> int:
        x &= U64
        return (x << k | x >> 64 - k) & U64

    def turn(a: int, x: int) -> int:
        return r(a + x * p2, 31) * p1 & U64

    lanes = [p1 + p2 & U64, p2, 0, -p1 & U64]
    rest = Bytes(data)
    h = p5
    if len(data) >= 32:
        while len(data) - rest.at >= 32:
            lanes = [turn(lane, rest.number(8)) for lane in lanes]
        h = sum(r(lane, k) for lane, k in zip(lanes, (1, 7, 12, 18))) & U64
        for lane in lanes:
            h = (h ^ turn(0, lane)) * p1 + p4 & U64
    h = h + len(data) & U64
    while len(data) - rest.at >= 8:
        h = r(h ^ turn(0, rest.number(8)), 27) * p1 + p4 & U64
    if len(data) - rest.at >= 4:
        h = r(h ^ rest.number(4) * p1 & U64, 23) * p2 + p3 & U64
    while not rest.done():
        h = r(h ^ rest.number(1) * p5 & U64, 11) * p1 & U64
    h = (h ^ h >> 33) * p2 & U64
    h = (h ^ h >> 29) * p3 & U64
    return h ^ h >> 32


def hash32(data: bytes) -> int:
    return hash64(data) % 2**32
