# Contract: a whole number far beyond what a machine word holds is refused by an error that names the function and the argument, or is taken
# where it can only mean "no limit"; never by a message of the layer below.
import numpy as np
import pytest

import slipstick
from slipstick import logs, losses, lowbit, sketch

HUGE = 2**70
A, B = np.eye(6, 3), np.ones(6)
HIDDEN, WEIGHT, TARGETS = np.ones((2, 4), np.float32), np.eye(3, 4, dtype=np.float32), np.array([0, 2])
CODES = np.zeros(4, np.uint8)


@pytest.mark.parametrize(
    ("where", "name", "call"),
    [
        ("set_num_threads", "threads", lambda: slipstick.set_num_threads(HUGE)),
        ("compress", "threads", lambda: logs.compress(b"", threads=HUGE)),
        ("linear_cross_entropy", "ignore_index", lambda: losses.linear_cross_entropy(HIDDEN, WEIGHT, TARGETS, ignore_index=HUGE)),
        (
            "linear_cross_entropy_and_grad",
            "ignore_index",
            lambda: losses.linear_cross_entropy_and_grad(HIDDEN, WEIGHT, TARGETS, ignore_index=-HUGE),
        ),
        ("row_statistics", "ignore_index", lambda: losses.row_statistics(HIDDEN, WEIGHT, TARGETS, want=("lse",), ignore_index=HUGE)),
        ("row_statistics", "topk", lambda: losses.row_statistics(HIDDEN, WEIGHT, want=("topk",), topk=HUGE)),
        ("quantize", "seed", lambda: lowbit.quantize(HIDDEN, "e4m3fn", rounding="stochastic", seed=HUGE)),
        ("Format", "bias", lambda: lowbit.Format(3, 3, bias=-HUGE)),
        ("Format.posit", "es", lambda: lowbit.Format.posit(8, HUGE)),
        ("pack", "bits", lambda: lowbit.pack(CODES, HUGE)),
        ("unpack", "packed", lambda: lowbit.unpack(CODES, 4, HUGE)),
        ("lstsq", "seed", lambda: sketch.lstsq(A, B, seed=HUGE)),
        ("sketch_and_solve", "rows", lambda: sketch.sketch_and_solve(A, B, rows=HUGE)),
        ("SketchedLeastSquares", "columns", lambda: sketch.SketchedLeastSquares(HUGE)),
        ("SketchedLeastSquares", "rows", lambda: sketch.SketchedLeastSquares(3, rows=HUGE)),
        ("partial_fit", "first_row", lambda: sketch.SketchedLeastSquares(3).partial_fit(A, B, first_row=HUGE)),
        ("RandomFeatures", "count", lambda: sketch.RandomFeatures(4, HUGE)),
    ],
)
def test_what_no_word_holds_is_refused_by_name(where, name, call):
    with pytest.raises(ValueError) as caught:
        call()
    message = str(caught.value)
    assert message.startswith(f"{where}: {name} ")
    assert str(HUGE) in message and "expected" in message


def test_a_limit_beyond_all_memory_is_none():
    assert logs.decompress(logs.compress(b"abc\n"), max_output=HUGE) == b"abc\n"
    assert losses.linear_cross_entropy(HIDDEN, WEIGHT, TARGETS, workspace=HUGE) == losses.linear_cross_entropy(HIDDEN, WEIGHT, TARGETS)
    assert losses.linear_cross_entropy_and_grad(HIDDEN, WEIGHT, TARGETS, workspace=HUGE)[0] > 0
