# Contract: philox4x32 is Philox4x32-10 (Salmon et al., SC 2011), exactly; a stream depends on seed, purpose and position only. Oracles: the known
# answers that the authors publish with Random123 (its file tests/kat_vectors), and the definition written again in Python integers.
import struct

import pytest

from slipstick import _core

ONES = 0xFFFFFFFF


def philox_by_definition(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k[0], p1 & ONES, p0 >> 32 ^ c[3] ^ k[1], p0 & ONES]
        k = [(k[0] + 0x9E3779B9) & ONES, (k[1] + 0xBB67AE85) & ONES]
    return c


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([ONES] * 4, [ONES] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_published_known_answers(counter, key, answer):
    assert _core.philox4x32(counter, key) == answer
    assert philox_by_definition(counter, key) == answer


def test_philox_equals_its_definition_where_single_bits_are_set():
    for bit in range(192):
        words = [(1 << bit) >> (32 * word) & ONES for word in range(6)]
        assert _core.philox4x32(words[:4], words[4:]) == philox_by_definition(words[:4], words[4:])


@pytest.mark.parametrize("seed", [0, 0x1122334455667788, 2**64 - 1])
@pytest.mark.parametrize("purpose", [0, 0xABCDEF01])
@pytest.mark.parametrize("first_block", [0, 2**32 - 2, 2**64 - 2])
def test_stream_blocks_come_from_position_purpose_and_seed(seed, purpose, first_block):
    data = _core.random_bytes(seed, purpose, first_block, 4)
    for i in range(4):
        block = (first_block + i) % 2**64
        want = philox_by_definition([block & ONES, block >> 32, purpose, 0], [seed & ONES, seed >> 32])
        assert list(struct.unpack_from("<4I", data, 16 * i)) == want


def test_a_stream_in_pieces_is_the_stream():
    whole = _core.random_bytes(5, 6, 100, 50_000, 3)
    assert whole == b"".join(_core.random_bytes(5, 6, 100 + start, 12_500, 1) for start in range(0, 50_000, 12_500))
    assert _core.random_bytes(5, 6, 0, 0) == b""


@pytest.mark.parametrize("counter", [[0] * 3, [0] * 5, [0, 0, 0, 2**32], [0, 0, 0, -1]])
def test_a_counter_of_another_shape_is_a_type_error(counter):
    with pytest.raises(TypeError):
        _core.philox4x32(counter, [0, 0])
