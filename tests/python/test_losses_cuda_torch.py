# Contract: losses of CUDA tensors are within the room's bounds of float64, the same bits in every run, on torch's current stream, without waiting for it
# and within the workspace. The arithmetic and the tiles are proven on the host (test_losses_tiles_torch.py); this is for what only a device can show:
# launches, shuffles, torch's products, memory. Without a device, that each call reaches CUDA and says cleanly that there is none.
from __future__ import annotations

import pytest

from slipstick import UnsupportedError, losses
from slipstick._extension import cuda_extension

torch = pytest.importorskip("torch")
F = torch.nn.functional

pytestmark = [pytest.mark.torch, pytest.mark.cuda]

INSTALLED = cuda_extension() is not None
WITH_DEVICE = INSTALLED and torch.cuda.is_available()
needs_device = pytest.mark.skipif(not WITH_DEVICE, reason="no CUDA device" if INSTALLED else "slipstick._cuda is not installed")
needs_no_device = pytest.mark.skipif(not INSTALLED or torch.cuda.is_available(), reason="needs slipstick._cuda and no device")

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
NAMES = ("target", "lse", "mean", "second_moment", "expected", "entropy", "maximum")


def head(rows, width, vocabulary, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, dtype=torch.float64, generator=generator).to(dtype)
    weight = (torch.randn(vocabulary, width, dtype=torch.float64, generator=generator) * 2 / width**0.5).to(dtype)
    bias = torch.randn(vocabulary, dtype=torch.float64, generator=generator).to(dtype)
    targets = torch.randint(0, vocabulary, (rows,), generator=generator)
    targets[1::4] = -100
    return [x.cuda() for x in (hidden, weight, bias, targets)]


def bound_of(dtype):
    return losses.ERROR_BOUNDS[f"gradient_{str(dtype).removeprefix('torch.')}"] * (2 if dtype == torch.bfloat16 else 1)


@needs_device
@pytest.mark.parametrize("options", [{}, {"softcap": 3.0}, {"logit_map": "stablemax"}, {"scale": -0.6}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_statistics_and_their_gradients_are_those_of_the_cpu_in_float64(dtype, options):
    for shape in ((1, 8, 1), (5, 16, 7), (70, 64, 1025), (300, 96, 5003)):
        hidden, weight, bias, targets = head(*shape, dtype)
        ours = [x.clone().requires_grad_() for x in (hidden, weight, bias)]
        exact = [x.detach().cpu().double().requires_grad_() for x in ours]
        upstream = torch.rand(len(NAMES), shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        if dtype != torch.float64:
            upstream[-1] = 0  # rounding may choose another of two maxima that are close
        want = losses.row_statistics(exact[0], exact[1], targets.cpu(), bias=exact[2], want=(*NAMES, "argmax"), **options)
        for workspace in (1 << 12, 1 << 20, None):
            got = losses.row_statistics(ours[0], ours[1], targets, bias=ours[2], want=(*NAMES, "argmax"), workspace=workspace, **options)
            total, by_oracle = 0.0, 0.0
            unit = 2.0**-48 if dtype == torch.float64 else 2.0**-19
            for name, by in zip(NAMES, upstream, strict=True):
                x, y = getattr(got, name), getattr(want, name)
                assert x.is_cuda and ((x.cpu().double() - y).abs() <= unit * 4 * (1 + y.abs())).all(), name
                total = total + (x.double() * by.cuda()).sum()
                by_oracle = by_oracle + (y * by).sum()
            if dtype == torch.float64:
                assert torch.equal(got.argmax.cpu(), want.argmax)
            made = torch.autograd.grad(total, ours)
            for x, y in zip(made, torch.autograd.grad(by_oracle, exact, retain_graph=True), strict=True):
                assert (
                    x.dtype == dtype and (x.cpu().double() - y).norm() <= max(bound_of(dtype), 2e-6 * (dtype == torch.float32)) * y.norm()
                )


@needs_device
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", [{}, {"reduction": "sum"}, {"label_smoothing": 0.1}, {"reduction": "none"}], ids=str)
def test_cross_entropy_is_that_of_torch_in_float64(dtype, options):
    hidden, weight, bias, targets = head(257, 128, 5003, dtype)
    ours = [x.clone().requires_grad_() for x in (hidden, weight, bias)]
    exact = [x.detach().double().requires_grad_() for x in ours]
    got = losses.linear_cross_entropy(ours[0], ours[1], targets, ours[2], **options)
    want = F.cross_entropy(exact[0] @ exact[1].T + exact[2], targets, **options)
    unit = 1e-12 if dtype == torch.float64 else 4e-6
    assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (got.double() - want).abs().max() <= unit * max(1.0, want.abs().max().item())
    upstream = torch.rand(got.shape, dtype=got.dtype, device="cuda") if got.ndim else torch.full_like(got, 3.0)
    made = torch.autograd.grad(got, ours, upstream)
    for x, y in zip(made, torch.autograd.grad(want, exact, upstream.double()), strict=True):
        assert (x.double() - y).norm() <= bound_of(dtype) * y.norm()


@needs_device
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_run_gives_the_same_bits(dtype):
    hidden, weight, bias, targets = head(1000, 256, 20011, dtype)
    results = []
    for _ in range(3):
        inputs = [x.clone().requires_grad_() for x in (hidden, weight, bias)]
        loss = losses.linear_cross_entropy(inputs[0], inputs[1], targets, inputs[2], workspace=1 << 24)
        results.append((loss.detach(), *torch.autograd.grad(loss, inputs)))
    for other in results[1:]:
        assert all(torch.equal(one, same) for one, same in zip(results[0], other, strict=True))


@needs_device
def test_nan_infinities_ignored_rows_and_wrong_targets():
    hidden, weight, bias, targets = head(8, 6, 1500, torch.float32)
    targets[:] = torch.arange(8, device="cuda")
    targets[5], targets[6] = -100, 1500
    hidden[2], hidden[5] = float("nan"), float("nan")
    bias[700] = float("-inf")
    inputs = [x.requires_grad_() for x in (hidden, weight, bias)]
    found = losses.row_statistics(hidden, weight, targets, bias=bias, want=("target", "lse", "argmax"))
    assert found.lse.isnan().nonzero()[:, 0].tolist() == [2] and found.target.isnan().nonzero()[:, 0].tolist() == [2, 6]
    assert found.argmax[5] == -1 and found.lse[5] == 0
    upstream = torch.ones(8, device="cuda")
    upstream[2] = upstream[6] = 0
    by_hidden, _, _ = torch.autograd.grad((found.lse * upstream).sum(), inputs)
    assert (by_hidden[5] == 0).all() and by_hidden.isnan().any(1).nonzero()[:, 0].tolist() == [2, 6]


@needs_device
def test_kernels_join_the_current_stream_and_a_capture():
    hidden, weight, bias, targets = head(512, 64, 6000, torch.bfloat16)

    def step():
        inputs = [x.detach().requires_grad_() for x in (static, weight, bias)]
        loss = losses.linear_cross_entropy(inputs[0], inputs[1], targets, inputs[2])
        return loss, *torch.autograd.grad(loss, inputs)

    static = hidden.clone()
    want = step()
    static = torch.zeros_like(hidden)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        static.copy_(hidden)
        got = step()
    stream.synchronize()
    assert all(torch.equal(x, y) for x, y in zip(got, want, strict=True))
    static.zero_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # a capture fails where anything waits
        captured = step()
    static.copy_(hidden)
    graph.replay()
    assert all(torch.equal(x, y) for x, y in zip(captured, want, strict=True))


@needs_device
def test_memory_is_that_of_gradients_and_workspace():
    hidden, weight, _, targets = head(4096, 256, 50000, torch.bfloat16)
    inputs = [hidden.requires_grad_(), weight.requires_grad_()]
    losses.linear_cross_entropy(*inputs, targets).backward()  # so that cuBLAS has its workspace
    hidden.grad = weight.grad = None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss = losses.linear_cross_entropy(*inputs, targets, workspace=64 << 20)
    loss.backward()
    peak = torch.cuda.max_memory_allocated() - before
    gradients = sum(x.numel() * 2 for x in inputs)
    # Of the forward: 6 sums a row. Of the backward: the rows without ignored ones, and two float sums of the gradient by hidden.
    assert peak <= gradients + (64 << 20) + hidden.numel() * 10 + (24 << 20)


@needs_device
def test_compiled_programs_autocast_and_a_scale_that_is_learnt():
    hidden, weight, bias, targets = head(64, 32, 700, torch.float32)
    scale = torch.tensor(0.7, device="cuda", requires_grad=True)

    def loss(hidden, weight, bias, scale):
        found = losses.row_statistics(hidden, weight, targets, bias=bias, scale=scale, want=("target", "lse", "entropy"))
        return (found.lse - found.target + 0.1 * found.entropy).sum()

    inputs = [x.requires_grad_() for x in (hidden, weight, bias)]
    want = torch.autograd.grad(loss(*inputs, scale), [*inputs, scale])
    on_cpu = [x.detach().cpu().requires_grad_() for x in (*inputs, scale)]
    found = losses.row_statistics(on_cpu[0], on_cpu[1], targets.cpu(), bias=on_cpu[2], scale=on_cpu[3], want=("target", "lse", "entropy"))
    of_cpu = torch.autograd.grad((found.lse - found.target + 0.1 * found.entropy).sum(), on_cpu)
    for x, y in zip(want, of_cpu, strict=True):
        torch.testing.assert_close(x.cpu(), y, rtol=1e-3, atol=1e-4)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    got = torch.autograd.grad(compiled(*inputs, scale), [*inputs, scale])
    for x, y in zip(got, want, strict=True):
        torch.testing.assert_close(x, y)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        found = losses.row_statistics(hidden, weight, targets)
    low = losses.row_statistics(hidden.bfloat16(), weight.bfloat16(), targets)
    assert torch.equal(found.lse, low.lse)


@needs_device
@pytest.mark.parametrize("spread", [1, 30, 255], ids=["ties", "some ties", "few ties"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_largest_logits_are_those_of_the_cpu(dtype, spread):
    """The products are exact: whole numbers of two factors."""
    generator = torch.Generator().manual_seed(2)
    for rows, vocabulary, counts in ((3, 1, (1,)), (5, 40, (1, 40)), (700, 513, (33, 256)), (300, 50_003, (1, 5, 256))):
        hidden = torch.randint(0, 4, (rows, 2), generator=generator).to(dtype)
        weight = torch.randint(-spread, spread + 1, (vocabulary, 2), generator=generator).to(dtype)
        targets = torch.randint(0, vocabulary, (rows,), generator=generator)
        targets[1] = -100
        for count in counts:
            want = losses.row_statistics(hidden.double(), weight.double(), targets, topk=count).topk
            for workspace in (1 << 12, 1 << 22, None):
                got = losses.row_statistics(hidden.cuda(), weight.cuda(), targets.cuda(), topk=count, workspace=workspace).topk
                assert torch.equal(got.values.cpu().double(), want.values) and torch.equal(got.indices.cpu(), want.indices)


@needs_device
def test_gradients_of_the_largest_logits_go_to_the_indices_found():
    ours = [x.requires_grad_() for x in head(70, 64, 1025, torch.float64)[:3]]
    exact = [x.detach().cpu().requires_grad_() for x in ours]
    got = losses.row_statistics(ours[0], ours[1], bias=ours[2], want=(), topk=9).topk
    want = losses.row_statistics(exact[0], exact[1], bias=exact[2], want=(), topk=9).topk
    assert torch.equal(got.indices.cpu(), want.indices)
    made, by = torch.autograd.grad(got.values.square().sum(), ours), torch.autograd.grad(want.values.square().sum(), exact)
    for x, y in zip(made, by, strict=True):
        assert (x.cpu() - y).norm() <= 1e-12 * y.norm()


@needs_device
@pytest.mark.parametrize("arguments", [{}, {"label_smoothing": 0.1}, {"reduction": "sum", "z_loss": 1e-3}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_a_filter_drops_what_the_cpu_drops_and_says_so(dtype, arguments):
    hidden, weight, bias, targets = head(257, 64, 5003, dtype)

    def step(*inputs, filter_eps):
        *inputs, labels = inputs
        inputs = [x.detach().requires_grad_() for x in inputs]
        loss, dropped = losses.linear_cross_entropy(
            *inputs[:2], labels, inputs[2], filter_eps=filter_eps, return_dropped=True, workspace=1 << 22, **arguments
        )
        made = torch.autograd.grad(loss, inputs)
        again = losses.linear_cross_entropy(*inputs[:2], labels, inputs[2], filter_eps=filter_eps, workspace=1 << 22, **arguments)
        for x, y in zip(made, torch.autograd.grad(again, inputs), strict=True):
            assert (x.double() - y.double()).norm() <= bound_of(dtype) * y.double().norm()
        return [x.cpu().double() for x in (loss.detach(), dropped, *made)]

    for eps in (None, 1e-3):
        loss, dropped, *made = step(hidden, weight, bias, targets, filter_eps=eps)
        want, mass, *by_cpu = step(*(x.cpu().double() for x in (hidden, weight, bias)), targets.cpu(), filter_eps=eps)
        assert abs(loss - want) <= 1e-5 * want and ((dropped - mass).abs() <= 2e-3).all()  # an element by the bound may go either way
        for x, y in zip(made, by_cpu, strict=True):
            assert (x - y).norm() <= max(2 * bound_of(dtype), 0 if dtype == torch.float64 else 1e-3) * y.norm()


TWO_HEADS = losses.TwoHeadStatistics._fields


@needs_device
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", [{}, {"softcap": 3.0, "scale": 0.7}], ids=str)
def test_statistics_of_two_heads_are_those_of_the_cpu_in_float64(dtype, options):
    for rows, vocabulary in ((5, 7), (70, 1025), (300, 5003)):
        hidden, weight, bias, targets = head(rows, 64, vocabulary, dtype)
        ours = [
            *(x.requires_grad_() for x in (hidden, weight, bias)),
            *(x.requires_grad_() for x in head(rows, 96, vocabulary, dtype, 1)[:3]),
        ]
        exact = [x.detach().cpu().double().requires_grad_() for x in ours]

        def found(x, labels, **more):
            common = {"want": TWO_HEADS, "mixture": 0.3, "coefficient": 0.6, **options}
            return losses.two_head_statistics(x[0], x[1], x[3], x[4], labels, bias=x[2], second_bias=x[5], **common, **more)

        want = found(exact, targets.cpu())
        unit = losses.ERROR_BOUNDS["two_heads_float64" if dtype == torch.float64 else "two_heads_float32"]
        for workspace in (1 << 12, 1 << 20, None):
            got = found(ours, targets, workspace=workspace)
            for name in TWO_HEADS:
                x, y = getattr(got, name), getattr(want, name)
                bound = 40 * unit * (vocabulary if name.startswith("binary") else 1)
                assert x.is_cuda and ((x.cpu().double() - y).abs() <= bound).all(), name
                made = torch.autograd.grad(x.sum(), ours, retain_graph=True)
                for one, other in zip(made, torch.autograd.grad(y.sum(), exact, retain_graph=True), strict=True):
                    assert one.dtype == dtype and (one.cpu().double() - other).norm() <= bound_of(dtype) * other.norm() + 1e-12, name


@needs_device
def test_differences_of_logits_count_the_likely_classes_alone():
    """The products are exact: whole numbers."""
    generator = torch.Generator().manual_seed(2)
    tensors = [torch.randint(-3, 4, shape, generator=generator).float() for shape in ((70, 5), (3001, 5), (70, 4), (3001, 4))]
    targets = torch.randint(0, 3001, (70,), generator=generator)
    want = losses.two_head_statistics(*tensors, targets, want=("combined_target", "combined_lse"), threshold=0.1)
    for workspace in (1 << 12, 1 << 22, None):
        on_device = [x.cuda() for x in tensors]
        got = losses.two_head_statistics(
            *on_device, targets.cuda(), want=("combined_target", "combined_lse"), threshold=0.1, workspace=workspace
        )
        torch.testing.assert_close(got.combined_target.cpu(), want.combined_target)
        torch.testing.assert_close(got.combined_lse.cpu(), want.combined_lse)


@needs_device
def test_two_heads_and_filters_join_a_capture_and_give_the_same_bits():
    hidden, weight, _, targets = head(512, 64, 6000, torch.bfloat16)
    second = head(512, 96, 6000, torch.bfloat16, 1)[:2]
    static = hidden.clone()

    def step():
        inputs = [x.detach().requires_grad_() for x in (static, weight, *second)]
        found = losses.two_head_statistics(*inputs, targets, want=TWO_HEADS, threshold=0.1)
        values = torch.stack([getattr(found, name) for name in TWO_HEADS])
        loss, dropped = losses.linear_cross_entropy(*inputs[:2], targets, filter_eps=1e-3, return_dropped=True)
        return values.detach(), dropped, *torch.autograd.grad(values.sum() + loss, inputs)

    want = step()
    assert all(torch.equal(x, y) for x, y in zip(step(), want, strict=True))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    stream.synchronize()
    static.zero_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # a capture fails where anything waits
        captured = step()
    static.copy_(hidden)
    graph.replay()
    assert all(torch.equal(x, y) for x, y in zip(captured, want, strict=True))


@needs_device
def test_what_lies_on_two_devices_is_refused():
    hidden, weight, _, targets = head(8, 4, 30, torch.float32)
    with pytest.raises(ValueError, match="weight is on cpu; expected cuda"):
        losses.row_statistics(hidden, weight.cpu(), want="lse")
    with pytest.raises(ValueError, match="second_hidden is on cpu; expected cuda"):
        losses.two_head_statistics(hidden, weight, hidden.cpu(), weight.cpu(), targets)


# ---- without a device -----------------------------------------------------------------------------------------------------------------------


@needs_no_device
def test_each_call_reaches_cuda_and_says_that_there_is_no_device(monkeypatch):
    losses.row_statistics(torch.zeros(1, 1), torch.zeros(1, 1), want="lse")
    from slipstick.losses import _cuda

    monkeypatch.setattr(_cuda, "_place", lambda x: (0, 0))
    monkeypatch.setattr(_cuda, "_kernels", cuda_extension().losses)
    hidden, weight, targets = torch.ones(4, 8), torch.ones(30, 8), torch.zeros(4, dtype=torch.int64)
    options = "", 0.0, 1.0, -100, 1 << 20, 0.0, 0
    with pytest.raises(UnsupportedError, match=r"^row_statistics: CUDA says: "):
        _cuda._row_statistics(hidden, weight, targets, None, None, 3, 0, *options)
    with pytest.raises(ValueError, match="row_statistics: topk is 257; expected 1 to 256"):
        _cuda._kernels.add_tops((0, 0), (0, 0, 1, 1, 1, 0, 1, 0, 1.0, 0, 0, 0.0, 0, -100), True, 257, 0, 0)
    with pytest.raises(UnsupportedError, match=r"^row_statistics: CUDA says: "):
        _cuda._kernels.add_tops((0, 0), (0, 0, 1, 1, 1, 0, 1, 0, 1.0, 0, 0, 0.0, 0, -100), True, 5, 0, 0)
    ones = torch.ones(4, dtype=torch.float64)
    of = ones, ones, None, None, None, None, None
    for kind in (torch.float32, torch.bfloat16, torch.float64):
        with pytest.raises(UnsupportedError, match=r"^row_statistics_backward: CUDA says: "):
            _cuda._row_statistics_backward(hidden.to(kind), weight.to(kind), targets, None, None, *of, True, True, False, False, *options)
        with pytest.raises(UnsupportedError, match=r"^row_statistics_backward: CUDA says: "):
            _cuda._kernels.form_gradient((0, 0), tile_fields(), *(0,) * 5, 0, 0, 0, 0.1, 0, 0, 0, 0, 1)


def tile_fields(columns=1):
    return 0, 0, 1, columns, columns, 0, columns, 0, 1.0, 0, 0, 0.0, 0, -100


@needs_no_device
def test_each_call_of_two_heads_reaches_cuda_and_says_that_there_is_no_device():
    kernels = cuda_extension().losses
    place, tile = (0, 0), tile_fields()
    tiles = tile, (0, 1, *tile[2:])  # the second is there
    calls = {
        "two_head_divergence": lambda kind: kernels.add_divergence(place, *tiles, kind, 0.5, 0, 0, True, 0, 0, 1),
        "two_head_divergence_backward": lambda kind: kernels.form_divergence_gradient(place, *tiles, kind, 0.5, (0,) * 8, 0, 0),
        "combined_statistics": lambda kind: kernels.combine(place, tile, None if kind % 2 else tiles[1], 1.0, 0, 0),
        "combined_statistics_backward": lambda kind: kernels.form_combined_gradient(place, *tiles, 1.0, 0, 0, 0, 0, 0, 0),
    }
    for name, call in calls.items():
        for kind in range(4):
            with pytest.raises(UnsupportedError, match=f"^{name}: CUDA says: "):
                call(kind)
    with pytest.raises(ValueError, match="two_head_divergence: two tiles differ in format or size; expected the same"):
        kernels.add_divergence(place, tile, (0, 1, *tile_fields(2)[2:]), 0, 0.5, 0, 0, True, 0, 0, 1)
