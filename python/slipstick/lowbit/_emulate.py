"""Models in small formats: every linear and convolution layer rounds its weights, activations and gradients, straight through for autograd."""

from __future__ import annotations

import functools
import types
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ._quantize import format, quantize

TRANSPOSED = {
    nn.ConvTranspose1d: nn.functional.conv_transpose1d,
    nn.ConvTranspose2d: nn.functional.conv_transpose2d,
    nn.ConvTranspose3d: nn.functional.conv_transpose3d,
}
LAYERS: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED, nn.MultiheadAttention)
FORWARDS = {kind.forward for kind in LAYERS}
# In inference these modules may compute with the weights of the layers they hold, or hand them nested tensors, unless an attribute is so.
FAST_PATHS: dict[type[nn.Module], tuple[str, Any]] = {
    nn.TransformerEncoderLayer: ("activation_relu_or_gelu", 0),
    nn.TransformerEncoder: ("use_nested_tensor", False),
}
MODULES = (*LAYERS, *FAST_PATHS)


class _RoundGradient(torch.autograd.Function):
    """The identity, whose gradient is rounded with the stream of random numbers that forward drew: torch.compile lets backward draw none."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, recipe: Recipe, stream: int) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: torch.Tensor) -> None:
        _, ctx.recipe, ctx.stream = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        recipe = ctx.recipe
        return quantize(gradients[0], recipe.gradients, rounding=recipe.gradient_rounding, seed=recipe.seed, stream=ctx.stream), None, None


class _Switch:
    """Whether layers are under emulate. Deep copies of them share it, so they are restored together."""

    on = True

    def __deepcopy__(self, memo: dict[int, Any]) -> _Switch:
        return self


class Recipe:
    """Formats of weights, activations and gradients, None for what stays, and how to round. Each rounding takes a new stream of random numbers."""

    def __init__(self, weights: Any, activations: Any, gradients: Any, rounding: str, gradient_rounding: str | None, seed: int) -> None:
        self.weights, self.activations, self.gradients = (None if fmt is None else format(fmt) for fmt in (weights, activations, gradients))
        self.rounding = rounding
        self.gradient_rounding = gradient_rounding or rounding
        self.seed = seed
        self.stream = 0
        self.switch = _Switch()
        self.attention = _with_linear(nn.functional.multi_head_attention_forward, self.linear)
        for mode in (self.rounding, self.gradient_rounding):  # a wrong name shows here, not in the first step
            quantize(torch.zeros(1), "e4m3fn", rounding=mode, seed=seed)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "attention"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.attention = _with_linear(nn.functional.multi_head_attention_forward, self.linear)

    def round(self, x: torch.Tensor, fmt: Any, mode: str) -> torch.Tensor:
        if fmt is None:
            return x
        return quantize(x, fmt, rounding=mode, seed=self.seed, stream=self.next_stream())

    def next_stream(self) -> int:
        self.stream = (self.stream + 1) % 2**32
        return self.stream

    def product(self, x: torch.Tensor, weight: torch.Tensor, multiply: Any) -> torch.Tensor:
        """multiply(x, weight), both of them rounded, and the gradient of it."""
        y = multiply(self.round(x, self.activations, self.rounding), self.round(weight, self.weights, self.rounding))
        return _RoundGradient.apply(y, self, self.next_stream()) if self.gradients is not None else y

    def linear(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return self.product(x, weight, lambda x, weight: nn.functional.linear(x, weight, bias))


def _with_linear(function: Any, linear: Any) -> Any:
    """A function of torch.nn.functional that calls another `linear`, as do those that it calls for the projections into attention. Where another
    mode or a kind of tensor is to be asked first, it hands itself over under its name."""
    names: dict[str, Any] = {**vars(nn.functional), "linear": linear}
    del names["__name__"]  # by which torch.compile would look up the names of torch.nn.functional
    for name in ("_in_projection", "_in_projection_packed"):
        inner = names[name]
        names[name] = types.FunctionType(inner.__code__, names, name, inner.__defaults__)
    made = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    names[function.__name__] = made
    return made


class _RoundedProjections(TorchFunctionMode):
    """nn.MultiheadAttention hands its weights to one function, which has no place for a rounding but its calls of `linear`."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is nn.functional.multi_head_attention_forward:
            function = self.recipe.attention
        return function(*args, **(kwargs or {}))


def _emulated_forward(layer: Any, recipe: Recipe, *args: Any, **kwargs: Any) -> Any:
    """The forward of a layer under emulate."""
    if not recipe.switch.on:
        return type(layer).forward(layer, *args, **kwargs)
    if isinstance(layer, nn.MultiheadAttention):
        return _attention(layer, recipe, *args, **kwargs)
    return _rounded(layer, recipe, *args, **kwargs)


def _attention(layer: nn.MultiheadAttention, recipe: Recipe, *args: Any, **kwargs: Any) -> Any:
    with _RoundedProjections(recipe):
        return type(layer).forward(layer, *args, **kwargs)


def _rounded(layer: Any, recipe: Recipe, input: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
    if isinstance(layer, nn.Linear):
        return recipe.linear(input, layer.weight, layer.bias)
    transposed = next((function for kind, function in TRANSPOSED.items() if isinstance(layer, kind)), None)
    if transposed is None:
        return recipe.product(input, layer.weight, lambda x, weight: layer._conv_forward(x, weight, layer.bias))
    place, size = (layer.stride, layer.padding), layer.kernel_size
    more = layer._output_padding(input, output_size, *place, size, len(size), layer.dilation)
    return recipe.product(
        input, layer.weight, lambda x, weight: transposed(x, weight, layer.bias, *place, more, layer.groups, layer.dilation)
    )


def _no_fast_path(layer: nn.Module, args: Any) -> None:
    """A hook that does nothing. For a transformer layer of which only a part is under emulate: from torch 2.5 on it then leaves its fast path."""


class _Kept(NamedTuple):
    """An attribute as it was before emulate."""

    recipe: Recipe
    name: str
    value: Any


def _recipe_of(module: nn.Module) -> Recipe | None:
    """Of a module under emulate."""
    forward, kept = vars(module).get("forward"), vars(module).get("_before_emulate")
    if isinstance(forward, functools.partial) and forward.func is _emulated_forward:
        recipe: Recipe = forward.args[1]
        return recipe
    return kept.recipe if kept else None


class Linear(nn.Linear):
    """nn.Linear in small formats: y = Q(x) Q(W)^T + b; in backward Q(dy) Q(W) and Q(dy)^T Q(x), the roundings themselves passing straight through.

    Args:
        in_features, out_features, bias, device, dtype: as of nn.Linear.
        weights, activations, gradients: formats of W, x and dy, with or without scales; None leaves them.
        rounding, gradient_rounding: of the first two, and of the last (default the same).
        seed: of stochastic rounding. Each forward draws streams of its own, that of its gradient with them: backward twice over one retained graph
            rounds alike, while two forwards, and what torch.utils.checkpoint computes again, do not.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        weights: Any = None,
        activations: Any = None,
        gradients: Any = None,
        rounding: str = "nearest_even",
        gradient_rounding: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self.recipe = Recipe(weights, activations, gradients, rounding, gradient_rounding, seed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.recipe.linear(x, self.weight, self.bias)


class Emulation:
    """What `emulate` gives: in force from the start, until restore() or the end of a with block."""

    def __init__(self, modules: dict[str, nn.Module], recipe: Recipe) -> None:
        self.layers = {name: module for name, module in modules.items() if isinstance(module, LAYERS)}
        self.recipe = recipe
        self._own = [(module, own) for module in modules.values() if (own := _recipe_of(module))]

    @classmethod
    def of(cls, model: nn.Module) -> Emulation:
        """The emulation that a model is under, which may be a deep copy or come from torch.load.

        Raises:
            ValueError: no layer of the model is being emulated.
        """
        found = {name: recipe for name, module in model.named_modules() if (recipe := _recipe_of(module)) and recipe.switch.on}
        if not found:
            raise ValueError("Emulation.of: no layer of the model is being emulated; expected a model after emulate")
        return cls({name: model.get_submodule(name) for name in found}, next(iter(found.values())))

    def restore(self) -> None:
        """Gives the layers their own arithmetic back, those of deep copies of the model too; a second call does nothing."""
        for module, recipe in self._own:
            recipe.switch.on = False
            if _recipe_of(module) is recipe:
                _release(module)

    def __enter__(self) -> Emulation:
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()


def _release(module: nn.Module) -> None:
    """Gives a module that may be under emulate its own arithmetic back."""
    kept = vars(module).pop("_before_emulate", None)
    if kept:
        setattr(module, kept.name, kept.value)
    if _recipe_of(module):
        del vars(module)["forward"]
    for key in [key for key, hook in module._forward_pre_hooks.items() if hook is _no_fast_path]:
        del module._forward_pre_hooks[key]


def _bring_under(module: Any, recipe: Recipe) -> None:
    _release(module)
    if isinstance(module, LAYERS):
        module.forward = functools.partial(_emulated_forward, module, recipe)
        module.register_forward_pre_hook(_no_fast_path)
        return
    name, value = next(path for kind, path in FAST_PATHS.items() if isinstance(module, kind))
    module._before_emulate = _Kept(recipe, name, getattr(module, name, value))
    setattr(module, name, value)


def emulate(
    model: nn.Module,
    *,
    weights: Any = None,
    activations: Any = None,
    gradients: Any = None,
    rounding: str = "nearest_even",
    gradient_rounding: str | None = None,
    seed: int = 0,
) -> Emulation:
    """Lets every nn.Linear, nn.Conv*, nn.ConvTranspose* and nn.MultiheadAttention in a model compute as `Linear` does; parameters stay as they are.

    Args:
        model: changed in place, in its layers' `forward` only (and transformer encoders leave their fast paths), so that it can be copied, pickled
            and saved. Of nn.MultiheadAttention the four projections are rounded, not the products of queries, keys and values. Layers whose
            weight other code uses are not reached.
        weights, activations, gradients, rounding, gradient_rounding, seed: as of `Linear`.
    Returns:
        An Emulation, in force already: ``with emulate(model, weights="mxfp4"): ...`` ends with the block, or call restore(). Deep copies are
        restored together with the model; what torch.load gives is under an emulation of its own, `Emulation.of` it.
    Raises:
        ValueError: the model is being emulated, a layer's class has a forward of its own, or an argument is not what it must be.
    """
    recipe = Recipe(weights, activations, gradients, rounding, gradient_rounding, seed)
    modules = {name: module for name, module in model.named_modules() if isinstance(module, MODULES) and not isinstance(module, Linear)}
    for name, layer in modules.items():
        if not isinstance(layer, LAYERS):
            continue
        before = _recipe_of(layer)
        if "forward" in vars(layer) and (before is None or before.switch.on):
            raise ValueError(f"emulate: the layer {name!r} has a forward of its own; expected a model that is not being emulated")
        if type(layer).forward not in FORWARDS:
            raise ValueError(f"emulate: the layer {name!r} is a {type(layer).__name__} with a forward of its own; expected one of torch")
    for module in modules.values():
        _bring_under(module, recipe)
    return Emulation(modules, recipe)
