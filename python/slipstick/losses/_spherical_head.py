"""A linear head over any number of classes whose exact gradient step costs O(D^2) an example, whatever that number is.

For losses of a row's label logit o, sum s and sum of squares q of all logits, the gradient of the weight W (classes, D) is
(l_s 1 + 2 l_q W h + l_o e_y) h^T: of its rows only the label's moves on its own. So W is kept as V U + 1 omega^T with U (D, D), and a
step changes U, omega and the labels' rows of V. What a step needs to know of all classes is Q = W^T W and the sum of W's rows, both
updated with it (Vincent, de Brebisson and Bouthillier 2015, Efficient exact gradient update for training deep networks with very large
sparse targets, arXiv:1412.7091; here for a batch of rows at once, with Woodbury's identity for the inverse of U).

With H (m, D) the batch, a = 2 eta l_q, b = eta l_s, c = eta l_o of its rows, E their one-hot labels and M = I - H^T diag(a) H:

    U <- U M    omega <- M omega - H^T b    V <- V - E^T diag(c) H U^-1, with the new U
    W <- W M - X,  X = 1 (H^T b)^T + E^T diag(c) H,  and Q = W^T W, sum = W^T 1 follow by multiplying out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.linalg import blas, lapack

from slipstick._arguments import int64, is_torch

from ._rows import check_choice, check_number
from ._spherical_formulas import FORMULAS, Array, Formula, SphericalLoss

WORST_CONDITION = 1e4  # of U, as |U| |U^-1| / D in Frobenius norms; beyond it V takes U in, which keeps the loss of digits below 4
ROWS_A_BLOCK = 8192  # of V widened to float64 at once


class SphericalHead:
    """Weight (V, D) of a linear head, trained by plain gradient descent on a loss of the spherical family at a cost without V in it.

    >>> import numpy as np
    >>> from slipstick.losses import SphericalHead
    >>> head = SphericalHead(np.random.default_rng(0).normal(size=(50_000, 8)), loss="z_score", beta=10.0)
    >>> loss, hidden_gradient = head.step(np.ones((4, 8)), np.array([7, 1, 7, 49_999]), learning_rate=0.1)
    >>> head.materialise().shape
    (50000, 8)

    Args:
        weight: (V, D) NumPy array or torch tensor, finite; copied. V is stored as float64 if it is float64, else as float32.
        loss: "z_score", "spherical_softmax", "taylor_softmax" or "squared_error": see z_score_loss, spherical_softmax_loss,
            taylor_softmax_loss and one_hot_squared_error.
        stabilize_every: steps after which V takes U in and Q is computed anew, O(V D^2), against the drift of rounding.
        parameters: of the loss: alpha and beta, or epsilon.
    Raises:
        ValueError: weight is no finite (V, D), loss is unknown, a number is out of range. TypeError: a parameter is not the loss's.
    Notes:
        A bias is a column of weight and a constant column of hidden. Momentum and Adam do not fit the factored form: every step is plain
        gradient descent, W <- W - learning_rate gradient. State: V D + 3 D^2 numbers. Against dense steps in float64 the weights agree to
        about 1e-12 of their size (tests: 1e-10 after 2000 steps); with float32 weights to about 1e-5.
        Not safe to call from several threads at once.
    Source: Vincent, de Brebisson and Bouthillier 2015 (arXiv:1412.7091).
    """

    def __init__(self, weight: Any, *, loss: str = "z_score", stabilize_every: int = 10_000, **parameters: float) -> None:
        array = _to_numpy(weight)
        if array.ndim != 2 or 0 in array.shape:
            raise ValueError(f"SphericalHead: weight has shape {array.shape}; expected (V, D), both at least 1")
        if not np.isfinite(array).all():
            raise ValueError("SphericalHead: weight holds NaN or infinity; expected finite numbers")
        check_number("SphericalHead", "stabilize_every", stabilize_every, "a positive number of steps", lambda x: x >= 1)
        self.classes, self.width = array.shape
        self.stabilize_every = stabilize_every
        self._formula = _formula(loss, parameters)
        self._as_torch = not isinstance(weight, np.ndarray)
        self._classes_rows: Any = np.array(array, dtype=np.float64 if array.dtype == np.float64 else np.float32, order="C")  # V
        self._mix: Array = np.eye(self.width)  # U
        self._mix_inverse: Array = np.eye(self.width)
        self._common: Array = np.zeros(self.width)  # omega
        self._sum: Array  # of the weight's rows
        self._triangle: Array  # Q, of which only the lower triangle is kept; C order
        self._steps = 0
        self._refresh_products()

    def step(
        self, hidden: Any, targets: Any, *, learning_rate: float, reduction: str = "mean", ignore_index: int = -100
    ) -> tuple[Any, Any]:
        """One step of gradient descent on a batch.

        Args:
            hidden: (..., D) NumPy array or torch tensor.
            targets: (...) int64 labels of the same library; the same label may come several times.
            learning_rate: > 0.
            reduction: "mean" over the rows that count, or "sum"; of the loss, and hence of the gradients.
            ignore_index: label of rows that do not count.
        Returns:
            The loss before the step, a float, and its gradient for hidden, of hidden's kind, shape and dtype: with torch,
            `hidden.backward(gradient)` carries it on. Without rows that count the loss is 0 for "sum", NaN for "mean", and nothing moves.
        Raises:
            ValueError: shapes do not fit, learning_rate or reduction is wrong, hidden holds NaN or infinity or is so large that the step
                overflows. TypeError: targets is not int64. IndexError: a label is out of range. The head is then as it was before.
        """
        check_number("SphericalHead.step", "learning_rate", learning_rate, "a positive number", lambda x: 0 < x < math.inf)
        rows, labels, counts = self._batch("step", hidden, targets, reduction, ignore_index)
        weight = 1.0 if reduction == "sum" else 1.0 / max(1, len(rows))
        with np.errstate(over="ignore", invalid="ignore"):  # looked at below
            products = self._times_products(rows)
            label_weights = self._rows_of(labels)
            loss = self._loss(rows, products, label_weights)
            of_label, of_sum, of_squares = weight * loss.of_label, weight * loss.of_sum, weight * loss.of_squares
            gradient = of_sum[:, None] * self._sum + (2 * of_squares)[:, None] * products + of_label[:, None] * label_weights
        if not (np.isfinite(gradient).all() and np.isfinite(loss.value).all()):
            raise ValueError("SphericalHead.step: the loss of hidden or its gradient is NaN or infinite; expected finite numbers")
        if len(rows):
            c, b, a = learning_rate * of_label, learning_rate * of_sum, 2 * learning_rate * of_squares
            with np.errstate(over="ignore", invalid="ignore"):
                if len(rows) == 1:
                    self._descend_one(rows[0], labels[0], products[0], label_weights[0], float(c[0]), float(b[0]), float(a[0]))
                else:
                    self._descend(rows, labels, products, label_weights, c, b, a)
            self._steps += 1
            if self._steps % self.stabilize_every == 0:
                self.stabilize()
        value = float(loss.value.sum()) if reduction == "sum" else float(loss.value.mean()) if len(rows) else math.nan
        return value, _spread(gradient, counts, hidden)

    def loss(self, hidden: Any, targets: Any, *, reduction: str = "mean", ignore_index: int = -100) -> float:
        """The loss of a batch, nothing moves. Arguments and what is raised: see step."""
        rows, labels, _ = self._batch("loss", hidden, targets, reduction, ignore_index)
        value = self._loss(rows, self._times_products(rows), self._rows_of(labels)).value
        return float(value.sum()) if reduction == "sum" else float(value.mean()) if len(rows) else math.nan

    def logits(self, hidden: Any) -> Any:
        """hidden W^T: (..., D) -> (..., V), O(V D) a row; for prediction.

        Raises:
            TypeError, ValueError: hidden is of another kind than the weight, or has another width.
        """
        rows = self._hidden("logits", hidden)
        mixed = (rows @ self._mix.T).astype(self._classes_rows.dtype)
        logits = mixed @ self._classes_rows.T + (rows @ self._common)[:, None].astype(self._classes_rows.dtype)
        return _like(logits.reshape(*hidden.shape[:-1], self.classes), hidden)

    def materialise(self) -> Any:
        """The weight (V, D), of the kind that was given, in float64 or float32 as it is stored; O(V D^2)."""
        weight = np.empty_like(self._classes_rows)
        for block in _blocks(self.classes):
            weight[block] = self._classes_rows[block] @ self._mix + self._common
        if not self._as_torch:
            return weight
        import torch

        return torch.from_numpy(weight)

    def stabilize(self) -> None:
        """V takes U and omega in, and Q and the sum of rows are computed anew; the weight stays. O(V D^2)."""
        self._absorb(self._mix, self._common)
        self._refresh_products()

    def _loss(self, rows: Array, products: Array, label_weights: Array) -> SphericalLoss:
        squares = np.einsum("nd,nd->n", rows, products)
        return self._formula(np.einsum("nd,nd->n", rows, label_weights), rows @ self._sum, squares, self.classes)

    def _rows_of(self, labels: Any) -> Array:
        rows: Array = self._classes_rows[labels].astype(np.float64) @ self._mix + self._common
        return rows

    def _descend(self, rows: Array, labels: Any, products: Array, label_weights: Array, c: Array, b: Array, a: Array) -> None:
        """The formulas at the head of this file; U, U^-1 and Q are updated in place, after all that can fail."""
        moves = self._moves(rows @ rows.T, rows, a)
        column_a, column_b, column_c = a[:, None], b[:, None], c[:, None]

        # Q <- (W M - X)^T (W M - X) = Q + H^T R + R^T H, with H^T b and the like multiplied out; W^T X = factor^T H
        factor = column_b * self._sum + column_c * label_weights
        small = column_b * (self.classes * b + c) + column_c * (b + (labels[:, None] == labels) * c)
        small *= 0.5  # between the rows of the batch: H R^T less what has no H in front
        small += ((factor + (0.5 * column_a) * products) @ rows.T) * a
        change = small @ rows
        change -= column_a * products
        change -= factor
        mixed = (self._mix @ rows.T) * a
        sums = rows.T @ (a * (rows @ self._sum) + self.classes * b + c)
        common = rows.T @ (a * (rows @ self._common) + b)
        size = np.vdot(rows, rows) * (np.vdot(change, change) + np.vdot(mixed, mixed)) + np.vdot(sums, sums) + np.vdot(common, common)
        if not math.isfinite(size):
            raise ValueError("SphericalHead.step: the step overflows; expected a smaller hidden or learning_rate")

        blas.dsyr2k(1.0, rows.T, change.T, 1.0, self._triangle.T, overwrite_c=1)
        self._sum -= sums
        self._common -= common
        _add_product(self._mix, -1.0, mixed, rows)
        if moves is not None:
            _add_product(self._mix_inverse, 1.0, (column_a * rows).T, moves)
        if moves is None or not self._well_conditioned():
            self._absorb(self._mix, self._common)
            _subtract_rows(self._classes_rows, labels, column_c * rows)
            self._refresh_products()
        else:
            _subtract_rows(self._classes_rows, labels, column_c * moves)

    def _descend_one(self, row: Array, label: int, products: Array, label_weights: Array, c: float, b: float, a: float) -> None:
        """_descend for one row, with a third of its calls: the update as the paper has it."""
        total, squared_length = float(row @ self._sum), float(row @ row)
        within = 0.5 * (a * a * float(row @ products) + self.classes * b * b + 2 * b * c + c * c)
        within += a * (b * total + c * float(row @ label_weights))
        change = within * row - a * products - b * self._sum - c * label_weights
        mixed, of_common = self._mix @ row, float(row @ self._common)
        move_sum, move_common = a * total + self.classes * b + c, a * of_common + b
        size = squared_length * (float(change @ change) + a * a * float(mixed @ mixed) + move_sum * move_sum + move_common * move_common)
        if not math.isfinite(size):
            raise ValueError("SphericalHead.step: the step overflows; expected a smaller hidden or learning_rate")

        blas.dsyr2(1.0, row, change, a=self._triangle.T, overwrite_a=1)
        self._sum -= move_sum * row
        self._common -= move_common * row
        blas.dger(-a, row, mixed, a=self._mix.T, overwrite_a=1)
        left = 1.0 - a * squared_length
        if left:
            moves = (row @ self._mix_inverse) / left
            blas.dger(a, moves, row, a=self._mix_inverse.T, overwrite_a=1)
        if left and self._well_conditioned():
            self._classes_rows[label] -= c * moves
        else:
            self._absorb(self._mix, self._common)
            self._classes_rows[label] -= c * row
            self._refresh_products()

    def _moves(self, gram: Array, rows: Array, a: Array) -> Array | None:
        """H U^-1 with the U after the step, None where that is singular. With S = I - H H^T diag(a), Woodbury's identity gives
        M^-1 = I + H^T diag(a) S^-1 H and H M^-1 = S^-1 H."""
        before = rows @ self._mix_inverse
        system = gram * -a
        system.flat[:: len(rows) + 1] += 1.0
        _, _, moves, singular = lapack.dgesv(system, before, overwrite_a=1)
        return None if singular or not np.isfinite(moves).all() else moves

    def _well_conditioned(self) -> bool:
        squares = float(np.vdot(self._mix, self._mix) * np.vdot(self._mix_inverse, self._mix_inverse))
        return math.sqrt(squares) <= WORST_CONDITION * self.width if math.isfinite(squares) else False

    def _absorb(self, mix: Array, common: Array) -> None:
        for block in _blocks(self.classes):
            self._classes_rows[block] = self._classes_rows[block] @ mix + common
        self._mix, self._mix_inverse, self._common = np.eye(self.width), np.eye(self.width), np.zeros(self.width)

    def _refresh_products(self) -> None:
        self._triangle, self._sum = np.zeros((self.width, self.width)), np.zeros(self.width)
        for block in _blocks(self.classes):
            rows = self._classes_rows[block].astype(np.float64) @ self._mix + self._common
            self._triangle += rows.T @ rows
            self._sum += rows.sum(0)

    def _times_products(self, rows: Array) -> Array:
        """rows Q."""
        if len(rows) == 1:
            return blas.dsymv(1.0, self._triangle.T, rows[0])[None]
        products: Array = blas.dsymm(1.0, self._triangle.T, rows.T).T
        return products

    def _hidden(self, method: str, hidden: Any) -> Array:
        rows = _to_numpy(hidden)
        if rows.ndim < 1 or rows.shape[-1] != self.width:
            raise ValueError(f"SphericalHead.{method}: hidden has shape {tuple(rows.shape)}; expected (..., {self.width})")
        return rows.reshape(-1, self.width).astype(np.float64)

    def _batch(self, method: str, hidden: Any, targets: Any, reduction: str, ignore_index: int) -> tuple[Array, Any, Any]:
        check_choice(f"SphericalHead.{method}", "reduction", reduction, ("mean", "sum"))
        ignore_index = int64(f"SphericalHead.{method}", "ignore_index", ignore_index)
        rows = self._hidden(method, hidden)
        labels = _to_numpy(targets)
        if labels.dtype != np.int64:
            raise TypeError(f"SphericalHead.{method}: targets is of {labels.dtype}; expected int64")
        if tuple(labels.shape) != tuple(hidden.shape[:-1]):
            raise ValueError(f"SphericalHead.{method}: targets has shape {labels.shape}; expected {tuple(hidden.shape[:-1])}")
        labels = labels.reshape(-1)
        counts = labels != ignore_index
        if not counts.all():
            rows, labels = rows[counts], labels[counts]
        wrong = (labels < 0) | (labels >= self.classes)
        if wrong.any():
            raise IndexError(
                f"SphericalHead.{method}: targets holds {labels[wrong][0]}; expected 0 to {self.classes - 1}, or {ignore_index} to ignore a row"
            )
        return rows, labels, counts


def _formula(loss: str, parameters: dict[str, float]) -> Formula:
    check_choice("SphericalHead", "loss", loss, tuple(FORMULAS))
    for name, value in parameters.items():
        if name == "beta":
            check_number("SphericalHead", name, value, "a finite number", lambda x: abs(x) < math.inf)
        else:
            check_number("SphericalHead", name, value, "a positive number", lambda x: 0 < x < math.inf)
    return FORMULAS[loss](**parameters)


def _blocks(rows: int) -> list[slice]:
    return [slice(begin, begin + ROWS_A_BLOCK) for begin in range(0, rows, ROWS_A_BLOCK)]


def _add_product(matrix: Array, factor: float, left: Array, right: Array) -> None:
    """matrix += factor left right, in place: BLAS takes the transposes of arrays in C order as they are."""
    blas.dgemm(factor, right.T, np.ascontiguousarray(left).T, 1.0, matrix.T, overwrite_c=1)


def _subtract_rows(matrix: Any, labels: Any, rows: Array) -> None:
    """matrix[labels] -= rows, where a label may come several times."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    if len(first) == len(labels):
        matrix[labels] -= rows
    else:
        matrix[ordered[first]] -= np.add.reduceat(rows[order], first, axis=0)


def _to_numpy(values: Any) -> Any:
    if isinstance(values, np.ndarray):
        return values
    if not is_torch(values):
        raise TypeError(f"SphericalHead: expected NumPy arrays or torch tensors; got a {type(values).__name__}")
    import torch

    values = values.detach().cpu()
    if values.is_floating_point() and values.dtype not in (torch.float32, torch.float64):
        values = values.float()
    return values.numpy()


def _like(values: Any, model: Any) -> Any:
    """NumPy values as an array or a tensor on the model's device, in its dtype."""
    if isinstance(model, np.ndarray):
        return values.astype(model.dtype)
    import torch

    return torch.from_numpy(values).to(device=model.device, dtype=model.dtype)


def _spread(gradient: Array, counts: Any, hidden: Any) -> Any:
    if counts.all():
        return _like(gradient.reshape(hidden.shape), hidden)
    whole = np.zeros((len(counts), gradient.shape[1]))
    whole[counts] = gradient
    return _like(whole.reshape(hidden.shape), hidden)
