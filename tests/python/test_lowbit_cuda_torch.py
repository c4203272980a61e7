# Contract: CUDA tensors give the bits of the CPU, for every preset, mode, type, stride and alignment, on torch's current stream and without waiting
# for it. The arithmetic and the walks over arrays are proven on the host (tests/cpp/lowbit_element_test.cpp); this is for what only a device can
# show: launches, shuffles, the device's own float arithmetic. Without a device, that each call reaches CUDA and says cleanly that there is none.
from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from slipstick import UnsupportedError, lowbit
from slipstick._extension import cuda_extension

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.torch, pytest.mark.cuda]

INSTALLED = cuda_extension() is not None
WITH_DEVICE = INSTALLED and torch.cuda.is_available()
needs_device = pytest.mark.skipif(not WITH_DEVICE, reason="no CUDA device" if INSTALLED else "slipstick._cuda is not installed")
needs_no_device = pytest.mark.skipif(not INSTALLED or torch.cuda.is_available(), reason="needs slipstick._cuda and no device")

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
FORMATS = sorted(
    {lowbit.format(name).spec for name in (*lowbit.names(), "binary8p4", "int8", "uint4", "fixed16.8", "posit8", "e6m15", "e0m3finite")}
)
SCALED = ["mxfp8", "mxfp8_e5m2", "mxfp6", "mxfp6_e2m3", "mxfp4", "mxint8", "nvfp4", "nvfp4_16x16"]
WORDS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float64: torch.int64}


def probes(fmt):
    """Numbers of the format, their midpoints, the neighbours of both, and what any format must stand."""
    codes = np.arange(2**fmt.bits) if fmt.bits <= 16 else np.random.default_rng(0).integers(0, 2**fmt.bits, 20000)
    values = np.unique(lowbit.decode(codes.astype(fmt.code_dtype), fmt).astype(np.float64))
    values = values[np.isfinite(values)]
    with np.errstate(over="ignore"):
        x = np.concatenate([values, (values[1:] + values[:-1]) / 2, [2 * fmt.max, -2 * fmt.max]]).astype(np.float32)
        x = np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))])
    edges = np.array([0, 1, 0x7FFFFF, 0x800000, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC12345], np.uint32)
    edges = np.concatenate([edges, edges | 0x80000000]).view(np.float32)
    return torch.from_numpy(np.concatenate([x, edges, np.random.default_rng(1).standard_normal(1000).astype(np.float32)]))


def assert_same_bits(got, want):
    assert got.is_cuda and got.dtype == want.dtype and got.shape == want.shape
    got = got.cpu()
    if want.dtype in WORDS:
        got, want = got.view(WORDS[want.dtype]), want.view(WORDS[want.dtype])
    np.testing.assert_array_equal(got.numpy(), want.numpy())


def assert_same_numbers(got, want):
    """NaN as one: the payload of a NaN under a scale is promised by nobody."""
    np.testing.assert_array_equal(got.cpu().double().numpy(), want.double().numpy())
    assert torch.equal(got.cpu().signbit()[~want.isnan()], want.signbit()[~want.isnan()])


MODES = [*({"rounding": rounding} for rounding in lowbit.ROUNDINGS[:-1]), *({"rounding": "stochastic", "random_bits": b, "seed": 2**64 - 1, "stream": 9} for b in (8, 16, 32))]  # fmt: skip


def dtypes_of(fmt):
    """Those whose numbers the format can be given."""
    wide = fmt.kind != "codebook" and fmt._core.code_bytes == 4
    return [dtype for dtype in DTYPES if not (wide and dtype == torch.float64)]


@needs_device
@pytest.mark.parametrize("spec", FORMATS)
def test_every_number_midpoint_and_neighbour_in_every_mode_and_type(spec):
    fmt = lowbit.format(spec)
    for dtype in dtypes_of(fmt):
        x = probes(fmt).to(dtype)
        numbers = x[~x.isnan()]
        for options in MODES:
            assert_same_bits(lowbit.quantize(x.cuda(), fmt, **options), lowbit.quantize(x, fmt, **options))
            codes = lowbit.encode(numbers, fmt, **options)
            assert_same_bits(lowbit.encode(numbers.cuda(), fmt, **options), codes)
            assert_same_bits(lowbit.decode(codes.cuda(), fmt, dtype=dtype), lowbit.decode(codes, fmt, dtype=dtype))


@needs_device
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 63, 64, 65, 257, 1000, 65537, 3_000_001])
@pytest.mark.parametrize("options", [{}, {"rounding": "stochastic", "seed": 5}], ids=["nearest", "stochastic"])
def test_tails_alignments_strides_and_in_place(count, options):
    x = torch.randn(2 * count + 1, generator=torch.Generator().manual_seed(count))
    y = x.cuda()
    for dtype in DTYPES:
        for take in (lambda t: t[:count], lambda t: t[1 : count + 1], lambda t: t[: 2 * count : 2]):
            host, device = take(x.to(dtype)), take(y.to(dtype, copy=True))
            want = lowbit.quantize(host, "e4m3fn", **options)
            assert_same_bits(lowbit.quantize(device, "e4m3fn", **options), want)
            assert_same_bits(lowbit.encode(device, "e4m3fn", **options), lowbit.encode(host, "e4m3fn", **options))
            assert lowbit.quantize(device, "e4m3fn", out=device, **options) is device
            assert_same_bits(device.contiguous(), want)


@needs_device
@pytest.mark.parametrize("bits", range(1, 9))
def test_packed_codes(bits):
    for count in (0, 1, 7, 8, 9, 4096, 100003):
        codes = torch.randint(0, 256, (count,), dtype=torch.uint8, generator=torch.Generator().manual_seed(bits))
        packed = lowbit.pack(codes.cuda(), bits)
        assert_same_bits(packed, torch.from_numpy(lowbit.pack(codes, bits)))
        assert_same_bits(lowbit.unpack(packed, bits, count), codes & (2**bits - 1))
    with pytest.raises(ValueError, match="unpack: packed has"):
        lowbit.unpack(packed, bits, 2 * count + 8)


@needs_device
@pytest.mark.parametrize("rule", ["floor", "ceil", "even", "rceil"])
@pytest.mark.parametrize("name", SCALED)
def test_scaled_formats(name, rule):
    generator = torch.Generator().manual_seed(0)
    fmt = lowbit.format(name).replace(rule=rule)
    kinds = [
        fmt,
        *(
            fmt.replace(block=b, axis=a)
            for b, a in ((32, 0), (16, -1), (48, -1), (None, 0), (None, -1), (None, None))
            if not isinstance(fmt.block, tuple)
        ),
    ]
    for form in kinds:
        for shape in ((64, 96), (3, 33, 50), (1, 4096), (0, 32)):
            x = torch.randn(*shape, generator=generator) * torch.exp2(torch.randint(-30, 30, (*shape[:-1], 1), generator=generator))
            if x.numel():
                x[0] = 0
                x.view(-1)[-5], x.view(-1)[-40] = float("nan"), float("inf")
            for dtype in DTYPES:
                for options in ({}, {"rounding": "up"}, {"rounding": "stochastic", "seed": 3, "random_bits": 16}):
                    host = x.to(dtype)
                    assert_same_numbers(lowbit.quantize(host.cuda(), form, **options), lowbit.quantize(host, form, **options))
                    got, want = lowbit.encode(host.cuda(), form, **options), lowbit.encode(host, form, **options)
                    assert_same_bits(got.codes, want.codes)
                    assert_same_bits(got.scales, want.scales)
                    assert float(got.tensor_scale) == want.tensor_scale
                    decoded = lowbit.decode(want, form, dtype=dtype)
                    assert_same_numbers(lowbit.decode(got, form, dtype=dtype), decoded)
                    assert_same_numbers(lowbit.decode((got.codes, got.scales, want.tensor_scale), form, dtype=dtype), decoded)


@needs_device
@pytest.mark.parametrize("accumulate", ["fp16", "bf16", "e4m3fn", "int8", None])
def test_products_with_a_rounded_accumulator(accumulate):
    generator = torch.Generator().manual_seed(0)
    for rows, inner, columns in ((1, 1, 1), (3, 19, 5), (64, 16, 64), (65, 33, 130), (7, 0, 9), (200, 1000, 150)):
        a, b = torch.randn(rows, inner, generator=generator), torch.randn(columns, inner, generator=generator).T
        for rounding in lowbit.ROUNDINGS[:-1]:
            for every in (1, 16, "end"):
                options = {"accumulate": accumulate, "rounding": rounding, "round_every": every, "inputs": "e4m3fn"}
                assert_same_bits(lowbit.matmul(a.cuda(), b.cuda(), **options), lowbit.matmul(a, b, **options))
    with pytest.raises(UnsupportedError, match="matmul: rounding is 'stochastic'"):
        lowbit.matmul(a.cuda(), b.cuda(), rounding="stochastic")


def assert_same_statistics(got, want):
    for field in dataclasses.fields(lowbit.Statistics):
        np.testing.assert_array_equal(getattr(got, field.name), getattr(want, field.name), err_msg=field.name)


@needs_device
@pytest.mark.parametrize("spec", FORMATS)
def test_statistics_are_the_same_counts_and_the_same_sums(spec):
    fmt = lowbit.format(spec)
    for dtype in dtypes_of(fmt):
        x = torch.cat((probes(fmt), torch.randn(100_000, generator=torch.Generator().manual_seed(0)))).to(dtype)
        for options in MODES:
            out, on_host = torch.empty_like(x, device="cuda"), torch.empty_like(x)
            got = lowbit.statistics(x.cuda(), fmt, out=out, **options)
            assert_same_statistics(got, lowbit.statistics(x, fmt, out=on_host, **options))
            assert_same_bits(out, on_host)


@needs_device
@pytest.mark.parametrize("count", [0, 1, 17, 1023, 1025, 65_536, 65_537, 3_000_001, 70_000_000])
def test_statistics_of_any_count_and_stride(count):
    whole = torch.randn(count + 1, generator=torch.Generator().manual_seed(count))
    for take in (lambda x: x[:count], lambda x: x[1:], lambda x: x[: count // 2 * 2].view(-1, 2)[:, 0]):
        for options in ({}, {"rounding": "stochastic", "random_bits": 8}):
            x = take(whole.cuda())
            assert_same_statistics(lowbit.statistics(x, "e4m3fn", **options), lowbit.statistics(take(whole), "e4m3fn", **options))
    x = whole.cuda()
    want = lowbit.statistics(whole, "e2m1", out=whole)
    assert_same_statistics(lowbit.statistics(x, "e2m1", out=x), want)
    assert_same_bits(x, whole)


@needs_device
def test_nan_without_a_code_is_refused():
    x = torch.tensor([1.0, float("nan"), 2.0, float("nan")], device="cuda")
    for name in ("e2m1", "int8", "nf4"):
        with pytest.raises(ValueError, match=r"encode: x holds NaN \(2 times\)"):
            lowbit.encode(x, name)
    assert lowbit.encode(x, "mxfp4").scales.tolist() == [255]


@needs_device
def test_kernels_join_the_current_stream_and_wait_for_nothing():
    x = torch.randn(1 << 22, device="cuda")
    want = {name: lowbit.quantize(x.cpu(), name) for name in ("e4m3fn", "nf4", "mxfp8", "nvfp4")}
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        late = torch.zeros_like(x)
        torch.cuda._sleep(50_000_000)
        late.copy_(x)
        got = {name: lowbit.quantize(late, name) for name in want}
    stream.synchronize()
    for name, numbers in want.items():
        assert_same_numbers(got[name], numbers)
    graph, static = torch.cuda.CUDAGraph(), torch.zeros_like(x)
    with torch.cuda.graph(graph):  # a capture fails where anything waits
        results = {name: lowbit.quantize(static, name) for name in want}
        codes = lowbit.encode(static, "nvfp4").codes
    static.copy_(x)
    graph.replay()
    for name, numbers in want.items():
        assert_same_numbers(results[name], numbers)
    assert_same_bits(codes, lowbit.encode(x.cpu(), "nvfp4").codes)


@needs_device
def test_operators_under_opcheck_compile_autograd_and_vmap():
    x = torch.randn(5, 64, device="cuda", requires_grad=True)
    arguments = (lowbit.format("e4m3fn").spec, "nearest_even", 0, 0, 32, 0)
    torch.library.opcheck(torch.ops.slipstick.lowbit_quantize.default, (x, *arguments))
    torch.library.opcheck(torch.ops.slipstick.lowbit_quantize_.default, (x.detach().clone(), *arguments))
    torch.library.opcheck(torch.ops.slipstick.lowbit_encode.default, (x.detach(), *arguments))
    codes = torch.arange(256, dtype=torch.uint8, device="cuda")
    torch.library.opcheck(torch.ops.slipstick.lowbit_decode.default, (codes, arguments[0], torch.bfloat16, 0))
    compiled = torch.compile(lambda v: lowbit.quantize(v, "mxfp4") * 2, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), lowbit.quantize(x, "mxfp4") * 2)
    (gradient,) = torch.autograd.grad(lowbit.quantize(x, "e2m1").sum(), x)
    assert torch.equal(gradient, torch.ones_like(x))
    assert torch.equal(torch.func.vmap(lambda v: lowbit.quantize(v, "nvfp4"))(x), torch.stack([lowbit.quantize(v, "nvfp4") for v in x]))


@needs_device
def test_what_has_no_kernels_yet_says_so():
    x = torch.ones(4, 4, device="cuda")
    with pytest.raises(UnsupportedError, match="quantize: profile is 'torch' and x is on cuda"):
        lowbit.quantize(x, "e4m3fn", profile="torch")


@needs_device
@pytest.mark.long
@pytest.mark.parametrize("name", ["e4m3fn", "bf16", "int8"])
def test_all_float32(name):
    for start in range(0, 2**32, 2**26):
        x = torch.arange(start, start + 2**26, dtype=torch.int64, device="cuda").to(torch.int32).view(torch.float32)
        got, want = lowbit.quantize(x, name), lowbit.quantize(x.cpu(), name).cuda()
        assert torch.equal(got.view(torch.int32), want.view(torch.int32)), hex(start)


# ---- without a device -----------------------------------------------------------------------------------------------------------------------


@needs_no_device
def test_the_list_of_devices_says_that_there_is_none():
    with pytest.raises(UnsupportedError, match="cuda: CUDA says: "):
        cuda_extension().devices()


@needs_no_device
@pytest.mark.parametrize(
    "call",
    [
        lambda x: lowbit._cuda._quantize(x, lowbit.format("e4m3fn").spec, "up", -1, 0, 32, 0),
        lambda x: lowbit._cuda._quantize_(x, lowbit.format("nf4").spec, "stochastic", 0, 0, 8, 0),
        lambda x: lowbit._cuda._quantize(x, lowbit.format("mxfp4").spec, "up", 0, 0, 32, 0),
        lambda x: lowbit._cuda._quantize(x, lowbit.format("nvfp4").spec, "up", 0, 0, 32, 0),
        lambda x: lowbit._cuda._encode(x, lowbit.format("e2m1").spec, "up", 0, 0, 32, 0),
        lambda x: lowbit._cuda._decode(x.view(torch.uint8), lowbit.format("e4m3fn").spec, torch.bfloat16, 0),
        lambda x: lowbit._cuda.encode_scaled(lowbit.format("mxfp8").replace(axis=0), x, "up", (0, 0, 32)),
        lambda x: lowbit._cuda.decode_scaled(
            lowbit.format("nvfp4"), x.view(torch.uint8), torch.zeros(4, 16, dtype=torch.uint8), 2.0, torch.float32
        ),
        lambda x: lowbit._cuda._matmul(x, x.T.contiguous(), lowbit.format("fp16").spec, 1, "up", 0),
        lambda x: lowbit._cuda._matmul(x, x.T.contiguous(), "", 0, "up", 0),
        lambda x: lowbit._cuda.statistics(x, lowbit.format("nf4"), 0, (0, 0, 32), torch.empty_like(x)),
        lambda x: lowbit._cuda.pack(x.view(torch.uint8), 4),
        lambda x: lowbit._cuda.unpack(x.view(torch.uint8), 4, 100),
    ],
)
def test_each_call_reaches_cuda_and_says_that_there_is_no_device(call, monkeypatch):
    lowbit.quantize(torch.zeros(1), "e4m3fn")
    monkeypatch.setattr(lowbit._cuda, "_on_cuda", lambda where, x, device=None: x)
    monkeypatch.setattr(lowbit._cuda, "_place", lambda x: (0, 0))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: None)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    with pytest.raises(UnsupportedError, match=r"^(quantize|encode|decode|matmul|statistics|pack|unpack): CUDA says: "):
        call(torch.ones(4, 64))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device: the script would build and measure")
def test_the_script_that_proves_and_measures_says_at_once_what_is_missing():
    script = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.sh"
    result = subprocess.run(["bash", script], capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHON": sys.executable})
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.splitlines()[-1].startswith("gpu.sh: ")


@pytest.mark.skipif(not INSTALLED, reason="slipstick._cuda is not installed")
def test_statistics_of_nothing_are_made_on_the_host():
    kernels, nothing = cuda_extension().lowbit, torch.zeros(4096, dtype=torch.uint8)
    assert kernels.statistics_bytes(65_537) - kernels.statistics_bytes(0) == 2 * 32 * 8
    want = lowbit.statistics(torch.zeros(0), "e4m3fn")
    assert kernels.merged_statistics(nothing.data_ptr(), 0) == {**dataclasses.asdict(want), "exponents": want.exponents.tolist()}


@needs_no_device
def test_bytes_of_another_version_are_refused():
    with pytest.raises(ValueError, match="quantize: a format has 3 bytes; expected"):
        cuda_extension().lowbit.quantize((0, 0), (b"abc", 0), 0, 0, 0, 32, 0, 0, 16, 0, 0, 0)
