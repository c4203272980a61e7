# Contract: emulated layers compute with rounded weights and activations, hand rounded gradients back, and are themselves again afterwards; scaled
# formats and statistics give NumPy's bits for tensors. Oracle: the same products spelled out with quantize.
from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest

from slipstick import lowbit

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.torch


def sample(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_a_linear_layer_rounds_weights_activations_and_gradients():
    layer = lowbit.Linear(32, 8, weights="mxfp4", activations="e4m3fn", gradients="e5m2")
    x, dy = sample(5, 32).requires_grad_(), sample(5, 8)
    y = layer(x)
    y.backward(dy)
    xq, wq, dq = lowbit.quantize(x.detach(), "e4m3fn"), lowbit.quantize(layer.weight.detach(), "mxfp4"), lowbit.quantize(dy, "e5m2")
    torch.testing.assert_close(y, xq @ wq.T + layer.bias)
    torch.testing.assert_close(x.grad, dq @ wq)
    torch.testing.assert_close(layer.weight.grad, dq.T @ xq)
    torch.testing.assert_close(layer.bias.grad, dq.sum(0))


def test_formats_left_out_leave_a_layer_as_it_is():
    layer = lowbit.Linear(4, 3, bias=False)
    x = sample(2, 4)
    assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight))


def test_a_model_is_emulated_in_a_block_and_itself_afterwards():
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, 3))
    x = sample(2, 2, 6, 6)
    plain = model(x)
    with lowbit.emulate(model, weights="e2m1", activations="e4m3fn", gradients="e5m2") as emulation:
        assert list(emulation.layers) == ["0", "3"]
        got = model(x)
        with pytest.raises(ValueError, match="emulate: the layer '0' has a forward of its own"):
            lowbit.emulate(model)
        got.sum().backward()
    weight = lowbit.quantize(model[0].weight.detach(), "e2m1")
    hidden = torch.nn.functional.conv2d(lowbit.quantize(x, "e4m3fn"), weight, model[0].bias).relu().flatten(1)
    want = torch.nn.functional.linear(lowbit.quantize(hidden, "e4m3fn"), lowbit.quantize(model[3].weight, "e2m1"), model[3].bias)
    torch.testing.assert_close(got, want)
    assert model[0].weight.grad is not None
    assert torch.equal(model(x), plain)
    emulation.restore()
    in_place = lowbit.emulate(model, weights="bf16")
    assert not torch.equal(model(x), plain)
    in_place.restore()
    assert torch.equal(model(x), plain)


def test_stochastic_gradients_take_new_numbers_each_step_and_repeat_with_the_seed():
    def gradients(seed):
        torch.manual_seed(0)
        layer = lowbit.Linear(64, 64, gradients="e2m1", gradient_rounding="stochastic", seed=seed)
        found = []
        for _ in range(2):
            layer.zero_grad()
            layer(sample(16, 64)).square().sum().backward()
            found.append(layer.weight.grad.clone())
        return found

    first, again, other = gradients(1), gradients(1), gradients(2)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[0], other[0])


def test_backward_twice_over_one_graph_rounds_alike_and_another_forward_does_not():
    from torch.utils.checkpoint import checkpoint

    layer = lowbit.Linear(64, 64, gradients="e2m1", gradient_rounding="stochastic")
    x, dy = sample(8, 64).requires_grad_(), sample(8, 64)
    y, again = layer(x), layer(x)
    first, second = (torch.autograd.grad(y, x, dy, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second) and not torch.equal(first, torch.autograd.grad(again, x, dy)[0])
    layer = lowbit.Linear(64, 64, activations="e2m1", rounding="stochastic")
    y = checkpoint(layer, x, use_reentrant=False)
    (of_weight,) = torch.autograd.grad(y, layer.weight, dy)
    layer.recipe.stream = 0
    assert not torch.equal(of_weight, torch.autograd.grad(layer(x), layer.weight, dy)[0])  # of x as it was rounded the second time


def test_the_rounding_of_gradients_is_theirs_alone():
    x, weight = sample(3, 4).requires_grad_(), sample(5, 4)
    layer = lowbit.Linear(4, 5, bias=False, weights="e5m2", activations="e5m2", gradients="e5m2", gradient_rounding="toward_zero")
    with torch.no_grad():
        layer.weight.copy_(weight)
    y = layer(x)
    y.backward(sample(3, 5))
    weight = lowbit.quantize(weight, "e5m2")
    torch.testing.assert_close(y, lowbit.quantize(x.detach(), "e5m2") @ weight.T)
    torch.testing.assert_close(x.grad, lowbit.quantize(sample(3, 5), "e5m2", rounding="toward_zero") @ weight)


def test_a_copy_of_an_emulated_model_has_its_own_weights():
    model, x = torch.nn.Sequential(torch.nn.Linear(4, 3)), sample(2, 4)
    with lowbit.emulate(model, weights="e4m3fn"):
        twin = copy.deepcopy(model)
        with torch.no_grad():
            twin[0].weight.zero_()
        assert torch.equal(twin(x), twin[0].bias.expand(2, 3))
        assert torch.equal(model[0](input=x), model(x)) and not torch.equal(model(x), twin(x))


@pytest.mark.parametrize(
    ("kind", "dimensions"), [(torch.nn.ConvTranspose1d, 1), (torch.nn.ConvTranspose2d, 2), (torch.nn.ConvTranspose3d, 3)]
)
def test_transposed_convolutions_round_weights_and_activations(kind, dimensions):
    layer = kind(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
    x, sizes = sample(2, 4, *[5] * dimensions), [9] * dimensions
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.weight.copy_(lowbit.quantize(layer.weight, "e2m1"))
    rounded = lowbit.quantize(x, "e4m3fn")
    with lowbit.emulate(layer, weights="e2m1", activations="e4m3fn"):
        assert torch.equal(layer(x), twin(rounded))
        assert torch.equal(layer(x, output_size=sizes), twin(rounded, output_size=sizes))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("alike", [True, False])
def test_attention_rounds_its_four_projections(batch_first, alike):
    layer = torch.nn.MultiheadAttention(8, 2, batch_first=batch_first, kdim=None if alike else 6, vdim=None if alike else 4).eval()
    query = sample(2, 5, 8)
    key, value = (query, query) if alike else (sample(2, 5, 6), sample(2, 5, 4))

    def rounded(x, weight, bias):
        return torch.nn.functional.linear(lowbit.quantize(x, "e4m3fn"), lowbit.quantize(weight, "e2m1"), bias)

    weights = layer.in_proj_weight.chunk(3) if alike else (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
    projected = [rounded(*each) for each in zip((query, key, value), weights, layer.in_proj_bias.chunk(3), strict=True)]
    heads = [(x if batch_first else x.transpose(0, 1)).unflatten(-1, (2, 4)).transpose(1, 2) for x in projected]
    attended = torch.nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    want = rounded(attended if batch_first else attended.transpose(0, 1), layer.out_proj.weight, layer.out_proj.bias)
    with lowbit.emulate(layer, weights="e2m1", activations="e4m3fn", gradients="e5m2"):
        for need_weights in (True, False):
            got = layer(query, key, value, need_weights=need_weights)[0]
            torch.testing.assert_close(got, want)
            with torch.no_grad():  # where torch has a path that takes the weights as they are
                torch.testing.assert_close(layer(query, key, value, need_weights=need_weights)[0], want)
        got.sum().backward()
        assert all(parameter.grad is not None for parameter in layer.parameters())
        torch.testing.assert_close(torch.compile(layer, backend="aot_eager")(query, key, value)[0], want)


def test_a_transformer_layer_is_emulated_in_inference_too():
    layer, x = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), sample(2, 5, 8)
    with torch.no_grad():
        plain = layer(x)
        with lowbit.emulate(layer, weights="e2m1"):
            got = layer(x)
            with torch.enable_grad():
                torch.testing.assert_close(got, layer(x))
        assert not torch.allclose(got, plain)
        assert torch.equal(layer(x), plain) and not layer.linear1._forward_pre_hooks


def test_attention_is_rounded_beside_other_modes_of_torch():
    layer, x = torch.nn.MultiheadAttention(8, 2).eval(), sample(5, 2, 8)
    plain = layer(x, x, x)[0]
    with lowbit.emulate(layer, weights="e2m1"):
        want = layer(x, x, x)[0]
        with torch.device("cpu"):
            assert torch.equal(layer(x, x, x)[0], want)
    assert not torch.allclose(want, plain)


def test_encoders_leave_their_fast_paths_where_no_hook_is_looked_at():
    torch.manual_seed(0)
    encoder = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    x, padding = sample(2, 5, 8), torch.arange(5) >= torch.tensor([[5], [3]])
    emulation = lowbit.emulate(encoder, weights="e2m1")
    assert all(isinstance(layer, lowbit._emulate.LAYERS) for layer in emulation.layers.values())
    twin = pickle.loads(pickle.dumps(encoder))
    for each in (encoder, twin):
        for module in each.modules():
            module._forward_pre_hooks.clear()  # before 2.5 torch did not ask for them
        want = each(x, src_key_padding_mask=padding)[~padding]
        with torch.no_grad():
            torch.testing.assert_close(each(x, src_key_padding_mask=padding)[~padding], want)
            torch.testing.assert_close(each(x[:1]), want[None, :5])
    emulation.restore()
    lowbit.Emulation.of(twin).restore()
    for each in (encoder, twin):
        assert not torch.allclose(each(x[:1]), want[None, :5])
        assert each.use_nested_tensor is True and [layer.activation_relu_or_gelu for layer in each.layers] == [1, 1]


def test_a_second_restore_leaves_a_later_emulation_alone():
    model, x = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)), sample(2, 4)
    plain = model(x)
    first = lowbit.emulate(model, weights="e2m1")
    first.restore()
    with lowbit.emulate(model, weights="e2m1"):
        rounded = model(x)
        first.restore()
        assert torch.equal(model(x), rounded) and not torch.equal(rounded, plain)
    assert torch.equal(model(x), plain)


class Standardized(torch.nn.Linear):
    def forward(self, x):
        return torch.nn.functional.linear(x, self.weight - self.weight.mean(1, keepdim=True), self.bias)


def test_a_layer_that_computes_otherwise_than_its_kind_is_refused():
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), Standardized(3, 2))
    with pytest.raises(ValueError, match="emulate: the layer '1' is a Standardized with a forward of its own"):
        lowbit.emulate(model)
    assert "forward" not in vars(model[0])
    torch.nn.utils.parametrizations.weight_norm(model[0])  # a class of its own, but torch's forward
    assert list(lowbit.emulate(model[:1]).layers) == ["0"]


def test_copies_and_saved_models_stay_emulated_until_they_are_restored():
    model, x = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.MultiheadAttention(4, 2)), sample(2, 4)
    first = model[:1]
    plain = first(x)
    emulation = lowbit.emulate(model, weights="e2m1", activations="e4m3fn", gradients="e5m2")
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)]
    rounded = first(x)
    assert not torch.equal(rounded, plain) and all(torch.equal(twin[0](x), rounded) for twin in twins)
    emulation.restore()
    assert torch.equal(first(x), plain) and torch.equal(twins[0][0](x), plain)
    for twin in twins[1:]:
        assert torch.equal(twin[0](x), rounded)
        lowbit.Emulation.of(twin).restore()
        assert torch.equal(twin[0](x), plain)
    with pytest.raises(ValueError, match=r"Emulation\.of: no layer of the model is being emulated"):
        lowbit.Emulation.of(twins[0])
    with lowbit.emulate(twins[0], weights="e2m1", activations="e4m3fn"):
        assert torch.equal(twins[0][0](x), rounded)


def test_an_emulated_model_compiles_to_one_graph():
    model, x = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)), sample(2, 4)
    with lowbit.emulate(model, weights="e2m1", activations="mxfp8"):
        assert torch.equal(torch.compile(model, backend="aot_eager", fullgraph=True)(x), model(x))


@pytest.mark.parametrize("need_weights", [True, False])
def test_emulated_attention_and_its_gradients_compile_to_one_graph(need_weights):
    layer, x = torch.nn.MultiheadAttention(8, 2), sample(5, 2, 8)

    def steps(compiled):
        def attend(x):
            return layer(x, x, x, need_weights=need_weights)[0]

        results = []
        with lowbit.emulate(layer, weights="e2m1", activations="mxfp8", gradients="e2m1", gradient_rounding="stochastic"):
            function = torch.compile(attend, backend="aot_eager", fullgraph=True) if compiled else attend
            for _ in range(2):
                layer.zero_grad()
                y = function(x)
                y.square().sum().backward()
                results += [y.detach(), *(parameter.grad.clone() for parameter in layer.parameters())]
        return results

    eager = steps(False)
    torch.testing.assert_close(steps(True), eager)
    assert not torch.equal(eager[1], eager[len(eager) // 2 + 1])


@pytest.mark.parametrize("layer", [torch.nn.Linear(8, 8), torch.nn.MultiheadAttention(8, 2)])
def test_emulated_layers_run_under_vmap(layer):
    def gradient(x):
        return torch.func.grad(
            lambda x: (layer(x, x, x)[0] if isinstance(layer, torch.nn.MultiheadAttention) else layer(x)).square().sum()
        )(x)

    xs = sample(3, 5, 2, 8)
    with lowbit.emulate(layer, weights="e2m1", activations="e4m3fn", gradients="e5m2"):
        torch.testing.assert_close(torch.func.vmap(gradient)(xs), torch.stack([gradient(x) for x in xs]))


def test_bad_recipes_are_refused_at_once():
    with pytest.raises(ValueError, match="rounding is 'even'"):
        lowbit.Linear(2, 2, rounding="even")
    with pytest.raises(ValueError, match=r"lowbit\.format: fmt is 'fp5'"):
        lowbit.emulate(torch.nn.Linear(2, 2), weights="fp5")


@pytest.mark.parametrize("name", ["mxfp4", "mxfp8", "nvfp4", "mxint8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_scaled_tensors_give_the_bits_of_numpy(name, dtype):
    x = sample(6, 80).to(dtype)
    want = lowbit.quantize(x.float().numpy(), name)
    got = lowbit.quantize(x, name)
    assert got.dtype == dtype and torch.equal(got, torch.from_numpy(want).to(dtype))
    encoded = lowbit.encode(x, name)
    assert torch.equal(lowbit.decode(encoded, name, dtype=dtype), got)


def test_scaled_formats_compile_to_one_graph():
    x = sample(6, 80)
    step = torch.compile(lambda v: lowbit.quantize(v, "mxfp4") * 2 + lowbit.quantize(v, "nvfp4"), backend="aot_eager", fullgraph=True)
    assert torch.equal(step(x), lowbit.quantize(x, "mxfp4") * 2 + lowbit.quantize(x, "nvfp4"))


def test_channels_between_other_axes():
    x = sample(3, 4, 5)
    fmt = lowbit.ScaledFormat("int8", block=None, axis=1, scale="fp32")
    assert np.array_equal(lowbit.quantize(x, fmt).numpy(), lowbit.quantize(x.numpy(), fmt))


def test_statistics_and_products_of_tensors():
    x = sample(300)
    out = torch.empty(300)
    of_tensor, of_array = lowbit.statistics(x, "e4m3fn", out=out), lowbit.statistics(x.numpy(), "e4m3fn")
    assert of_tensor.noise == of_array.noise and torch.equal(out, lowbit.quantize(x, "e4m3fn"))
    a, b = sample(4, 9), sample(9, 5)
    assert np.array_equal(lowbit.matmul(a, b.T.contiguous().T).numpy(), lowbit.matmul(a.numpy(), b.numpy()))
    with pytest.raises(TypeError, match=r"matmul: a is a Tensor and b a ndarray; expected two of a kind"):
        lowbit.matmul(a, b.numpy())


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "bfloat16", "float16"])
def test_the_profile_of_torch_is_its_conversion(name):
    dtype = getattr(torch, name)
    x = (torch.arange(65536, dtype=torch.int32) << 16).view(torch.float32)
    want = x.to(dtype).float()
    got = lowbit.quantize(x, dtype, profile="torch")
    assert torch.equal(got.isnan(), want.isnan()) and torch.equal(got[~got.isnan()], want[~want.isnan()])
