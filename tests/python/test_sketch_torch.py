# Contract: lstsq takes torch tensors, gives back the values that it gives for arrays, and its gradients are those of finite differences.
from __future__ import annotations

import numpy as np
import pytest

from slipstick import sketch

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def tensors(n, d, k, dtype=None):
    generator = torch.Generator().manual_seed(n + d + k)
    A = torch.randn(n, d, generator=generator, dtype=torch.float64)  # noqa: N806
    b = torch.randn(*((n, k) if k else (n,)), generator=generator, dtype=torch.float64)
    return [part.to(dtype or torch.float64).requires_grad_() for part in (A, b, torch.rand(n, generator=generator) + 0.5)]


@pytest.mark.parametrize("k", [0, 2])
@pytest.mark.parametrize("ridge", [0.0, 0.7])
def test_gradients_are_those_of_finite_differences(k, ridge):
    A, b, weights = tensors(12, 4, k)  # noqa: N806
    assert torch.autograd.gradcheck(lambda a, right: sketch.lstsq(a, right, ridge=ridge).x, (A, b))
    assert torch.autograd.gradcheck(lambda a, right, w: sketch.lstsq(a, right, ridge=ridge, weights=w).x, (A, b, weights))


@pytest.mark.parametrize("ridge", [0.0, 0.7])
def test_second_gradients_are_those_of_finite_differences(ridge):
    A, b, weights = tensors(8, 3, 0)  # noqa: N806
    assert torch.autograd.gradgradcheck(lambda a, right, w: sketch.lstsq(a, right, ridge=ridge, weights=w).x, (A, b, weights))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_those_of_arrays(dtype):
    A, b, weights = tensors(3000, 30, 0, dtype)  # noqa: N806
    result = sketch.lstsq(A, b, weights=weights, ridge=0.1)
    want = sketch.lstsq(A.detach().numpy(), b.detach().numpy(), weights=weights.detach().numpy(), ridge=0.1)
    assert result.x.dtype == result.standard_errors.dtype == dtype
    np.testing.assert_array_equal(result.x.detach().numpy(), want.x.astype(result.x.detach().numpy().dtype))
    assert (result.method, result.backward_error) == (want.method, want.backward_error)
    result.x.sum().backward()
    assert A.grad.shape == A.shape and A.grad.dtype == dtype and torch.isfinite(A.grad).all()


@pytest.mark.parametrize("mixed", [False, True])
def test_integers_give_float64_and_do_not_round_the_solution(mixed):
    generator = torch.Generator().manual_seed(0)
    A = torch.randint(-5, 5, (50, 3), generator=generator)  # noqa: N806
    b = torch.randint(-5, 5, (50,), generator=generator).to(torch.int32)
    b = b.to(torch.float32) if mixed else b
    result = sketch.lstsq(A, b)
    want = sketch.lstsq(A.numpy(), b.numpy())
    assert result.x.dtype == result.standard_errors.dtype == (torch.float32 if mixed else torch.float64)
    np.testing.assert_allclose(result.x.numpy(), want.x, rtol=1e-6)
    np.testing.assert_allclose(result.standard_errors.numpy(), want.standard_errors, rtol=1e-6)


def test_what_has_no_gradient_is_refused():
    A, b, _ = tensors(12, 4, 0)  # noqa: N806
    twice = torch.cat([A, A[:, :1]], dim=1)
    x = sketch.lstsq(twice, b).x
    with pytest.raises(ValueError, match="lstsq: rank of A is 4; expected 5, its columns, for a gradient"):
        x.sum().backward()


def test_arrays_and_tensors_are_not_mixed():
    A, b, _ = tensors(12, 4, 0)  # noqa: N806
    with pytest.raises(TypeError, match="lstsq: b is ndarray; expected a tensor"):
        sketch.lstsq(A, b.detach().numpy())
    with pytest.raises(TypeError, match="lstsq: A is on meta; expected the CPU"):
        sketch.lstsq(A.to("meta"), b)
