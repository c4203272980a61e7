# Contract: torch tensors give NumPy's bits; the operators pass opcheck and torch.compile without graph breaks; gradients pass straight through.
from __future__ import annotations

import numpy as np
import pytest

from slipstick import lowbit

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.torch, pytest.mark.kernel]

FORMATS = ["e4m3fn", "e5m2", "e2m1", "bf16", "int8", "nf4", "posit8"]


def sample(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(*shape, generator=generator) * 3).to(dtype)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rounding", ["nearest_even", "up", "stochastic"])
def test_tensors_give_the_bits_of_numpy(name, rounding):
    x = sample(33, 65)
    options = {"rounding": rounding, "seed": 2**64 - 1, "stream": 3, "random_bits": 16}
    want = lowbit.quantize(x.numpy(), name, **options)
    assert np.array_equal(lowbit.quantize(x, name, **options).numpy(), want)
    assert np.array_equal(lowbit.quantize(x.T, name, **options).numpy(), lowbit.quantize(x.numpy().T, name, **options))
    codes = lowbit.encode(x, name, **options)
    assert np.array_equal(codes.numpy(), lowbit.encode(x.numpy(), name, **options))
    assert np.array_equal(lowbit.decode(codes, name).numpy(), want)
    y = x.clone()
    assert lowbit.quantize(y, name, out=y, **options) is y and np.array_equal(y.numpy(), want)
    strided = torch.zeros(65, 33).T
    lowbit.quantize(x, name, out=strided, **options)
    assert np.array_equal(strided.numpy(), want)
    in_place = x.T.clone().T
    lowbit.quantize(in_place, name, out=in_place, **options)
    assert np.array_equal(in_place.numpy(), want)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types_keep_their_type(dtype):
    x = sample(1000, dtype=dtype)
    y = lowbit.quantize(x, "e4m3fn")
    assert y.dtype == dtype
    assert torch.equal(y, lowbit.quantize(x.float(), "e4m3fn").to(dtype))  # float32 holds these float64
    assert lowbit.decode(lowbit.encode(x, "e4m3fn"), "e4m3fn", dtype=dtype).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_type_of_either_library_says_what_codes_become(dtype):
    if dtype == torch.bfloat16:
        pytest.importorskip("ml_dtypes")  # NumPy's bfloat16
    codes = torch.arange(256, dtype=torch.uint8)
    numbers = lowbit.decode(codes.numpy(), "e4m3fn", dtype=dtype)
    assert f"torch.{numbers.dtype.name}" == str(dtype)
    assert lowbit.decode(codes, "e4m3fn", dtype=numbers.dtype).dtype == dtype


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "bfloat16", "float16"])
def test_codes_are_those_of_torch(name):
    dtype = getattr(torch, name)
    fmt = lowbit.format(dtype)
    words = torch.arange(65536, dtype=torch.int32) << 16
    x = torch.cat([words, words + 1, words + 0x8000]).view(torch.float32)
    x = x[~x.isnan()]
    if name.endswith("fnuz"):
        fmt = fmt.replace(overflow="nan")  # torch's convention there, while its e4m3fn saturates
    want = x.to(dtype)
    got = lowbit.encode(x, fmt)
    numbers = ~want.float().isnan()
    words = want.view(getattr(torch, fmt.code_dtype)).numpy()
    np.testing.assert_array_equal(got.numpy()[numbers.numpy()], words[numbers.numpy()])
    assert torch.equal(lowbit.decode(got, fmt).isnan(), ~numbers)


def test_gradients_pass_straight_through():
    x = sample(7, 5).requires_grad_()
    weight = torch.arange(35.0).reshape(7, 5)
    (lowbit.quantize(x, "e2m1") * weight).sum().backward()
    assert torch.equal(x.grad, weight)


OPERATORS = {
    "lowbit_quantize": lambda: (sample(5, 3), lowbit.format("e4m3fn").spec, "nearest_even", 0, 0, 32, 0),
    "lowbit_quantize_": lambda: (sample(5, 3), lowbit.format("e4m3fn").spec, "stochastic", -1, 0, 8, 1),
    "lowbit_encode": lambda: (sample(5, 3), lowbit.format("e2m1").spec, "up", 0, 0, 32, 0),
    "lowbit_matmul": lambda: (
        sample(5, 3).requires_grad_(),
        sample(3, 4).requires_grad_(),
        lowbit.format("fp16").spec,
        1,
        "nearest_even",
        0,
    ),
    "lowbit_decode": lambda: (torch.arange(16, dtype=torch.uint8), lowbit.format("e2m1").spec, torch.bfloat16, 0),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_pass_opcheck(name):
    lowbit.quantize(torch.zeros(1), "e4m3fn")
    arguments = OPERATORS[name]()
    torch.library.opcheck(getattr(torch.ops.slipstick, name).default, arguments)
    if name in ("lowbit_quantize", "lowbit_encode"):
        torch.library.opcheck(getattr(torch.ops.slipstick, name).default, (arguments[0].T, *arguments[1:]))
        torch.library.opcheck(getattr(torch.ops.slipstick, name).default, (torch.empty(0, 3), *arguments[1:]))
    if name == "lowbit_quantize":
        torch.library.opcheck(torch.ops.slipstick.lowbit_quantize.default, (sample(5, 3).requires_grad_(), *arguments[1:]))


def test_every_operator_is_in_the_list():
    lowbit.quantize(torch.zeros(1), "e4m3fn")
    registered = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("slipstick::lowbit_")}
    assert {name.split("::")[1].split(".")[0] for name in registered} == set(OPERATORS)


def test_products_pass_gradients_straight_through():
    a, b, upstream = sample(5, 9).requires_grad_(), sample(9, 4).requires_grad_(), sample(5, 4)
    lowbit.matmul(a, b, inputs="e4m3fn").backward(upstream)
    aq, bq = lowbit.quantize(a.detach(), "e4m3fn"), lowbit.quantize(b.detach(), "e4m3fn")
    torch.testing.assert_close(a.grad, upstream @ bq.T)
    torch.testing.assert_close(b.grad, aq.T @ upstream)
    step = torch.compile(
        lambda a, b: lowbit.matmul(a, b, inputs="e4m3fn", accumulate="bf16", round_every=2), fullgraph=True, backend="aot_eager"
    )
    assert torch.equal(step(a, b), lowbit.matmul(a, b, inputs="e4m3fn", accumulate="bf16", round_every=2))
    assert torch.equal(lowbit.matmul(a[:0], b), torch.zeros(0, 4))
    (gradient,) = torch.autograd.grad(lowbit.matmul(a, b).square().sum(), a, create_graph=True)
    gradient.sum().backward()
    with pytest.raises(TypeError, match="matmul: accumulate is the scaled format"):
        lowbit.matmul(a, b, accumulate="mxfp4")


def test_a_gradient_of_a_gradient_of_a_product():
    a, b = (torch.randn(shape, requires_grad=True, generator=torch.Generator().manual_seed(5)) for shape in ((3, 4), (4, 2)))
    by_a = torch.autograd.grad((lowbit.matmul(a, b, inputs=None, accumulate="fp16") ** 2).sum(), a, create_graph=True)[0]
    assert torch.isfinite(torch.autograd.grad(by_a.sum(), b)[0]).all()


def test_plain_calls_are_shorter_but_the_operator_is_seen_by_who_looks_on():
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Look(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            seen.append(str(function))
            return function(*arguments, **(keywords or {}))

    class Special(torch.Tensor):
        pass

    x = torch.randn(10)
    plain = lowbit.quantize(x, "e4m3fn"), lowbit.encode(x, "e4m3fn"), lowbit.matmul(x[None], x[:, None], accumulate="fp16")
    with Look():
        looked_on = lowbit.quantize(x, "e4m3fn"), lowbit.encode(x, "e4m3fn"), lowbit.matmul(x[None], x[:, None], accumulate="fp16")
    assert all(torch.equal(one, other) for one, other in zip(plain, looked_on, strict=True))
    assert {f"slipstick.lowbit_{name}.default" for name in ("quantize", "encode", "matmul")} <= set(seen)
    with torch.profiler.profile() as profile:
        lowbit.decode(plain[1], "e4m3fn")
    assert "slipstick::lowbit_decode" in {event.name for event in profile.events()}
    assert type(lowbit.quantize(x.as_subclass(Special), "e4m3fn")) is Special
    with torch.no_grad():
        assert not lowbit.quantize(x.clone().requires_grad_(), "e4m3fn").requires_grad


@pytest.mark.parametrize("dimension", [0, 1, -1])
@pytest.mark.parametrize("options", [{}, {"rounding": "stochastic", "seed": 3}])
@pytest.mark.parametrize("name", ["e4m3fn", "nf4", "mxfp4", "nvfp4"])
def test_vmap_is_one_call_for_each_member(name, options, dimension):
    x = sample(3, 40, 33)
    got = torch.func.vmap(lambda v: lowbit.quantize(v, name, **options), dimension)(x)
    assert torch.equal(got, torch.stack([lowbit.quantize(v, name, **options) for v in x.unbind(dimension)]))
    codes = torch.func.vmap(lambda v: lowbit.encode(v, "e2m1", **options), dimension)(x)
    assert torch.equal(codes, torch.stack([lowbit.encode(v, "e2m1", **options) for v in x.unbind(dimension)]))
    assert torch.equal(torch.func.vmap(lambda c: lowbit.decode(c, "e2m1"))(codes), lowbit.decode(codes, "e2m1"))


def test_vmap_and_derivatives_of_functions():
    x, weight = sample(3, 4), torch.arange(4.0)
    loss = lambda v: (lowbit.quantize(v, "e2m1") * weight).sum()  # noqa: E731
    assert torch.equal(torch.func.vmap(torch.func.grad(loss))(x), weight.expand(3, 4))
    assert torch.equal(torch.func.grad(loss)(x), weight.expand(3, 4))
    torch.testing.assert_close(torch.func.jvp(loss, (x,), (x,))[1], (x * weight).sum())
    batch, b = sample(3, 5, 4), sample(4, 2)
    assert torch.equal(torch.func.vmap(lowbit.matmul, (0, None))(batch, b), torch.stack([lowbit.matmul(a, b) for a in batch]))
    gradients = torch.func.vmap(torch.func.grad(lambda a: lowbit.matmul(a, b).sum()))(batch)
    torch.testing.assert_close(gradients, torch.ones(3, 5, 2) @ b.T)
    tangent = torch.func.jvp(lowbit.matmul, (batch[0], b), (batch[1], b))[1]
    torch.testing.assert_close(tangent, batch[1] @ b + batch[0] @ b)
    with torch.autograd.forward_ad.dual_level():
        dual = lowbit.quantize(torch.autograd.forward_ad.make_dual(x, weight.expand(3, 4)), "e2m1")
        assert torch.equal(torch.autograd.forward_ad.unpack_dual(dual).tangent, weight.expand(3, 4))


def test_torch_compile_makes_one_graph():
    def step(x):
        return lowbit.quantize(x * 2, "e4m3fn").sum(dim=1) + lowbit.quantize(x, "int8", rounding="stochastic", seed=4).sum(dim=1)

    x = sample(16, 8)
    lowbit.quantize(x, "e4m3fn")
    assert torch.equal(torch.compile(step, fullgraph=True, backend="aot_eager")(x), step(x))


def test_bad_tensors_are_named():
    with pytest.raises(TypeError, match=r"quantize: x has dtype torch.int32; expected float32"):
        lowbit.quantize(torch.ones(3, dtype=torch.int32), "e4m3fn")
    with pytest.raises(ValueError, match=r"quantize: out is torch.float32 of shape \(2,\) on cpu"):
        lowbit.quantize(torch.ones(3), "e4m3fn", out=torch.ones(2))
    with pytest.raises(TypeError, match=r"decode: codes has dtype torch\.int8; expected uint8"):
        lowbit.decode(torch.ones(3, dtype=torch.int8), "e4m3fn")
    with pytest.raises(ValueError, match="encode: x holds NaN"):
        lowbit.encode(torch.tensor([float("nan")]), "e2m1")


@pytest.mark.parametrize("shape", [(1, 3, 5), (1, 1, 3, 5)])
def test_channels_behind_axes_of_one_leave_the_input(shape):
    fmt = lowbit.ScaledFormat("int8", block=None, axis=-2, scale="fp32")
    x = sample(*shape)
    before = x.clone()
    assert not torch.equal(lowbit.quantize(x, fmt), x) and torch.equal(x, before)


def test_autograd_sees_a_change_in_place():
    x = sample(4).requires_grad_()
    y = x.sigmoid()
    lowbit.quantize(y, "e2m1", out=y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    with torch.inference_mode():
        z = sample(4)
        assert lowbit.quantize(z, "e2m1", out=z) is z


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_the_default_dtype_of_torch_changes_nothing(default):
    a, b = torch.randn(64, 32), torch.randn(32, 48)
    want = (
        lowbit.matmul(a, b, inputs="e4m3fn", accumulate="fp16"),
        lowbit.quantize(a, "mxfp4"),
        lowbit.decode(lowbit.encode(a, "e5m2"), "e5m2"),
    )
    torch.set_default_dtype(default)
    try:
        got = (
            lowbit.matmul(a, b, inputs="e4m3fn", accumulate="fp16"),
            lowbit.quantize(a, "mxfp4"),
            lowbit.decode(lowbit.encode(a, "e5m2"), "e5m2"),
        )
    finally:
        torch.set_default_dtype(torch.float32)
    for x, y in zip(got, want, strict=True):
        assert x.dtype == y.dtype and torch.equal(x, y)


def test_the_default_device_of_torch_changes_nothing():
    x = sample(2, 32)
    expected = lowbit.encode(x, "e4m3fn"), lowbit.encode(x, "mxfp4").codes, lowbit.matmul(x, x.T, accumulate="fp16")
    decoded = lowbit.decode(expected[0], "e4m3fn")
    with torch.device("meta"):
        found = lowbit.encode(x, "e4m3fn"), lowbit.encode(x, "mxfp4").codes, lowbit.matmul(x, x.T, accumulate="fp16")
        again = lowbit.decode(expected[0], "e4m3fn")
    assert all(torch.equal(one, other) for one, other in zip((*expected, decoded), (*found, again), strict=True))


def test_tensors_that_hold_other_numbers_than_their_memory():
    x = sample(8)
    assert torch.equal(lowbit.quantize(torch._neg_view(x), "e4m3fn"), lowbit.quantize(-x, "e4m3fn"))
    assert torch.equal(lowbit.quantize(torch._efficientzerotensor(8), "e4m3fn"), torch.zeros(8))
