# Contract: gradients of two_head_statistics by both heads are those of the definitions in float64, within ERROR_BOUNDS of their norm, in any
# precision, any chunks of rows, and the same bits for any number of threads; for adversarial logits too. Oracle: torch's autograd over dense
# float64 logits, and finite differences.
from __future__ import annotations

import functools
import math

import pytest

torch = pytest.importorskip("torch")

import slipstick  # noqa: E402
from slipstick import losses  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.kernel]
ALL = losses.TwoHeadStatistics._fields


def heads(rows, classes, dtype, widths=(24, 40), deviation=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tensors = []
    for width in widths:
        for shape, factor in (((rows, width), 1.0), ((classes, width), deviation / width**0.5), ((classes,), 1.0)):
            tensors.append((factor * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_())
    targets = torch.randint(0, classes, (rows,), generator=generator)
    targets[1::5] = -100
    return tensors, targets


def statistics(tensors, targets=None, want=ALL, **options):
    hidden, weight, bias, second_hidden, second_weight, second_bias = tensors
    return losses.two_head_statistics(
        hidden, weight, second_hidden, second_weight, targets, want=want, bias=bias, second_bias=second_bias, **options
    )


def definition(z, w, targets, mixture, coefficient, least=None):
    log_p, log_q = torch.log_softmax(z, 1), torch.log_softmax(w, 1)
    log_m = torch.logaddexp(log_q + math.log(mixture), log_p + math.log1p(-mixture))
    log_of = torch.nn.functional.logsigmoid
    combined = z + coefficient * (w if least is None else torch.where(z.detach() >= least, w, 0.0))
    return {
        "forward_kl": (log_q.exp() * (log_q - log_p)).sum(1),
        "reverse_kl": (log_p.exp() * (log_p - log_q)).sum(1),
        "lse": torch.logsumexp(z, 1),
        "second_lse": torch.logsumexp(w, 1),
        "jensen_shannon": (mixture * log_q.exp() * (log_q - log_m) + (1 - mixture) * log_p.exp() * (log_p - log_m)).sum(1),
        "binary_kl": (torch.sigmoid(w) * (log_of(w) - log_of(z)) + torch.sigmoid(-w) * (log_of(-w) - log_of(-z))).sum(1),
        "binary_kl_norm": (-math.log(2) - (log_of(z - w) + log_of(w - z)) / 2).sum(1),
        "combined_target": combined.gather(1, targets.clamp(min=0)[:, None])[:, 0],
        "combined_lse": torch.logsumexp(combined, 1),
    }


def logits_of(tensors, softcap=None, scale=1.0):
    both = [scale * (h @ w.T + (0 if b is None else b)) for h, w, b in (tensors[:3], tensors[3:])]
    return both if softcap is None else [softcap * torch.tanh(x / softcap) for x in both]


def upstream(targets):
    along = torch.linspace(0.5, 1.5, len(targets), dtype=torch.float64)
    return torch.where(targets == -100, 0.0, along)


CASES = {
    torch.float32: {"softcap": 3.0, "scale": 0.7},
    torch.bfloat16: {},
    torch.float16: {"softcap": 3.0},
    torch.float64: {},
}


@functools.lru_cache
def case(dtype):
    """Tensors, targets, and the gradients of each statistic in float64."""
    tensors, targets = heads(50, 161, dtype)
    if dtype.itemsize == 2:
        tensors = [x.detach().float().requires_grad_() if x.ndim == 1 else x for x in tensors]
    exact = [x.detach().double().requires_grad_() for x in tensors]
    values = definition(*logits_of(exact, **CASES[dtype]), targets, 0.3, 0.6)
    return tensors, targets, {name: gradients(values[name], upstream(targets), exact) for name in ALL}


def gradients(values, along, tensors):
    found = torch.autograd.grad((values * along).sum(), tensors, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(x) if gradient is None else gradient for gradient, x in zip(found, tensors, strict=True)]


@pytest.mark.parametrize("dtype", CASES, ids=str)
@pytest.mark.parametrize("isa", slipstick.config()["isa_levels"])
def test_gradients_are_those_of_the_definitions(dtype, isa):
    tensors, targets, wanted = case(dtype)
    slipstick.set_isa(isa)
    try:
        found = statistics(tensors, targets, mixture=0.3, coefficient=0.6, workspace=40_000, **CASES[dtype])
        for name in ALL:
            for ours, theirs in zip(gradients(getattr(found, name), upstream(targets), tensors), wanted[name], strict=True):
                bound = losses.ERROR_BOUNDS[f"gradient_{str(dtype)[6:]}"]
                assert (ours.double() - theirs).norm() <= bound * theirs.norm(), name
    finally:
        slipstick.set_isa(None)


@pytest.mark.parametrize("reference", ["v2", None], ids=str)
def test_every_thread_count_gives_the_same_bits_and_chunks_change_little(reference):
    slipstick.set_isa(reference)
    try:
        tensors, targets = heads(300, 1100, torch.float32)
        names = ("forward_kl", "reverse_kl", "binary_kl_norm", "combined_lse")

        def of_sum(**options):
            found = statistics(tensors, targets, names, threshold=0.3, **options)
            return gradients(torch.stack([getattr(found, name) for name in names]), upstream(targets).float(), tensors)

        one = of_sum(threads=1)
        for threads in (2, 3, 8):
            assert all(torch.equal(x, y) for x, y in zip(one, of_sum(threads=threads), strict=True))
        for x, y in zip(one, of_sum(threads=2, workspace=100_000), strict=True):
            assert (x - y).norm() <= 1e-6 * x.norm()
    finally:
        slipstick.set_isa(None)


def test_gradcheck_of_all_statistics_by_both_heads():
    tensors, targets = heads(4, 7, torch.float64, (3, 2))

    def all_of(*tensors):
        found = statistics(tensors, targets, mixture=0.3, threshold=0.5, coefficient=0.7, softcap=4.0, scale=0.8)
        return tuple(found)

    assert torch.autograd.gradcheck(all_of, tensors, fast_mode=True)


def test_a_head_that_asks_for_no_gradient_gets_none():
    for frozen in (0, 3):
        tensors, targets = heads(20, 90, torch.float32)
        whole = statistics(tensors, targets).forward_kl.sum()
        wanted = torch.autograd.grad(whole, tensors)
        tensors = [x.detach() if frozen <= at < frozen + 3 else x for at, x in enumerate(tensors)]
        statistics(tensors, targets).forward_kl.sum().backward()
        for at, x in enumerate(tensors):
            assert x.grad is None if frozen <= at < frozen + 3 else torch.equal(x.grad, wanted[at])


def test_adversarial_rows_have_the_gradients_of_the_oracle():
    generator = torch.Generator().manual_seed(1)
    z, w = torch.randn(2, 5, 70, generator=generator).double()
    z[0, 3], w[0, 3] = 1e4, 1e4
    z[1, 3], w[1, 9] = 1e4, 1e4
    z[2], w[2] = -1e4, 1e4
    z[3], w[3] = torch.linspace(-1e4, 1e4, 70), torch.linspace(1e4, -1e4, 70)
    z[4], w[4] = 2.0, -3.0
    bias = torch.zeros(70)
    bias[5::9] = -math.inf
    eye, targets = torch.eye(5), torch.tensor([3, 4, 6, 0, 1])
    tensors = [eye, z.T.float().contiguous().requires_grad_(), bias, eye, w.T.float().contiguous().requires_grad_(), bias]
    by = [tensors[1], tensors[4]]
    exact = [x.detach().double().requires_grad_() for x in by]
    kept = torch.isfinite(bias)
    found = statistics(tensors, targets, mixture=0.3, coefficient=-0.5)
    for name in ALL:
        got = torch.autograd.grad(getattr(found, name).sum(), by, retain_graph=True)
        logits = [x.T[:, kept] for x in exact]
        column = (torch.cumsum(kept, 0) - 1)[targets]
        want = torch.autograd.grad(definition(*logits, column, 0.3, -0.5)[name].sum(), exact, allow_unused=True)
        for ours, theirs in zip(got, want, strict=True):
            theirs = torch.zeros_like(ours, dtype=torch.float64) if theirs is None else theirs
            assert not ours.isnan().any(), name
            assert (ours[~kept] == 0).all(), name
            assert ((ours.double() - theirs).abs() <= 1e-5 * (1 + theirs.abs().max(0).values)).all(), name


def test_mixed_precisions_are_widened_and_autocast_narrows():
    tensors, targets = heads(12, 50, torch.float32)
    mixed = [x.detach() for x in (*tensors[:3], *(x.bfloat16() for x in tensors[3:]))]
    widened = [x.double() for x in mixed]
    assert torch.allclose(statistics(mixed, targets).forward_kl.double(), statistics(widened, targets).forward_kl, atol=1e-5)
    doubled = [*widened[:3], *mixed[3:]]
    assert torch.equal(statistics(doubled, targets).forward_kl, statistics(widened, targets).forward_kl)
    with torch.autocast("cpu", torch.bfloat16):
        narrowed = statistics(tensors, targets).forward_kl
    halves = [x.detach().bfloat16() if x.ndim == 2 else x.detach() for x in tensors]
    assert torch.equal(narrowed, statistics(halves, targets).forward_kl)


@pytest.mark.long
def test_compiled_whole():
    tensors, targets = heads(9, 33, torch.float64)

    def loss(*tensors):
        found = statistics(tensors, targets, ("forward_kl", "second_lse", "combined_lse"), threshold=0.5)
        return (found.forward_kl + 0.1 * found.second_lse + found.combined_lse).sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(*tensors)
    assert torch.equal(compiled, loss(*tensors))
    for x, y in zip(torch.autograd.grad(compiled, tensors), torch.autograd.grad(loss(*tensors), tensors), strict=True):
        assert torch.allclose(x, y, rtol=1e-13, atol=1e-15)


def test_what_has_no_gradient_refuses_one():
    tensors, targets = heads(5, 9, torch.float64)
    arguments = [*tensors[:3], *tensors[3:], targets, "", 0.0, 1.0, -100, 1 << 20, 1, "jensen_shannon", 0.5]
    forward, *others = torch.ops.slipstick.two_head_divergence(*arguments)
    assert forward.requires_grad
    assert not any(x.requires_grad for x in others)
    gradient = torch.autograd.grad(forward.sum(), tensors[0], create_graph=True)[0]
    with pytest.raises(RuntimeError, match="a gradient of a gradient is asked for"):
        torch.autograd.grad(gradient.sum(), tensors[0])


def test_heads_on_different_devices_are_refused():
    tensors, targets = heads(5, 9, torch.float32)
    first, second = tensors[:3], [x.detach().to("meta") for x in tensors[3:]]
    with pytest.raises(ValueError, match="two_head_statistics: second_hidden is on meta; expected cpu, as hidden is there"):
        statistics([*first, *second], targets)
    with pytest.raises(ValueError, match="two_head_statistics: targets is on meta; expected cpu"):
        statistics(tensors, targets.to("meta"))
