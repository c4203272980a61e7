# Contract: what is easily mixed up stays right: dtypes under autocast, loss scales, byte orders, rows that do not count, arguments of no use.
from __future__ import annotations

import importlib

import numpy as np
import pytest

from slipstick import losses

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.kernel]


@pytest.fixture
def head():
    torch.manual_seed(0)
    return torch.randn(6, 8), torch.randn(11, 8), torch.randint(0, 11, (6,))


def test_autocast_takes_hidden_of_a_layer_beside_weights_in_float32(head):
    hidden, weight, targets = head
    with torch.autocast("cpu", torch.bfloat16):
        narrow = torch.nn.functional.linear(hidden, torch.eye(8))
        assert narrow.dtype == torch.bfloat16
        loss = losses.linear_cross_entropy(narrow, weight, targets)
        rows = losses.row_statistics(narrow, weight, targets)
    wanted = losses.linear_cross_entropy(hidden.bfloat16(), weight.bfloat16(), targets)
    assert loss == wanted
    assert torch.equal(rows.lse, losses.row_statistics(hidden.bfloat16(), weight.bfloat16(), targets).lse)


def test_losses_of_chunks_do_not_depend_on_autocast(head):
    hidden, weight, targets = head
    wanted = losses.aldr_kl_loss(hidden, weight, targets)
    with torch.autocast("cpu", torch.bfloat16):
        loss = losses.aldr_kl_loss(hidden, weight, targets)
    assert loss.dtype == torch.float32 and loss == wanted


def test_cross_entropy_of_bags_is_never_negative_under_autocast(head):
    hidden, weight, _ = head
    with torch.autocast("cpu", torch.bfloat16):
        loss = losses.aggregate_cross_entropy(8 * hidden[:, None], 8 * weight, (hidden @ weight.T).argmax(1)[:, None], reduction="none")
    assert (loss >= 0).all()


def test_a_loss_scale_brings_back_what_float16_would_lose():
    torch.manual_seed(0)
    weight = torch.randn(64, 16)
    targets = torch.randint(0, 64, (16384,))
    hidden = (0.9 * weight[targets]).half().requires_grad_()
    narrow = weight.half().requires_grad_()
    wide, wide_weight = hidden.detach().float().requires_grad_(), narrow.detach().float().requires_grad_()
    scale = 65536.0
    (losses.linear_cross_entropy(hidden, narrow, targets) * scale).backward()
    (torch.nn.functional.cross_entropy(wide @ wide_weight.T, targets) * scale).backward()
    assert ((hidden.grad.float() - wide.grad).norm() / wide.grad.norm()).item() < 1e-3


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_arrays_of_either_byte_order(head, kind):
    hidden, weight, targets = (x.numpy() for x in head)
    wanted = losses.linear_cross_entropy(hidden.astype(kind), weight.astype(kind), targets)
    swapped = losses.linear_cross_entropy(hidden.astype(">" + kind), weight.astype(">" + kind), targets.astype(">i8"))
    assert swapped == wanted
    assert np.isclose(wanted, torch.nn.functional.cross_entropy(head[0] @ head[1].T, head[2]).item(), rtol=1e-6)


def subset_loss(hidden, weight, targets, **options):
    return losses.subset_distillation_loss(hidden, weight, hidden + 1, weight, torch.tensor([[0, 1, 2]] * 6), targets, **options)


def test_a_nan_in_a_row_that_does_not_count_reaches_no_gradient(head):
    hidden, weight, targets = head
    hidden, targets = hidden.clone(), targets.clone()
    hidden[1], targets[1] = float("nan"), -100
    for loss_of in (
        lambda w: subset_loss(hidden, w, targets),
        lambda w: subset_loss(hidden, w, targets, renormalize=False),
        lambda w: losses.top_k_distillation_loss(hidden, w, hidden + 1, weight, targets, k=3),
        lambda w: losses.linear_cross_entropy(hidden, w, targets),
    ):
        learned = weight.clone().requires_grad_()
        loss = loss_of(learned)
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(learned.grad).all()


def test_a_masked_class_has_no_part_in_the_gradient_of_a_learnt_scale(head):
    hidden, weight, targets = head
    seen, targets = torch.arange(11) != 3, targets + (targets == 3)
    bias = torch.where(seen, torch.randn(11), -torch.inf)
    scale, exact = (torch.tensor(1.5, dtype=kind, requires_grad=True) for kind in (torch.float32, torch.float64))
    rows = losses.row_statistics(hidden, weight, targets, bias=bias, scale=scale)
    (rows.lse - rows.target).sum().backward()
    z = exact * (hidden.double() @ weight[seen].double().T + bias[seen].double())  # the dense product of all classes gives NaN, too
    torch.nn.functional.cross_entropy(z, targets - (targets > 3).long(), reduction="sum").backward()
    assert scale.grad.item() == pytest.approx(exact.grad.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["row_losses", "gathered_logits", "counted_labels", "scaled_gradient", "row_statistics"])
def test_operators_that_are_torch_code_have_a_kernel_for_any_device(name):
    for module in ("_torch", "_formula_operators"):
        importlib.import_module(f"slipstick.losses.{module}")
    backward = f"slipstick::{name}_backward"
    for each in (f"slipstick::{name}", *((backward,) if hasattr(torch.ops.slipstick, f"{name}_backward") else ())):
        of_cuda = torch._C._dispatch_has_computed_kernel_for_dispatch_key(each, "CUDA")
        assert of_cuda == (name != "row_statistics"), each  # that one is the core's, which takes tensors of the processor


def test_targets_and_options_of_subset_losses_are_checked(head):
    hidden, weight, targets = head
    with pytest.raises(ValueError, match="targets"):
        subset_loss(hidden, weight, targets[:, None])
    with pytest.raises(TypeError, match="'nonsense'"):
        subset_loss(hidden, weight, targets, nonsense=3)
    for softcap in (0.0, -5.0, float("inf")):
        with pytest.raises(ValueError, match="softcap is "):
            subset_loss(hidden, weight, targets, softcap=softcap)
    with pytest.raises(ValueError, match="bias has shape"):
        subset_loss(hidden, weight, targets, bias=torch.zeros(15))


def test_empty_batches_and_heads_without_width(head):
    _, weight, _ = head
    none = torch.zeros(0, dtype=torch.int64)
    loss = losses.subset_distillation_loss(
        torch.zeros(0, 8), weight, torch.zeros(0, 8), weight, torch.zeros(0, 3, dtype=torch.int64), none, reduction="sum"
    )
    assert loss == 0
    loss = losses.linear_cross_entropy(torch.zeros(4, 0), torch.zeros(5, 0), torch.arange(4))
    assert loss.item() == pytest.approx(np.log(5), rel=1e-6)


def test_tensors_of_two_devices_and_numbers_beyond_int64_are_refused(head):
    hidden, weight, _ = head
    with pytest.raises(ValueError, match="bias is on meta; expected cpu"):
        losses.row_statistics(hidden, weight, want="lse", bias=torch.zeros(11, device="meta"))
    with pytest.raises(IndexError, match="18446744073709551516"):
        losses.linear_cross_entropy(hidden.numpy(), weight.numpy(), np.full(6, 2**64 - 100, np.uint64))


def test_class_weights_of_bfloat16_are_summed_in_full(head):
    torch.manual_seed(1)
    hidden, weight, targets = torch.randn(6, 8).double(), torch.randn(2000, 8).double(), torch.randint(0, 2000, (6,))
    factors = torch.rand(2000).bfloat16()
    loss = losses.linear_cross_entropy(hidden, weight, targets, class_weight=factors, label_smoothing=0.1)
    wanted = torch.nn.functional.cross_entropy(hidden @ weight.T, targets, weight=factors.double(), label_smoothing=0.1)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-12)


def test_hidden_that_holds_other_numbers_than_its_memory(head):
    hidden, weight, targets = head
    wanted = losses.linear_cross_entropy(-hidden, weight, targets)
    assert torch.equal(losses.linear_cross_entropy(torch._neg_view(hidden), weight, targets), wanted)
    nothing = losses.linear_cross_entropy(torch._efficientzerotensor(6, 8), weight, targets)
    assert torch.allclose(nothing, torch.tensor(11.0).log())


@pytest.mark.parametrize("argument", ["label_smoothing", "z_loss", "softcap"])
def test_a_tensor_of_two_is_no_number(head, argument):
    with pytest.raises((TypeError, ValueError), match=argument):
        losses.linear_cross_entropy(*head, **{argument: torch.ones(2)})
