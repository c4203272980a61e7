"""Format: a number format as a value. What it holds, what it gives at the edges, and all of its numbers.

Three kinds share the class: floats and integers, which are grids that a kernel rounds to by arithmetic, and code books, which are sorted lists
that it searches. `spec` is the whole of a format as text, and two formats are equal when their specs are.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from slipstick._core import lowbit as _core

if TYPE_CHECKING:
    import numpy as np

SPECIALS = ("ieee", "finite_nan", "fnuz", "p3109", "none")
OVERFLOWS = ("saturate", "infinity", "nan")
SUBNORMALS = ("keep", "flush")


class Format:
    """A small float format of E exponent and M mantissa bits; see the class methods for the other kinds.

    Args:
        exponent_bits: 0 to 8.
        mantissa_bits: 0 to 23, the hidden bit not counted.
        signed: whether there is a sign bit. Without it negative numbers overflow: to 0, or to NaN where overflow is not "saturate".
        bias: of the exponent; default 2^(E-1) - 1, and 2^(E-1) for "fnuz" and "p3109".
        specials: meaning of the top codes. "ieee": all-ones exponent is infinity and NaN; "finite_nan": all-ones magnitude is NaN, no
            infinity (OCP's e4m3, "fn"); "fnuz": the code of -0 is NaN, no infinity; "p3109": the code of -0 is NaN, all-ones magnitude is
            infinity; "none": every code is a number.
        subnormals: "keep"; or "flush": results that would be subnormal, after rounding, become zero, and so do subnormal codes.
        overflow: what a number beyond the greatest becomes, infinity included: "saturate" (the greatest), "infinity", "nan".
            Default "infinity" where there is one, else "saturate".
        name: how the format prints; default made from the bits.
    Raises:
        TypeError, ValueError: with the reason, where the description contradicts itself or reaches beyond float32: normal numbers must
            lie within 2^-126 to float32's greatest.
    """

    __slots__ = ("_core", "_fields", "name", "spec")

    name: str
    spec: str

    def __init__(
        self,
        exponent_bits: int,
        mantissa_bits: int,
        *,
        signed: bool = True,
        bias: int | None = None,
        specials: str = "ieee",
        subnormals: str = "keep",
        overflow: str | None = None,
        name: str | None = None,
    ) -> None:
        exponent_bits, mantissa_bits = _whole("exponent_bits", exponent_bits), _whole("mantissa_bits", mantissa_bits)
        _one_of("specials", specials, SPECIALS)
        _one_of("subnormals", subnormals, SUBNORMALS)
        if bias is None:
            half = 2 ** (exponent_bits - 1) if 1 <= exponent_bits <= 8 else 1
            bias = half if specials in ("fnuz", "p3109") or exponent_bits == 0 else half - 1
        if overflow is None:
            overflow = "infinity" if specials in ("ieee", "p3109") else "saturate"
        _one_of("overflow", overflow, OVERFLOWS)
        fields = {
            "kind": "float",
            "exponent_bits": exponent_bits,
            "mantissa_bits": mantissa_bits,
            "signed": bool(signed),
            "bias": _whole("bias", bias),
            "specials": specials,
            "subnormals": subnormals,
            "overflow": overflow,
        }
        self._set(fields, name)

    @classmethod
    def integer(cls, bits: int, *, fraction_bits: int = 0, signed: bool = True, symmetric: bool = False, name: str | None = None) -> Format:
        """Multiples of 2^-fraction_bits in two's complement, saturating: integers, and fixed point.

        Args:
            bits: with the sign, at most 24 (23 unsigned), which float32 holds exactly.
            fraction_bits: of them behind the binary point; may be negative or more than bits.
            signed: whether there are numbers below 0.
            symmetric: leave out the least number, so that the range is symmetric.
            name: of the format; default made from the others.
        Raises:
            TypeError, ValueError: an argument is of the wrong type or out of range.
        """
        fields = {
            "kind": "integer",
            "bits": _whole("bits", bits),
            "fraction_bits": _whole("fraction_bits", fraction_bits),
            "signed": bool(signed),
            "symmetric": bool(symmetric),
        }
        return cls._of(fields, name)

    @classmethod
    def codebook(
        cls,
        values: Any,
        *,
        codes: Any = None,
        bits: int | None = None,
        thresholds: Any = None,
        nan_code: int | None = None,
        name: str | None = None,
        keep_nonzero: bool = False,
    ) -> Format:
        """Any sorted list of up to 65536 numbers. Numbers beyond its ends, infinities too, become its ends.

        Args:
            values: finite, strictly rising; each is rounded to float32 first.
            codes: of each value; default 0, 1, 2, ... Ties to even look at their last bits, to_odd too.
            bits: of a code; default what the greatest code needs.
            thresholds: one number between each two values, compared with instead of the midpoint by the nearest modes, for formats that round
                in another domain.
            nan_code: the code of NaN; default none.
            keep_nonzero: the nearest modes give zero to zero only (posits).
            name: as of `Format.integer`.
        Raises:
            TypeError, ValueError: an argument is of another type, values do not rise, or the lists do not fit each other.
        """
        numbers = [_float32(value) for value in values]
        code_list = [_whole("codes", code) for code in (range(len(numbers)) if codes is None else codes)]
        nan = None if nan_code is None else _whole("nan_code", nan_code)
        if nan is not None and nan < 0:
            raise ValueError(f"Format.codebook: nan_code is {nan}; expected 0 or more, or None")
        if bits is None:
            bits = max([1, *(code.bit_length() for code in (*code_list, nan or 0))])
        if any(code < 0 for code in code_list):
            raise ValueError("Format.codebook: codes has a negative entry; expected 0 or more")
        fields = {
            "kind": "codebook",
            "values": [number.hex() for number in numbers],
            "codes": code_list,
            "bits": _whole("bits", bits),
            "thresholds": [] if thresholds is None else [float(threshold).hex() for threshold in thresholds],
            "nan_code": -1 if nan is None else nan,
            "keep_nonzero": bool(keep_nonzero),
        }
        return cls._of(fields, name)

    @classmethod
    def posit(cls, bits: int, es: int = 2, *, name: str | None = None) -> Format:
        """Posits of 3 to 16 bits with es exponent bits (2 in the standard of 2022), rounded as that standard does.

        Nearest even works on the code, so between two powers of the regime it compares with the geometric neighbour of one bit more, and only 0
        becomes 0. The other modes pick the neighbour that their name says. NaR is NaN.

        Args:
            bits, es: (bits - 2) 2^es at most 126, so that float32 holds the numbers.
            name: as of `Format.integer`.
        Raises:
            TypeError, ValueError: as `Format.integer`.
        """
        from ._tables import posit_codebook

        return cls.codebook(**posit_codebook(_whole("bits", bits), _whole("es", es)), name=name or f"posit{bits}_{es}")

    @classmethod
    def power(cls, bits: int, exponent: float, *, name: str | None = None) -> Format:
        """The power quantizer of PowerQuant and NUPES (Yvinec et al., arXiv:2308.05600) on [-1, 1]: sign(q) |q / q_max|^(1 / exponent).

        x becomes q = round(q_max sign(x) |x|^exponent), q_max = 2^(bits - 1) - 1, in two's complement; the nearest modes round |x|^exponent,
        thresholds and values being correct to about 1 unit of float64 and float32. exponent 1 is the uniform quantizer.

        Args:
            bits: 2 to 16. exponent: above 0. name: as of `Format.integer`.
        Raises:
            TypeError, ValueError: as `Format.integer`.
        """
        from ._tables import power_codebook

        return cls.codebook(**power_codebook(_whole("bits", bits), float(exponent)), name=name or f"power{bits}_{exponent:g}")

    @classmethod
    def logarithmic(cls, bits: int, *, fraction_bits: int = 0, greatest: float = 1.0, name: str | None = None) -> Format:
        """A logarithmic number system: 0 and greatest * 2^(-k / 2^fraction_bits) of both signs, k = 0, 1, ...; nearest in the logarithm.

        Codes: a sign bit, then 0 for zero and the magnitudes in rising order.

        Args:
            bits: of a code, with the sign. fraction_bits: of the logarithm. greatest: magnitude. name: as of `Format.integer`.
        Raises:
            TypeError, ValueError: as `Format.integer`.
        """
        from ._tables import logarithmic_codebook

        return cls.codebook(
            **logarithmic_codebook(_whole("bits", bits), _whole("fraction_bits", fraction_bits), float(greatest)),
            name=name or f"log{bits}_{fraction_bits}",
        )

    @classmethod
    def from_spec(cls, spec: str) -> Format:
        """The format of a `spec`; for another text, TypeError or ValueError as of `Format.integer`."""
        return _of_spec(spec)

    @classmethod
    def _of(cls, fields: dict[str, Any], name: str | None) -> Format:
        self = cls.__new__(cls)
        self._set(fields, name)
        return self

    def _set(self, fields: dict[str, Any], name: str | None) -> None:
        set_field = object.__setattr__
        set_field(self, "_fields", fields)
        set_field(self, "_core", _core_format(fields))
        set_field(self, "spec", json.dumps(fields, separators=(",", ":")))
        set_field(self, "name", name or _default_name(fields))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Format has no settable attribute {name!r}; use replace()")

    def __reduce__(self) -> Any:
        return (_rebuild, (self.spec, self.name))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Format) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash(self.spec)

    def __repr__(self) -> str:
        return f"<Format {self.name}: {self.bits} bits, {self.min:g} to {self.max:g}>"

    def replace(self, **changes: Any) -> Format:
        """The same format with other arguments, as in ``format("e4m3fn").replace(overflow="nan")``; floats and integers only.

        Args:
            changes: arguments of Format or of `Format.integer`.
        Raises:
            TypeError, ValueError: it has no such argument, or as these two.
        """
        fields = {**self._fields}
        kind = fields.pop("kind")
        name = changes.pop("name", None)
        unknown = changes.keys() - fields.keys()
        if kind == "codebook" or unknown:
            what = f"{sorted(unknown)[0]!r}" if unknown else "an argument of a code book"
            raise TypeError(
                f"Format.replace: cannot change {what}; expected some of {', '.join(fields) if kind != 'codebook' else 'nothing'}"
            )
        fields.update(changes)
        return Format(**fields, name=name) if kind == "float" else Format.integer(**fields, name=name)

    @property
    def kind(self) -> str:
        """ "float", "integer" or "codebook"."""
        return self._fields["kind"]

    @property
    def bits(self) -> int:
        """Of a code."""
        return self._core.bits

    @property
    def code_dtype(self) -> str:
        """The type that encode gives: "uint8", "uint16" or "uint32"."""
        return f"uint{8 * self._core.code_bytes}"

    @property
    def max(self) -> float:
        """Greatest finite number."""
        return self._core.max

    @property
    def min(self) -> float:
        """Least finite number."""
        return self._core.min

    @property
    def smallest_normal(self) -> float:
        """Smallest positive number with the full mantissa; 0 where there is none."""
        return self._core.smallest_normal

    @property
    def smallest_subnormal(self) -> float:
        """Smallest positive number."""
        return self._core.smallest_positive

    @property
    def tiny(self) -> float:
        """As smallest_normal, under NumPy's name."""
        return self.smallest_normal

    @property
    def eps(self) -> float:
        """Of a float: gap above 1 relative to it, 2^-mantissa_bits. Of an integer: the gap.

        Raises:
            ValueError: the format is a code book, whose gaps differ.
        """
        if self.kind == "codebook":
            raise ValueError(f"Format.eps: {self.name} is a code book, whose gaps differ")
        return 2.0 ** -self._fields["mantissa_bits"] if self.kind == "float" else self._core.smallest_positive

    @property
    def has_infinity(self) -> bool:
        """Whether a code stands for infinity."""
        return self._fields.get("specials") in ("ieee", "p3109")

    @property
    def has_nan(self) -> bool:
        """Whether a code stands for NaN."""
        return self._core.nan_code >= 0

    @property
    def has_negative_zero(self) -> bool:
        """Whether -0 has a code of its own."""
        return self.kind == "float" and self._fields["signed"] and self._fields["specials"] not in ("fnuz", "p3109")

    @property
    def signed(self) -> bool:
        """Whether there are numbers below 0."""
        return self._fields["signed"] if self.kind != "codebook" else self.min < 0

    def __getattr__(self, name: str) -> Any:
        fields = object.__getattribute__(self, "_fields")
        if (
            name in ("exponent_bits", "mantissa_bits", "bias", "specials", "subnormals", "overflow", "fraction_bits", "symmetric")
            and name in fields
        ):
            return fields[name]
        raise AttributeError(f"Format {self.name} ({fields['kind']}) has no attribute {name!r}")

    def values(self) -> np.ndarray:
        """All finite numbers, rising, each once (so one zero): float32 of shape (count,).

        Raises:
            ValueError: the format has more than 16 bits.
            UnsupportedError, TypeError: as `decode`.
        """
        import numpy as np

        from ._quantize import decode

        if self.bits > 16:
            raise ValueError(f"Format.values: {self.name} has {self.bits} bits; expected at most 16")
        numbers = decode(np.arange(2**self.bits, dtype=self.code_dtype), self)
        return np.unique(numbers[np.isfinite(numbers)] + np.float32(0))


def _whole(name: str, value: Any) -> int:
    from operator import index

    try:
        return index(value)
    except TypeError:
        raise TypeError(f"Format: {name} is {value!r}; expected a whole number") from None


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"Format: {name} is {value!r}; expected one of {', '.join(choices)}")


def _float32(value: Any) -> float:
    import struct

    try:
        return struct.unpack("<f", struct.pack("<f", float(value)))[0]
    except OverflowError:
        raise ValueError(f"Format.codebook: values has {value!r}; expected numbers of float32") from None


def _in_int32(name: str, value: int) -> int:
    if not -(2**31) <= value < 2**31:
        raise ValueError(f"Format: {name} is {value}; expected a number of 32 bits")
    return value


def _core_format(fields: dict[str, Any]) -> Any:
    numbers = {name: _in_int32(name, value) for name, value in fields.items() if isinstance(value, int)}
    if fields["kind"] == "float":
        return _core.float_format(
            fields["signed"],
            numbers["exponent_bits"],
            numbers["mantissa_bits"],
            numbers["bias"],
            SPECIALS.index(fields["specials"]),
            fields["subnormals"] == "flush",
            OVERFLOWS.index(fields["overflow"]),
        )
    if fields["kind"] == "integer":
        return _core.integer_format(numbers["bits"], numbers["fraction_bits"], fields["signed"], fields["symmetric"])
    return _core.codebook_format(
        [float.fromhex(value) for value in fields["values"]],
        fields["codes"],
        [float.fromhex(value) for value in fields["thresholds"]],
        numbers["bits"],
        numbers["nan_code"],
        fields["keep_nonzero"],
    )


def _default_name(fields: dict[str, Any]) -> str:
    if fields["kind"] == "integer":
        prefix = "int" if fields["signed"] else "uint"
        return f"{prefix}{fields['bits']}" + (f".{fields['fraction_bits']}" if fields["fraction_bits"] else "")
    if fields["kind"] == "codebook":
        return f"codebook{len(fields['values'])}"
    suffix = {"ieee": "", "finite_nan": "fn", "fnuz": "fnuz", "p3109": "p3109", "none": "finite"}[fields["specials"]]
    return ("" if fields["signed"] else "u") + f"e{fields['exponent_bits']}m{fields['mantissa_bits']}{suffix}"


@functools.lru_cache(maxsize=1024)
def _of_spec(spec: str) -> Format:
    fields = json.loads(spec)
    if fields["kind"] == "float":
        fields.pop("kind")
        return Format(**fields)
    return Format._of(fields, None)


def _rebuild(spec: str, name: str) -> Format:
    return Format._of(json.loads(spec), name)
