"""The exponential function in steps that give the same bits on every processor, with sums that are
exact.

Numpy's own exponential differs from one processor to the next, by its last bit, and a sum by the
order of its terms. Compiled code must come to the same numbers (`_sparse.c`), so each step here is
one that IEEE 754 defines. The polynomial is that of Cephes (S. Moshier, `expf`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

EXPONENT_MIN: Final = np.float32(-24)  # What is below is less than half of 2**-32.
PER_LN2: Final = np.float32(1.44269504)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
ROUNDER: Final = np.float32(3 << 22)  # Adding it leaves no fraction,
GRID: Final = 1.5 * 2**20  # and in float64 this one none below 2**-32.
SERIES: Final = np.array(
    [
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    ],
    np.float32,
)


def exponentials(values: npt.NDArray[np.float32], top: np.float32) -> npt.NDArray[np.float64]:
    """exp(values - top) for values of at most `top`, to seven digits, as multiples of 2**-32: so
    each sum of up to 2**20 of them is exact, in whatever order. NaN stays NaN."""
    with np.errstate(over="ignore"):
        x = np.maximum(values - top, EXPONENT_MIN)
    turns = x * PER_LN2 + ROUNDER
    whole = turns - ROUNDER
    r = (x - whole * LN2_HIGH) - whole * LN2_LOW
    p = np.full_like(r, SERIES[0])
    for coefficient in SERIES[1:]:
        p *= r
        p += coefficient
    p = (p * (r * r) + r) + np.float32(1)
    # The power of two, written into the exponent.
    scale = (turns.view(np.uint32) - ROUNDER.view(np.uint32) + np.uint32(127)) << np.uint32(23)
    found: npt.NDArray[np.float64] = (p * scale.view(np.float32)).astype(np.float64)
    return (found + GRID) - GRID
