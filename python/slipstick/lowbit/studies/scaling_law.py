"""The scaling law of floating-point quantized training ("Capybara"; Sun et al. 2025, arXiv 2501.02423, ICML 2025).

One formula predicts the loss of a language model from its size, its data, the exponent and mantissa bits of its matrix products, and
the block size of their scales. It has a minimum in the data: past a critical data size, more tokens make a low-precision model worse.

>>> law = ScalingLaw()
>>> [law.best_split(bits) for bits in (4, 8, 16)]  # (exponent bits, mantissa bits)
[(2, 1), (4, 3), (8, 7)]
>>> f"{law.critical_data_size(1e9, 4, 3, block_size=128) / 1e12:.1f} trillion tokens for a billion parameters in E4M3"
'27.3 trillion tokens for a billion parameters in E4M3'

Left out: the paper's dependence of the tensor-wise block size on model and data, whose coefficients we have not read.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks

__all__ = ["CHANNEL_WISE_BLOCK_SIZE", "ComputeOptimum", "ScalingLaw", "ScalingLawFit", "fit"]

CHANNEL_WISE_BLOCK_SIZE = 2.0**13.1567
"""The block size at which the law, fitted to blocks, gives the loss of one scale a channel (paper: log2 B = 13.1567)."""

OPERATIONS_PER_BIT = 6 / 16
"""Cost of training is this times parameters x tokens x bits: 6 operations a parameter and token at 16 bits, fewer in proportion (paper, k)."""


@dataclass(frozen=True)
class ComputeOptimum:
    """What `ScalingLaw.compute_optimal` finds: sizes and bits are real numbers, the optimum of the smooth law."""

    parameters: float
    tokens: float
    bits: float
    loss: float


@dataclass(frozen=True)
class ScalingLaw:
    """loss = n / N^alpha + d / D^beta + irreducible + D^beta / N^alpha log2(B) / (gamma (E + 1/2)^delta (M + 1/2)^nu).

    N are parameters, D tokens, B the block size of a scale, E and M exponent and mantissa bits of the inputs of matrix products.
    The defaults are the paper's fit to models of 41 to 679 million parameters, which it validates up to 70 billion. An instance with
    other constants comes from `fit`. Every method takes scalars or arrays that broadcast, and computes in float64.
    """

    n: float = 69.2343
    alpha: float = 0.2368
    d: float = 68973.0621
    beta: float = 0.5162
    irreducible: float = 1.9061
    gamma: float = 11334.5197
    delta: float = 3.1926
    nu: float = 2.9543

    def __post_init__(self) -> None:
        for name in ("n", "alpha", "d", "beta", "gamma", "delta", "nu"):
            _checks.real("ScalingLaw", name, getattr(self, name), above=0)
        _checks.real("ScalingLaw", "irreducible", self.irreducible, least=0)

    def loss(
        self, parameters: ArrayLike, tokens: ArrayLike, exponent_bits: ArrayLike, mantissa_bits: ArrayLike, block_size: ArrayLike = 128
    ) -> Any:
        """Predicted loss, in nats a token.

        Args:
            parameters, tokens: positive.
            exponent_bits, mantissa_bits: at least 0; fractions are taken.
            block_size: elements that share a scale, at least 1; `CHANNEL_WISE_BLOCK_SIZE` for one scale a channel.
        Returns:
            float, or a float64 array of the broadcast shape.
        Raises:
            TypeError: an argument is of the wrong type.
            ValueError: an argument is out of range, NaN or infinite.
        Notes:
            With block_size 1 the last term is 0: the law then predicts no loss from quantization.

        >>> round(ScalingLaw().loss(1e9, 1e12, 4, 3), 4)
        2.4635
        """
        size = _within("loss", "parameters", parameters, above=0)
        data = _within("loss", "tokens", tokens, above=0)
        penalty = self.quantization_penalty(parameters, tokens, exponent_bits, mantissa_bits, block_size)
        return _scalar(self.n / size**self.alpha + self.d / data**self.beta + self.irreducible + penalty)

    def quantization_penalty(
        self, parameters: ArrayLike, tokens: ArrayLike, exponent_bits: ArrayLike, mantissa_bits: ArrayLike, block_size: ArrayLike = 128
    ) -> Any:
        """The part of the loss that quantization costs; arguments, result and errors as of `loss`.

        >>> law = ScalingLaw()
        >>> law.quantization_penalty(1e9, 1e12, 4, 3) < law.quantization_penalty(1e9, 1e12, 2, 1)
        True
        """
        where = "quantization_penalty"
        size = _within(where, "parameters", parameters, above=0)
        data = _within(where, "tokens", tokens, above=0)
        blocks = np.log2(_within(where, "block_size", block_size, least=1))
        return _scalar(data**self.beta / size**self.alpha * blocks / self._capacity(where, exponent_bits, mantissa_bits))

    def _capacity(self, where: str, exponent_bits: ArrayLike, mantissa_bits: ArrayLike) -> NDArray[np.float64]:
        exponent = _within(where, "exponent_bits", exponent_bits, least=0)
        mantissa = _within(where, "mantissa_bits", mantissa_bits, least=0)
        return self.gamma * (exponent + 0.5) ** self.delta * (mantissa + 0.5) ** self.nu

    def real_split(self, bits: ArrayLike) -> tuple[Any, Any]:
        """Exponent and mantissa bits that minimise the loss at bits = 1 + exponent + mantissa, as real numbers.

        Args:
            bits: at least 1.
        Returns:
            (exponent bits, mantissa bits), in closed form; one of the two can be negative below about 1.04 bits.
        Raises:
            TypeError: an argument is of the wrong type.
            ValueError: bits is out of range.

        >>> tuple(round(float(part), 3) for part in ScalingLaw().real_split(8))
        (3.655, 3.345)
        """
        total = _within("real_split", "bits", bits, least=1)
        share = self.delta / (self.delta + self.nu)
        return _scalar(share * total - 0.5), _scalar((1 - share) * total - 0.5)

    def best_split(self, bits: int) -> tuple[int, int]:
        """The whole exponent and mantissa bits that minimise the loss at bits = 1 + exponent + mantissa.

        Args:
            bits: 1 to 64.
        Returns:
            (exponent bits, mantissa bits); more exponent bits on a tie.
        Raises:
            TypeError, ValueError: bits is not such an int.

        >>> ["E%dM%d" % ScalingLaw().best_split(bits) for bits in (3, 5, 6, 7)]
        ['E1M1', 'E2M2', 'E3M2', 'E3M3']
        """
        free = _checks.integer("best_split", "bits", bits, 1, 64) - 1
        exponent = max(range(free + 1), key=lambda e: (float(self._capacity("best_split", e, free - e)), e))
        return exponent, free - exponent

    def critical_data_size(
        self, parameters: ArrayLike, exponent_bits: ArrayLike, mantissa_bits: ArrayLike, block_size: ArrayLike = 128
    ) -> Any:
        """The number of tokens at which the loss is smallest; training on more makes it worse.

        Args, Returns, Raises:
            As for `loss`, tokens instead of a loss; infinity where block_size is 1.

        >>> law = ScalingLaw()
        >>> [round(law.critical_data_size(1e9, *split) / 1e12, 1) for split in ((8, 7), (4, 3), (2, 1))]
        [1729.5, 27.3, 0.4]
        """
        where = "critical_data_size"
        size = _within(where, "parameters", parameters, above=0)
        blocks = np.log2(_within(where, "block_size", block_size, least=1))
        with np.errstate(divide="ignore"):
            ratio = self.d * size**self.alpha * self._capacity(where, exponent_bits, mantissa_bits) / blocks
        return _scalar(ratio ** (1 / (2 * self.beta)))

    def _capacity_of_bits(self) -> float:
        """c such that the capacity at the best real split is c bits^(delta + nu)."""
        total = self.delta + self.nu
        return self.gamma * (self.delta / total) ** self.delta * (self.nu / total) ** self.nu

    def _need(self, where: str) -> float:
        """c such that bits^(delta + nu) = c tokens^beta log2(block size) at the best precision for given tokens."""
        total = self.delta + self.nu
        if total <= self.alpha:
            raise ValueError(
                f"{where}: delta + nu is {total:g} and alpha {self.alpha:g}; expected delta + nu > alpha, else no precision is best"
            )
        return (total - self.alpha) / (self.alpha * self.n * self._capacity_of_bits())

    def optimal_bits(
        self,
        *,
        tokens: ArrayLike | None = None,
        parameters: ArrayLike | None = None,
        operations: ArrayLike | None = None,
        block_size: ArrayLike = 128,
    ) -> Any:
        """The precision, in bits an element, that gives the smallest loss for a fixed cost of training.

        The cost is 6/16 x parameters x tokens x bits operations, so that fewer bits pay for more parameters or tokens.

        Args:
            tokens: data at hand; parameters make up the cost. The result then does not depend on the cost.
            parameters, operations: the model and the cost instead of tokens; tokens make up the cost.
            block_size: greater than 1.
        Returns:
            float or float64 array: 1 + exponent + mantissa bits, a real number, at the best real split.
        Raises:
            TypeError: an argument is of the wrong type.
            ValueError: an argument is out of range, or neither tokens nor both of parameters and operations are given.

        >>> law = ScalingLaw()
        >>> round(law.optimal_bits(tokens=1e12), 2)
        5.18
        >>> round(law.optimal_bits(parameters=1e9, operations=1e22), 2)
        8.41
        """
        where = "optimal_bits"
        given = {"tokens": tokens, "parameters": parameters, "operations": operations}
        names = [name for name, value in given.items() if value is not None]
        if names not in (["tokens"], ["parameters", "operations"]):
            raise ValueError(f"{where}: got {' and '.join(names) or 'nothing'}; expected tokens, or parameters and operations")
        blocks = np.log2(_within(where, "block_size", block_size, above=1))
        total = self.delta + self.nu
        if tokens is not None:
            data = _within(where, "tokens", tokens, above=0)
            return _scalar((self._need(where) * data**self.beta * blocks) ** (1 / total))
        size = _within(where, "parameters", parameters, above=0)
        budget = _within(where, "operations", operations, above=0) / (OPERATIONS_PER_BIT * size)
        ratio = (
            (self.beta + total) * blocks * budget ** (2 * self.beta) / (self.beta * self.d * size**self.alpha * self._capacity_of_bits())
        )
        return _scalar(ratio ** (1 / (total + 2 * self.beta)))

    def compute_optimal(self, operations: float, *, block_size: float = 128) -> ComputeOptimum:
        """Parameters, tokens and bits that together give the smallest loss for a cost of 6/16 x parameters x tokens x bits.

        Args:
            operations: cost of training, 16-bit floating-point operations or their equivalent; positive.
            block_size: greater than 1.
        Returns:
            The stationary point of the law in closed form, a minimum; real numbers.
        Raises:
            TypeError: an argument is of the wrong type.
            ValueError: an argument is out of range.

        >>> [round(ScalingLaw().compute_optimal(cost).bits, 1) for cost in (1e21, 1e26, 1e31)]
        [4.2, 5.6, 7.6]
        """
        where = "compute_optimal"
        budget = _checks.real(where, "operations", operations, above=0) / OPERATIONS_PER_BIT
        blocks = math.log2(_checks.real(where, "block_size", block_size, above=1))
        total, alpha, beta = self.delta + self.nu, self.alpha, self.beta
        need = self._need(where) * blocks
        # Bits at their best for the tokens turn the quantization penalty into a fixed part of n / N^alpha; the rest is one equation in tokens.
        pull = beta * self.d * (total - alpha) / (alpha * self.n * (total + beta))
        tokens = (pull * budget**alpha * need ** (-alpha / total)) ** (1 / (alpha + beta + alpha * beta / total))
        bits = (need * tokens**beta) ** (1 / total)
        parameters = budget / (bits * tokens)
        exponent, mantissa = self.real_split(max(bits, 1.0))
        if bits < 1 or min(exponent, mantissa) < 0:
            raise ValueError(
                f"{where}: operations is {operations!r}, for which {bits:.3g} bits are best; expected a cost that affords more"
            )
        return ComputeOptimum(parameters, tokens, bits, self.loss(parameters, tokens, exponent, mantissa, block_size))


@dataclass(frozen=True)
class ScalingLawFit:
    """What `fit` finds: the law, and how well it holds on the runs it was fitted to.

    Attributes:
        law: the fitted constants.
        mean_absolute_error: of the predicted loss, over the runs.
        objective: sum of the Huber losses of the log residuals.
        starts: how many starting points were tried.
    """

    law: ScalingLaw
    mean_absolute_error: float
    objective: float
    starts: int


def fit(
    parameters: ArrayLike,
    tokens: ArrayLike,
    exponent_bits: ArrayLike,
    mantissa_bits: ArrayLike,
    loss: ArrayLike,
    *,
    block_size: ArrayLike = 128,
    huber: float = 1e-3,
    start: ScalingLaw | None = None,
) -> ScalingLawFit:
    """Fits the eight constants of `ScalingLaw` to runs of one's own.

    Minimises the sum of Huber losses of log(predicted) - log(measured), as scaling laws are commonly fitted, over the logarithms of the
    constants, from the given start and from eight others with exponents half and twice as large and the linear constants that suit them.

    Args:
        parameters, tokens, exponent_bits, mantissa_bits, loss: (runs,) each, or scalars that hold for all runs; at least 8 runs.
        block_size: (runs,) or a scalar.
        huber: the residual from which on the loss grows linearly.
        start: constants to start from; default the paper's.
    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: lengths differ, fewer than 8 runs, a value is out of range, or runs that cannot tell the constants apart: parameters,
            tokens, exponent bits or mantissa bits take fewer than two values.
    Notes:
        Needs SciPy. Deterministic. On noiseless losses the constants come back to about six digits, less where runs hardly depend on
        one: exponents of a term that is small in all runs are poorly determined, as in any such fit.

    >>> import itertools
    >>> runs = np.array(list(itertools.product([4e7, 2e8, 7e8], [1e10, 4e10, 1e11], [2, 4, 5], [1, 3, 5])))
    >>> truth = ScalingLaw(alpha=0.3, n=200.0)
    >>> found = fit(*runs.T, truth.loss(*runs.T))
    >>> round(found.law.alpha, 4), found.mean_absolute_error < 1e-6
    (0.3, True)
    """
    names = ("parameters", "tokens", "exponent_bits", "mantissa_bits", "loss", "block_size")
    limits: tuple[dict[str, float], ...] = ({"above": 0}, {"above": 0}, {"least": 0}, {"least": 0}, {"above": 0}, {"least": 1})
    given = (parameters, tokens, exponent_bits, mantissa_bits, loss, block_size)
    columns = [_within("fit", name, value, **limit) for name, value, limit in zip(names, given, limits)]
    try:
        runs = np.broadcast_arrays(*columns)
    except ValueError:
        raise ValueError(f"fit: shapes are {[column.shape for column in columns]}; expected equal lengths or scalars") from None
    if runs[0].ndim != 1 or runs[0].size < 8:
        raise ValueError(f"fit: there are {runs[0].shape} runs; expected a vector of at least 8, as there are 8 constants")
    for name, values in zip(names[:4], runs[:4]):
        if np.unique(values).size < 2:
            raise ValueError(f"fit: {name} is {values[0]:g} in all runs; expected at least two values, else its constants are arbitrary")
    if not (runs[5] > 1).any():
        raise ValueError("fit: block_size is 1 in all runs; expected some greater than 1, else the precision has no part in the law")
    huber = _checks.real("fit", "huber", huber, above=0)
    optimize = importlib.import_module("scipy.optimize")
    terms = _Terms(*runs)
    starts = _starts(terms, ScalingLaw() if start is None else start, optimize.nnls)
    options = {"loss": "huber", "f_scale": huber, "x_scale": "jac", "xtol": 1e-14, "ftol": 1e-14, "gtol": 1e-14, "max_nfev": 2000}
    with np.errstate(over="ignore", invalid="ignore"):  # a step too far is infinite, and SciPy then takes a shorter one
        found = [optimize.least_squares(terms.residuals, first, jac=terms.jacobian, **options) for first in starts]
    best = min(found, key=lambda result: result.cost)
    law = ScalingLaw(*(float(value) for value in np.exp(best.x)))
    error = float(np.mean(np.abs(terms.predict(best.x) - terms.loss)))
    return ScalingLawFit(law, error, float(best.cost), len(starts))


class _Terms:
    """The law over a set of runs as a function of the logarithms of its constants, in the order of the fields of ScalingLaw."""

    def __init__(self, parameters: Any, tokens: Any, exponent: Any, mantissa: Any, loss: Any, block_size: Any) -> None:
        self.log_size, self.log_data, self.loss = np.log(parameters), np.log(tokens), loss
        self.log_exponent, self.log_mantissa, self.blocks = np.log(exponent + 0.5), np.log(mantissa + 0.5), np.log2(block_size)

    def parts(self, logs: Any) -> tuple[Any, Any, Any]:
        n, alpha, d, beta, _, gamma, delta, nu = np.exp(logs)
        model = n * np.exp(-alpha * self.log_size)
        data = d * np.exp(-beta * self.log_data)
        power = beta * self.log_data - alpha * self.log_size - delta * self.log_exponent - nu * self.log_mantissa
        return model, data, np.exp(power) * self.blocks / gamma

    def predict(self, logs: Any) -> Any:
        return sum(self.parts(logs)) + np.exp(logs[4])

    def residuals(self, logs: Any) -> Any:
        return np.log(self.predict(logs)) - np.log(self.loss)

    def jacobian(self, logs: Any) -> Any:
        model, data, penalty = self.parts(logs)
        _, alpha, _, beta, irreducible, _, delta, nu = np.exp(logs)
        columns = (
            model,
            -alpha * self.log_size * (model + penalty),
            data,
            beta * self.log_data * (penalty - data),
            np.full_like(model, irreducible),
            -penalty,
            -delta * self.log_exponent * penalty,
            -nu * self.log_mantissa * penalty,
        )
        return np.stack(columns, axis=1) / (model + data + penalty + irreducible)[:, None]


def _starts(terms: _Terms, first: ScalingLaw, nonnegative_least_squares: Any) -> list[Any]:
    """The given start, and the linear constants that fit best at exponents around it."""
    constants = np.log(np.maximum(astuple(first), 1e-6))
    starts = [constants]
    for model in (0.5, 1, 2):
        for data in (0.5, 1, 2):
            logs = constants.copy()
            logs[1] += math.log(model)
            logs[3] += math.log(data)
            parts = np.stack([part / scale for part, scale in zip(terms.parts(logs), (*np.exp(logs[[0, 2]]), np.exp(-logs[5])))])
            columns = np.stack([*parts[:2], np.ones_like(terms.loss), parts[2]], axis=1)
            scales = columns.max(axis=0)
            solution = nonnegative_least_squares(columns / scales / terms.loss[:, None], np.ones_like(terms.loss))[0]
            solution = np.maximum(solution, 1e-3) / scales  # a constant at 0 has no logarithm and could not come back
            logs[0], logs[2], logs[4], logs[5] = np.log(solution[0]), np.log(solution[1]), np.log(solution[2]), -np.log(solution[3])
            starts.append(logs)
    return starts


def _within(where: str, name: str, value: Any, *, above: float = -math.inf, least: float = -math.inf) -> NDArray[np.float64]:
    result = _checks.array(where, name, value, empty=True)
    if not ((result > above) & (result >= least)).all():
        wanted = f"greater than {above:g}" if above > -math.inf else f"at least {least:g}"
        raise ValueError(f"{where}: {name} holds {result.min():g}; expected values {wanted}")
    return result


def _scalar(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else value
