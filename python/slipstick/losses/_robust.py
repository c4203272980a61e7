"""Label-distributionally robust losses: the worst weighting of margins to other classes, with a price on its divergence from uniform.

With d_j = z_j - z_y + margin [j != y] and K classes they are the maximum over weights q of sum_j q_j d_j - lambda KL(q || 1/K). LDR-KL
lets q be any distribution, LDR-k-KL bounds each weight by 1/k, ALDR-KL maximises over lambda, too.
"""

from __future__ import annotations

import math

from slipstick._arguments import is_torch

from . import _head
from ._arrays import (
    Array,
    arange,
    astype,
    dtype_name,
    gather,
    library,
    linspace,
    log_softmax,
    logcumsumexp,
    logsumexp,
    quiet,
    required,
    scatter,
    softmax,
    softplus,
    stop_gradient,
    taken,
    topk,
)
from ._row_chunks import ChunkedRows
from ._rows import Rows, check_head, check_number, log1m_exp

MOST_STREAMED_MARGIN = 4.0  # temperatures; rounding of the lse is amplified by e^(margin / temperature) where p is near 1
SCANNED_TEMPERATURES = 32
NEWTON_STEPS = 12


@quiet
def ldr_kl_loss(
    hidden: Array,
    weight: Array,
    targets: Array,
    *,
    temperature: float = 1.0,
    margin: float = 0.0,
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    softcap: float | None = None,
    scale: float = 1.0,
    filter_eps: float | str | None = None,
    workspace: int | None = None,
    threads: int | None = None,
) -> Array:
    """lambda log(1/K sum_j e^(d_j / lambda)), d_j = z_j - z_y + margin [j != y]; lambda is the temperature.

    Args:
        temperature: > 0. Towards 0 the loss becomes max(0, max_{j != y} z_j - z_y + margin), towards infinity the mean of d.
        margin: any finite number; the paper's c.
        The others and what is returned and raised: see focal_loss.
    Notes:
        temperature = 1 and margin = 0 give cross-entropy - log K, so that the loss can be negative. The released code normalises the
        logits first; this does not. A margin above 4 temperatures is computed from whole rows in chunks of the workspace, because
        rounding of the lse would be amplified by e^(margin / temperature).
    Source: Zhu, Ying and Yang 2023, Label distributionally robust losses (arXiv:2112.14869).
    """
    name = "ldr_kl_loss"
    _check_temperature(name, temperature, margin)
    if margin > MOST_STREAMED_MARGIN * temperature:
        chunks = ChunkedRows(
            name,
            hidden,
            weight,
            bias,
            targets=targets,
            ignore_index=ignore_index,
            reduction=reduction,
            softcap=softcap,
            scale=scale,
            workspace=workspace,
        )
        return chunks.reduce(chunks.map(ldr_kl_losses, margin=margin, temperature=temperature))
    rows = Rows(
        name,
        hidden,
        weight,
        targets,
        ("target", "lse"),
        bias=bias,
        ignore_index=ignore_index,
        reduction=reduction,
        softcap=None if softcap is None else _head.number(name, "softcap", softcap) / temperature,
        scale=(scale if is_torch(scale) else _head.number(name, "scale", scale)) / temperature,
        filter_eps=filter_eps,
        workspace=workspace,
        threads=threads,
    )
    log_prob = rows.log_prob()
    excess = -log_prob
    if margin != 0:  # 1 + e^(margin / temperature) (1 - p)/p in place of 1/p
        excess = softplus(margin / temperature + log1m_exp(log_prob) - log_prob)
    return rows.reduce(temperature * (excess - math.log(rows.classes)))


@quiet
def ldr_k_kl_loss(
    hidden: Array,
    weight: Array,
    targets: Array,
    *,
    k: int,
    temperature: float = 1.0,
    margin: float = 0.0,
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    softcap: float | None = None,
    scale: float = 1.0,
    workspace: int | None = None,
) -> Array:
    """The maximum over distributions q with q_j <= 1/k of sum_j q_j d_j - lambda KL(q || 1/K), d and lambda as in ldr_kl_loss.

    Args:
        k: 1 to V; 1 is ldr_kl_loss, V the mean of d.
        workspace: bytes for the logits of a chunk of rows and what is computed from them; default 64 MiB.
        The others and what is returned and raised: see ldr_kl_loss.
    Notes:
        Whole rows in chunks: four products of the size of the logits for loss and gradients. The largest few weights are 1/k and the
        others a softmax of what is left; the fewest capped weights that satisfy the bound are the maximiser.
    Source: Zhu, Ying and Yang 2023 (arXiv:2112.14869), as the maximum over the capped simplex; their code does not have it.
    """
    name = "ldr_k_kl_loss"
    _check_temperature(name, temperature, margin)
    chunks = ChunkedRows(
        name,
        hidden,
        weight,
        bias,
        targets=targets,
        ignore_index=ignore_index,
        reduction=reduction,
        softcap=softcap,
        scale=scale,
        workspace=workspace,
    )
    check_number(name, "k", k, f"a whole number from 1 to {chunks.classes}", lambda x: isinstance(x, int) and 1 <= x <= chunks.classes)
    return chunks.reduce(chunks.map(ldr_k_kl_losses, margin=margin, temperature=temperature, k=k))


@quiet
def aldr_kl_loss(
    hidden: Array,
    weight: Array,
    targets: Array,
    *,
    initial_temperature: float = 1.0,
    alpha: float | None = None,
    margin: float = 0.0,
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    softcap: float | None = None,
    scale: float = 1.0,
    workspace: int | None = None,
) -> Array:
    """The maximum over q and lambda >= 0 of sum_j q_j d_j - lambda KL(q || 1/K) - (alpha/2)(lambda - lambda_0)^2, d as in ldr_kl_loss.

    Args:
        initial_temperature: lambda_0 > 0.
        alpha: > log K / lambda_0, which keeps lambda above 0; default 2 log K / lambda_0, as in the released code.
        workspace: see ldr_k_kl_loss.
        The others and what is returned and raised: see ldr_kl_loss.
    Notes:
        lambda is found for each row by a scan of 32 values and Newton's method from the best one, and is constant for the gradient
        (envelope theorem). Where the objective has several maxima closer than a step of the scan, the found one may be the lower.
        lagged_aldr_kl_loss is the cheaper update that the authors ran.
    Source: Zhu, Ying and Yang 2023 (arXiv:2112.14869).
    """
    name = "aldr_kl_loss"
    _check_temperature(name, initial_temperature, margin, "initial_temperature")
    chunks = ChunkedRows(
        name,
        hidden,
        weight,
        bias,
        targets=targets,
        ignore_index=ignore_index,
        reduction=reduction,
        softcap=softcap,
        scale=scale,
        workspace=workspace,
    )
    log_classes = math.log(max(2, chunks.classes))
    price = 2 * log_classes / initial_temperature if alpha is None else alpha
    least = log_classes / initial_temperature
    check_number(name, "alpha", price, f"more than log(V) / initial_temperature = {least:g}", lambda x: least < x < math.inf)
    return chunks.reduce(chunks.map(aldr_kl_losses, margin=margin, initial_temperature=initial_temperature, alpha=price))


@quiet
def lagged_aldr_kl_loss(
    hidden: Array,
    weight: Array,
    targets: Array,
    temperatures: Array,
    *,
    initial_temperature: float = 1.0,
    strength: float = 2.0,
    margin: float = 0.0,
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    softcap: float | None = None,
    scale: float = 1.0,
    workspace: int | None = None,
) -> tuple[Array, Array]:
    """ALDR-KL as its authors train with it: one stored temperature a sample, moved one step at each visit.

    q = softmax(z / lambda_old), lambda = lambda_0 (1 - KL(q || 1/K) / (strength log K)), loss = LDR-KL at lambda with the margin
    - (strength log K / (2 lambda_0)) (lambda - lambda_0)^2; lambda is constant for the gradient.

    Args:
        temperatures: (...) float, of the library of hidden: lambda_old of each row; lambda_0 at a sample's first visit.
        strength: > 1, so that lambda stays above 0.
        The others and what is raised: see aldr_kl_loss.
    Returns:
        The loss as reduced, and lambda (...) to be stored for the next visit; ignored rows keep theirs.
    Notes:
        The released code also normalises the logits and adds 1e-5 to each q_j, which is half of all mass at 50 000 classes; neither is
        done here.
    Source: Zhu, Ying and Yang 2023 (arXiv:2112.14869); their repository ICML2023_LDR, loss.py.
    """
    name = "lagged_aldr_kl_loss"
    required(name, targets=targets, temperatures=temperatures)
    hidden, weight, targets = check_head(name, hidden, weight, targets, bias)
    _, temperatures = taken(name, hidden=hidden, temperatures=temperatures)
    _check_temperature(name, initial_temperature, margin, "initial_temperature")
    check_number(name, "strength", strength, "a number above 1", lambda x: 1 < x < math.inf)
    chunks = ChunkedRows(
        name,
        hidden,
        weight,
        bias,
        targets=targets,
        ignore_index=ignore_index,
        reduction=reduction,
        softcap=softcap,
        scale=scale,
        workspace=workspace,
    )
    if not dtype_name(temperatures).startswith(("float", "bfloat")):
        raise TypeError(f"{name}: temperatures has dtype {dtype_name(temperatures)}; expected a floating one")
    if temperatures.shape != targets.shape:
        raise ValueError(f"{name}: temperatures has shape {tuple(temperatures.shape)}; expected that of targets, {tuple(targets.shape)}")
    log_classes = math.log(max(2, chunks.classes))
    price = strength * log_classes / initial_temperature
    assert chunks.counts is not None
    new = stop_gradient(chunks.map(next_temperatures, temperatures, initial_temperature=initial_temperature, strength=price))
    stored = library(new).where(chunks.counts, astype(new, temperatures.dtype), stop_gradient(temperatures))
    return chunks.reduce(
        chunks.map(lagged_losses, temperatures, margin=margin, initial_temperature=initial_temperature, strength=price)
    ), stored


def ldr_kl_losses(logits: Array, labels: Array, margin: float, temperature: float) -> Array:
    return _log_mean_exp(_margins(logits, labels, margin), temperature)


def ldr_k_kl_losses(logits: Array, labels: Array, margin: float, temperature: float, k: float) -> Array:
    return _capped_maximum(_margins(logits, labels, margin), temperature, int(k))


def aldr_kl_losses(logits: Array, labels: Array, margin: float, initial: float, price: float) -> Array:
    differences = _margins(logits, labels, margin)
    best = _best_temperature(stop_gradient(differences), initial, price)
    return _log_mean_exp(differences, best) - price / 2 * (best - initial) ** 2


def next_temperatures(logits: Array, labels: Array, lagged: Array, initial: float, price: float) -> Array:
    if not bool((lagged > 0).all()):
        raise ValueError(f"lagged_aldr_kl_loss: temperatures holds {float(lagged[~(lagged > 0)][0])}; expected positive numbers")
    return initial - _uniform_divergence(stop_gradient(logits), lagged) / price


def lagged_losses(logits: Array, labels: Array, lagged: Array, margin: float, initial: float, price: float) -> Array:
    current = next_temperatures(logits, labels, lagged, initial, price)
    return _log_mean_exp(_margins(logits, labels, margin), current) - price / 2 * (current - initial) ** 2


def _check_temperature(name: str, temperature: float, margin: float, argument: str = "temperature") -> None:
    check_number(name, argument, temperature, "a positive number", lambda x: 0 < x < math.inf)
    check_number(name, "margin", margin, "a finite number", lambda x: abs(x) < math.inf)


def _margins(logits: Array, labels: Array, margin: float) -> Array:
    """d: the logits less the label's, the margin added to all but the label's own."""
    differences = logits - gather(logits, labels[:, None]) + margin
    return scatter(differences, labels[:, None], 0.0)


def _log_mean_exp(differences: Array, temperature: Array) -> Array:
    """lambda log(1/K sum_j e^(d_j / lambda)), lambda a number or (rows,)."""
    column = temperature if isinstance(temperature, float) else temperature[:, None]
    return temperature * (logsumexp(differences / column, 1) - math.log(differences.shape[1]))


def _capped_maximum(differences: Array, temperature: float, k: int) -> Array:
    scaled = differences / temperature
    xp, classes = library(scaled), scaled.shape[1]
    if k == classes:
        return differences.mean(1)
    top, where = topk(scaled, k)
    rest = logsumexp(scatter(scaled, where[:, : k - 1], -math.inf), 1)
    # tails[:, m]: log-sum-exp of all but the m largest, built up from the smallest set so that nothing is subtracted
    tails = xp.flip(logcumsumexp(xp.concatenate([rest[:, None], xp.flip(top[:, : k - 1], (1,))], 1), 1), (1,))
    capped = arange(k, scaled)
    share = 1 - capped / k
    within_bound = xp.log(share) + top - tails <= -math.log(k)
    within_bound[:, k - 1] = True  # one weight of at most 1/k is all that is left; rounding may say otherwise
    fewest = astype(within_bound, xp.int32).argmax(1)[:, None]
    capped_sums = xp.concatenate([xp.zeros_like(rest)[:, None], top[:, : k - 1].cumsum(1)], 1)
    # sum of q d/lambda - KL(q || 1/K): capped weights are 1/k, the others share e^(d/lambda - tail)
    values = capped_sums / k - capped / k * math.log(classes / k) + share * (tails - xp.log(share) - math.log(classes))
    return temperature * gather(values, fewest)[:, 0]


def _uniform_divergence(differences: Array, temperature: Array) -> Array:
    """KL(softmax(d / lambda) || 1/K), lambda (rows,)."""
    log_weights = log_softmax(differences / temperature[:, None], 1)
    xp = library(log_weights)
    finite = xp.clip(log_weights, float(xp.finfo(log_weights.dtype).min), None)
    return math.log(differences.shape[1]) + (xp.exp(log_weights) * finite).sum(1)


def _best_temperature(differences: Array, initial: float, price: float) -> Array:
    """The lambda of each row that maximises lambda log(mean e^(d / lambda)) - (price/2)(lambda - initial)^2."""
    least = initial - math.log(max(2, differences.shape[1])) / price  # KL(q || 1/K) is at most log K
    xp, grid = library(differences), linspace(least, initial, SCANNED_TEMPERATURES, differences)
    values = xp.stack([_log_mean_exp(differences, float(at)) - price / 2 * (at - initial) ** 2 for at in grid], 1)
    best = values.argmax(1)
    low, high = grid[xp.clip(best - 1, 0, None)], grid[xp.clip(best + 1, None, len(grid) - 1)]
    current = grid[best]
    for _ in range(NEWTON_STEPS):
        weights = softmax(differences / current[:, None], 1)
        scaled = differences / current[:, None]
        average = (weights * scaled).sum(1)[:, None]
        variance = (weights * (scaled - average) ** 2).sum(1)
        slope = -_uniform_divergence(differences, current) - price * (current - initial)
        low, high = xp.where(slope > 0, current, low), xp.where(slope > 0, high, current)
        step = current - slope / (variance / current - price)
        current = xp.where((step >= low) & (step <= high), step, (low + high) / 2)
    return current
