"""ScaledFormat: elements of one format under scales that a block, a channel or a whole tensor shares. MX, NVFP4 and the classic schemes."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from slipstick._core import lowbit as _core

from ._format import Format, _one_of, _whole

if TYPE_CHECKING:
    from collections.abc import Sequence

RULES = ("floor", "ceil", "even", "rceil")
_ARGUMENTS = ("element", "block", "axis", "scale", "rule", "two_level", "name")


class Encoded(NamedTuple):
    """What encode gives for a scaled format, and decode takes."""

    codes: Any
    """Element codes, of x's shape."""
    scales: Any
    """Scale codes, one a block: x's shape with the blocked axis shortened; see ScaledFormat.scale_shape."""
    tensor_scale: float
    """The scale of the whole tensor; 1.0 for formats without. Of a CUDA tensor: a float32 tensor of no dimension on its device."""


class ScaledFormat:
    """A format whose elements share scales: x is about element * scale (* tensor scale).

    Args:
        element: a Format or its name; make it saturate, or what rounds beyond its greatest number overflows.
        block: elements that share a scale: a number along `axis`, the last of which may be shorter (as if padded with zeros); a pair for
            rectangles of the last two axes; None for a channel (each index of `axis`) or, without an axis, the whole tensor.
        axis: of the blocks, or of the channels.
        scale: "e8m0" for powers of two by `rule`; or a Format or its name: greatest magnitude / greatest element, rounded to that format and
            held to its greatest number.
        rule: of the power of two, from the greatest magnitude a and the greatest element m, e = floor(log2 m): "floor", 2^(floor(log2 a) - e)
            (OCP MX 1.0, 6.3); "ceil", 2^(ceil(log2 a) - e); "even", floor after rounding a to the element's mantissa; "rceil", the least with
            a / scale <= m. Held to 2^-127 .. 2^127.
        two_level: divide by one float32 scale for the whole tensor too: greatest finite magnitude / (greatest element * greatest scale).
    Raises:
        TypeError, ValueError: an argument is of the wrong type, is none of these or does not go with another.
    """

    __slots__ = ("_scale", "axis", "block", "element", "name", "rule", "scale", "spec", "two_level")

    element: Format
    block: Any
    axis: Any
    scale: Any
    rule: str
    two_level: bool
    name: str
    spec: str
    _scale: Any

    def __init__(
        self,
        element: str | Format,
        *,
        block: int | Sequence[int] | None = 32,
        axis: int | None = -1,
        scale: str | Format = "e8m0",
        rule: str = "floor",
        two_level: bool = False,
        name: str | None = None,
    ) -> None:
        from ._quantize import format

        _one_of("rule", rule, RULES)
        kept = format(element)
        if not isinstance(kept, Format):
            raise TypeError("ScaledFormat: element is a scaled format; expected a Format or the name of one")
        power_of_two = isinstance(scale, str) and scale in ("e8m0", "e8m0fnu")
        kept_scale = None if power_of_two else format(scale)
        if isinstance(kept_scale, ScaledFormat):
            raise TypeError("ScaledFormat: scale is a scaled format; expected 'e8m0', a Format or the name of one")
        kept_block: Any = block
        sides: tuple[int, ...] = ()
        if isinstance(block, Iterable):
            kept_block = sides = tuple(_whole("block", side) for side in block)
            if len(sides) != 2:
                raise ValueError(f"ScaledFormat: block is {block!r}; expected a number, a pair of numbers or None")
        elif block is not None:
            kept_block = _whole("block", block)
            sides = (kept_block,)
        if not all(1 <= side < 2**63 for side in sides):
            raise ValueError(f"ScaledFormat: block is {block!r}; expected 1 to 2^63 - 1")
        if two_level and power_of_two:
            raise ValueError("ScaledFormat: two_level is true with powers of two; expected scale to be a format such as 'e4m3fn'")
        fields = {
            "kind": "scaled",
            "element": kept.spec,
            "block": kept_block,
            "axis": None if isinstance(kept_block, tuple) or axis is None else _whole("axis", axis),
            "scale": "e8m0" if kept_scale is None else kept_scale.spec,
            "rule": rule,
            "two_level": bool(two_level),
        }
        if isinstance(kept_block, int) and fields["axis"] is None:
            raise ValueError(f"ScaledFormat: axis is None with blocks of {block}; expected the axis they lie along")
        set_field = object.__setattr__
        set_field(self, "element", kept)
        set_field(self, "block", kept_block)
        set_field(self, "axis", fields["axis"])
        set_field(self, "scale", "e8m0" if kept_scale is None else kept_scale)
        set_field(self, "_scale", kept_scale)
        set_field(self, "rule", rule)
        set_field(self, "two_level", bool(two_level))
        set_field(self, "spec", json.dumps(fields, separators=(",", ":")))
        set_field(self, "name", name or f"{kept.name} in blocks of {kept_block}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"ScaledFormat has no settable attribute {name!r}; use replace()")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScaledFormat) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash(self.spec)

    def __repr__(self) -> str:
        return f"<ScaledFormat {self.name}: {self.element.name}, block {self.block}, axis {self.axis}, scale {getattr(self.scale, 'name', self.scale)}>"

    def __reduce__(self) -> Any:
        return (_rebuild, ({name: getattr(self, name) for name in _ARGUMENTS},))

    def replace(self, **changes: Any) -> ScaledFormat:
        """The same format with other arguments, as in ``format("mxfp4").replace(axis=0, rule="rceil")``.

        Args:
            changes: arguments of ScaledFormat.
        Raises:
            TypeError, ValueError: as ScaledFormat, or it has no such argument.
        """
        fields = {name: getattr(self, name) for name in _ARGUMENTS}
        if unknown := changes.keys() - fields.keys():
            raise TypeError(f"ScaledFormat.replace: cannot change {sorted(unknown)[0]!r}; expected some of {', '.join(fields)}")
        return ScaledFormat(**{**fields, **changes})

    @property
    def bits(self) -> float:
        """Per element, with its share of the scale: 4.25 for MXFP4. Of the tensor's own scale nothing is counted."""
        scale_bits = 8 if self._scale is None else self._scale.bits
        elements = self.block if isinstance(self.block, int) else math.prod(self.block) if self.block else math.inf
        return self.element.bits + scale_bits / elements

    @property
    def scale_code_dtype(self) -> str:
        """Name of the integer type that holds a scale."""
        return "uint8" if self._scale is None else self._scale.code_dtype

    def _axis(self, dimensions: int) -> int:
        if not -dimensions <= self.axis < dimensions:
            raise ValueError(f"{self.name}: axis is {self.axis}; expected one of an array of {dimensions} dimensions")
        return self.axis % dimensions

    def scale_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Of the scale codes of an array of that shape.

        Raises:
            ValueError: the array has no such axis, or too few dimensions.
        """
        if self.block is None:
            return () if self.axis is None else (shape[self._axis(len(shape))],)
        if isinstance(self.block, tuple):
            self._check_rectangles(shape)
            return (*shape[:-2], -(-shape[-2] // self.block[0]), -(-shape[-1] // self.block[1]))
        axis = self._axis(len(shape))
        return (*shape[:axis], -(-shape[axis] // self.block), *shape[axis + 1 :])

    def _check_rectangles(self, shape: Sequence[int]) -> None:
        if len(shape) < 2:
            raise ValueError(f"{self.name}: x has {len(shape)} dimensions; expected at least 2 for blocks of {self.block}")

    def _block_sizes(self, shape: Sequence[int]) -> tuple[int, int, int, int, int, bool]:
        """The fields of the kernel's Blocks."""
        size = math.prod(shape)
        if isinstance(self.block, tuple):
            self._check_rectangles(shape)
            rows, columns = self.block
            return math.prod(shape[:-2]), shape[-2], shape[-1], rows, columns, False
        if self.axis is None:
            return 1, 1, size, 1, max(size, 1), False
        axis = self._axis(len(shape))
        outer, length, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
        if self.block is not None:
            return (1, outer, length, 1, self.block, False) if inner == 1 else (outer, length, inner, self.block, 1, False)
        if inner == 1:
            return 1, outer, length, max(outer, 1), 1, False
        return outer, length, inner, 1, max(inner, 1), outer > 1

    def _block_count(self, shape: Sequence[int]) -> int:
        return math.prod(self.scale_shape(shape))

    def _blocks(self, shape: Sequence[int]) -> Any:
        """For the kernel."""
        return _core.Blocks(*self._block_sizes(shape))

    def _scaling(self, tensor_scale: float) -> Any:
        return _core.Scaling(self._scale is None, RULES.index(self.rule), None if self._scale is None else self._scale._core, tensor_scale)

    def _tensor_scale(self, dtype: int, address: int, size: int, threads: int) -> float:
        if not self.two_level:
            return 1.0
        import numpy as np

        greatest = np.float32(_core.greatest_magnitude(dtype, address, size, threads))
        scale = greatest / (np.float32(self.element.max) * np.float32(self._scale.max))
        return float(scale) if scale != 0 else 1.0


def _rebuild(arguments: dict[str, Any]) -> ScaledFormat:
    return ScaledFormat(**arguments)


@functools.lru_cache(maxsize=1024)
def of_spec(spec: str) -> Format | ScaledFormat:
    """The format of a `spec`, of either class."""
    fields = json.loads(spec)
    if fields.pop("kind") != "scaled":
        return Format.from_spec(spec)
    block = tuple(fields["block"]) if isinstance(fields["block"], list) else fields["block"]
    scale = fields["scale"] if fields["scale"] == "e8m0" else Format.from_spec(fields["scale"])
    return ScaledFormat(
        Format.from_spec(fields["element"]),
        block=block,
        axis=fields["axis"],
        scale=scale,
        rule=fields["rule"],
        two_level=fields["two_level"],
    )


def _saturating(name: str) -> Format:
    from ._presets import preset

    found = preset(name)
    assert found is not None
    return found.replace(overflow="saturate", name=name) if found.kind == "float" else found


def _mx(element: str) -> Callable[[], ScaledFormat]:
    return lambda: ScaledFormat(_saturating(element), name=f"mx {element}")


def _nvfp4(block: Any, name: str) -> Callable[[], ScaledFormat]:
    return lambda: ScaledFormat(_saturating("e2m1fn"), block=block, scale=_saturating("e4m3fn"), two_level=True, name=name)


SCALED_PRESETS: dict[str, Callable[[], ScaledFormat]] = {
    "mxfp8": _mx("e4m3fn"),
    "mxfp8_e4m3": _mx("e4m3fn"),
    "mxfp8_e5m2": _mx("e5m2"),
    "mxfp6": _mx("e3m2fn"),
    "mxfp6_e3m2": _mx("e3m2fn"),
    "mxfp6_e2m3": _mx("e2m3fn"),
    "mxfp4": _mx("e2m1fn"),
    "mxint8": _mx("mxint8_element"),
    "nvfp4": _nvfp4(16, "nvfp4"),
    "nvfp4_16x16": _nvfp4((16, 16), "nvfp4_16x16"),
}


@functools.lru_cache(maxsize=64)
def scaled_preset(name: str) -> ScaledFormat | None:
    return SCALED_PRESETS[name]() if name in SCALED_PRESETS else None


def run_quantize(
    fmt: ScaledFormat, mode: int, random: tuple[int, int, int], dtype: int, shape: Sequence[int], addresses: Any, threads: int
) -> float:
    """Quantizes or encodes by addresses (x, y, codes, scales), 0 for none of the last three; the tensor's scale."""
    x, y, codes, scales = addresses
    tensor_scale = fmt._tensor_scale(dtype, x, math.prod(shape), threads)
    _core.quantize_blocks(
        fmt.element._core, fmt._scaling(tensor_scale), fmt._blocks(shape), mode, *random, dtype, x, y, codes, scales, threads
    )
    return tensor_scale


def run_decode(
    fmt: ScaledFormat, codes: int, scales: int, tensor_scale: float, dtype: int, y: int, shape: Sequence[int], threads: int
) -> None:
    _core.decode_blocks(fmt.element._core, fmt._scaling(tensor_scale), fmt._blocks(shape), codes, scales, dtype, y, threads)
