# Contract: EQ-Net's losses take torch tensors, agree with arrays, and their gradients flow where they should: through weights and through the
# guided side of each divergence, not the guiding one. Oracle: the NumPy path in float64 and numerical differentiation.
from __future__ import annotations

import numpy as np
import pytest

from slipstick.lowbit.studies import (
    guidance_losses,
    kl_divergence,
    logit_sharpness,
    search_exponent,
    skewness_and_kurtosis,
    sweep,
    weight_distribution_loss,
)

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def tensor(array, **options):
    return torch.tensor(np.asarray(array), **options)


def test_tensors_and_arrays_agree():
    random = np.random.default_rng(0)
    layers = [random.gamma(2.0, size=(6, 5)) for _ in range(3)]
    skewness, kurtosis = skewness_and_kurtosis(tensor(layers[0]))
    assert (skewness.item(), kurtosis.item()) == pytest.approx(skewness_and_kurtosis(layers[0]), rel=1e-12)
    found = weight_distribution_loss([tensor(layer) for layer in layers])
    assert found.shape == ()
    assert found.item() == pytest.approx(weight_distribution_loss(layers), rel=1e-12)
    logits, targets = random.normal(size=(3, 4, 6)), random.integers(0, 6, 4)
    found = guidance_losses(*map(tensor, logits), tensor(targets))
    assert [loss.item() for loss in found] == pytest.approx(guidance_losses(*logits, targets), rel=1e-12)


def test_gradient_of_the_distribution_loss_is_that_of_finite_differences():
    layer = tensor(np.random.default_rng(1).gamma(2.0, size=12), requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: weight_distribution_loss([w], skip_first=False), (layer,))


def test_gradients_flow_only_to_the_guided_side():
    random = np.random.default_rng(2)
    high, middle, low = (tensor(random.normal(size=(4, 6)), requires_grad=True) for _ in range(3))
    targets = tensor(random.integers(0, 6, 4))
    losses = guidance_losses(high, middle, low, targets)
    assert torch.autograd.grad(losses[1], high, retain_graph=True, allow_unused=True) == (None,)
    assert torch.autograd.grad(losses[2], middle, retain_graph=True, allow_unused=True) == (None,)
    sum(losses).backward()
    one_hot = torch.nn.functional.one_hot(targets, 6)
    p = [logits.detach().softmax(-1) for logits in (high, middle, low)]
    assert torch.allclose(high.grad, (p[0] - one_hot) / 4)
    assert torch.allclose(middle.grad, (0.5 * (p[1] - p[0]) + 0.5 * (p[1] - one_hot)) / 4)
    assert torch.allclose(low.grad, (0.5 * (p[2] - p[1]) + 0.5 * (p[2] - one_hot)) / 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_of_tensors_stays(dtype):
    weights = torch.linspace(-1, 1, 64, dtype=dtype)
    assert weight_distribution_loss([weights, weights]).dtype is dtype


def test_wrong_tensors_are_refused():
    logits, targets = torch.zeros(2, 3), torch.tensor([0, 1])
    with pytest.raises(TypeError, match=r"skewness_and_kurtosis: weights has dtype torch\.int64; expected a floating-point tensor"):
        skewness_and_kurtosis(torch.arange(4))
    with pytest.raises(ValueError, match="skewness_and_kurtosis: weights has 1 elements; expected at least 2"):
        skewness_and_kurtosis(torch.ones(1))
    with pytest.raises(TypeError, match="guidance_losses: some logits are torch tensors and some are not"):
        guidance_losses(logits, logits.numpy(), logits, targets)
    with pytest.raises(TypeError, match="guidance_losses: targets is list; expected a torch tensor of class numbers"):
        guidance_losses(logits, logits, logits, [0, 1])
    with pytest.raises(ValueError, match="guidance_losses: targets holds 0 to 3; expected 0 to 2"):
        guidance_losses(logits, logits, logits, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="guidance_losses: logits have shapes"):
        guidance_losses(logits, logits, torch.zeros(2, 4), targets)


def test_a_sweep_takes_losses_that_are_tensors():
    def model(format, seed, learning_rate):
        torch.manual_seed(seed)
        weight = torch.randn(8, requires_grad=True)
        for _ in range(10):
            loss = weight.square().sum()
            (gradient,) = torch.autograd.grad(loss, weight)
            yield loss
            with torch.no_grad():
                weight -= learning_rate * gradient

    result = sweep(model, ["fp32"], [0, 1], [0.1, 1.5], progress=False)
    assert [run.diverged for run in result.runs] == [False, False, True, True]


def test_tensors_are_looked_at_without_their_gradient():
    random = np.random.default_rng(4)
    logits, targets = random.normal(size=(3, 5)).astype(np.float32), random.integers(0, 5, 3)
    moved = tensor(logits, requires_grad=True)
    assert (logit_sharpness(moved, tensor(targets)) == logit_sharpness(logits, targets)).all()
    assert kl_divergence(moved, moved.detach() + 1) == kl_divergence(logits, logits + np.float32(1))
    rounded = tensor(logits).bfloat16()
    assert (logit_sharpness(rounded, tensor(targets)) == logit_sharpness(rounded.float().numpy(), targets)).all()
    assert search_exponent(rounded, 4) == search_exponent(rounded.float().numpy(), 4)
    assert search_exponent([rounded, rounded], 4) == search_exponent([rounded.float().numpy()] * 2, 4)
    with pytest.raises(TypeError, match=r"logit_sharpness: targets has dtype float64; expected whole numbers"):
        logit_sharpness(moved, tensor(targets).double())
