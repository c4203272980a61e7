# Contract: the profiles "microxcaling", "qtorch" and "pychop" give those libraries' bits, errors included, for arrays and tensors. Oracle: the libraries, where
# they are installed, and in any case what they answered when tests/golden/lowbit/make_peers.py asked them. NaN equals NaN.
from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
from lowbit_peer_cases import BLOCKS, CASES, answer, format_of, inputs

from slipstick import lowbit

pytestmark = pytest.mark.kernel

RECORD = json.loads((pathlib.Path(__file__).resolve().parents[1] / "golden" / "lowbit" / "peers.json").read_text("ascii"))
ANSWERS = {(profile, name, mode): words for profile, name, mode, words in RECORD["answers"]}


def floats(words, name):
    x = np.frombuffer(bytes.fromhex(words), ">f4").astype(np.float32)
    return x.reshape(-1, 70) if name in BLOCKS else x


def assert_same(got, want, x):
    differ = (got.view(np.uint32) != want.view(np.uint32)) & ~(np.isnan(got) & np.isnan(want))
    assert got.shape == want.shape and not differ.any(), (x[differ][:5], got[differ][:5], want[differ][:5])


@pytest.mark.parametrize(("profile", "name", "mode"), CASES)
def test_the_profile_gives_what_the_library_answered(profile, name, mode):
    x, want = floats(RECORD["inputs"][name], name), floats(ANSWERS[profile, name, mode], name)
    assert_same(lowbit.quantize(x, format_of(name), rounding=mode, profile=profile), want, x)


@pytest.mark.torch
@pytest.mark.parametrize(("profile", "name", "mode"), CASES)
def test_the_profile_gives_tensors_what_the_library_answered(profile, name, mode):
    torch = pytest.importorskip("torch")
    x, want = floats(RECORD["inputs"][name], name), floats(ANSWERS[profile, name, mode], name)
    assert_same(lowbit.quantize(torch.from_numpy(x), format_of(name), rounding=mode, profile=profile).numpy(), want, x)


@pytest.mark.parametrize(("profile", "name", "mode"), CASES)
def test_the_profile_is_the_library(profile, name, mode):
    x = inputs(name, most=50000)
    try:
        want = answer(profile, name, mode, x)
    except ImportError:
        pytest.skip(f"{profile} is not installed")
    assert_same(lowbit.quantize(x, format_of(name), rounding=mode, profile=profile), want, x)


def test_the_record_shows_where_the_libraries_leave_the_definition():
    for profile, name, mode in CASES:
        if profile == "qtorch" and name in ("e4m3", "e2m1", "fixed 8 4 0"):
            x, fmt = floats(RECORD["inputs"][name], name), format_of(name)
            want = floats(ANSWERS[profile, name, mode], name)
            assert not np.array_equal(lowbit.quantize(x, fmt, rounding=mode), want, equal_nan=True)
    x = np.float32([0.24999999, -0.0, np.inf, np.finfo(np.float32).max])
    got = lowbit.quantize(x, "e2m1fn", profile="microxcaling")
    assert got[:3].tolist() == [0.5, 0.0, np.inf] and not np.signbit(got[1]) and np.isnan(got[3])
    assert lowbit.quantize(np.float32([1e9, np.nan]), "e4m3", profile="qtorch").tolist() == [480, 480]
    got = lowbit.quantize(np.float32([65520, 1e5, 131072, -0.0, 255.99998]), "fp16", profile="pychop")
    assert got.tolist() == [65536, 0, np.inf, 0, 256] and not np.signbit(got[3])
    assert lowbit.quantize(np.float32([0.25000003]), "e2m1", profile="pychop")[0] == 0
    assert lowbit.quantize(np.float32([255.99998]), "fp16", rounding="down", profile="pychop")[0] == 255.75
    block = np.zeros(32, np.float32)
    block[:2] = 255.99998, 10.0
    assert lowbit.quantize(block, "mxfp4")[1] == 16 and lowbit.quantize(block, "mxfp4", profile="microxcaling")[1] == 0


def test_results_go_where_they_are_asked_to_and_inputs_stay():
    x = np.float32([0.24999999, -0.0, 3.2])
    out = np.empty_like(x)
    assert lowbit.quantize(x, "e2m1fn", profile="microxcaling", out=out) is out and out.tolist() == [0.5, 0, 3]
    assert x[2] == np.float32(3.2) and lowbit.quantize(x, "e2m1fn", profile="qtorch", out=x) is x and x[0] == 0.5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: lowbit.encode(x, "e4m3fn", profile="qtorch"), ValueError, "encode: profile is 'qtorch', which makes no codes"),
        (lambda x: lowbit.quantize(x.astype(float), "e4m3fn", profile="qtorch"), TypeError, "x has dtype float64 with profile 'qtorch'"),
        (lambda x: lowbit.quantize(x, "mxfp4", profile="qtorch"), ValueError, "profile 'qtorch' knows no"),
        (lambda x: lowbit.quantize(x, "e4m3fnuz", profile="microxcaling"), ValueError, "profile 'microxcaling' knows no e4m3fnuz"),
        (lambda x: lowbit.quantize(x, "nvfp4", profile="microxcaling"), ValueError, "profile 'microxcaling' knows no nvfp4"),
        (lambda x: lowbit.quantize(x, "e5m2", rounding="up", profile="microxcaling"), ValueError, "rounding is 'up' with profile 'micro"),
        (
            lambda x: lowbit.quantize(x, "e5m2", rounding="to_odd", profile="pychop"),
            ValueError,
            "rounding is 'to_odd' with profile 'pychop'",
        ),
        (
            lambda x: lowbit.quantize(x, "e5m2", rounding="stochastic", profile="qtorch"),
            ValueError,
            "rounding is 'stochastic' with profile",
        ),
    ],
)
def test_what_a_library_cannot_do_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(np.ones((2, 32), np.float32))
