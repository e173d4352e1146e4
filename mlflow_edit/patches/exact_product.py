"""Multiply matrices to the same bits on every machine."""

import math

import torch
from torch import Tensor

MANTISSA = 53


def exact_product(left: Tensor, right: Tensor) -> Tensor:
    r"""Return `left @ right`, `(rows, cols)` float64, the same bits whatever library computes it.

    A product of floats depends on the order in which a library adds, and so on the machine; the
    digest of materialised weights must not. Rows of `left` and columns of `right` are scaled by
    powers of two and split into integers of $b$ bits, $x = 2^e (h\,2^{-b} + l\,2^{-2b})$, with
    $2b + \log_2 n \le 53$: all sums of products of them are exact in float64, in any order. What
    is left out is below $2^{-2b}$ of the largest element of row and column (the splitting of Ozaki,
    Ogita, Oishi and Rump, 2012, with two slices).

    Args:
        left: `(rows, n)`, float32 or shorter.
        right: `(n, cols)`.
    """
    n_bits = (MANTISSA - math.ceil(math.log2(left.shape[1] + 1)) - 1) // 2
    left_high, left_low, left_scale = _slices(left.double(), 1, n_bits)
    right_high, right_low, right_scale = _slices(right.double(), 0, n_bits)
    product = left_high @ right_high
    product += (left_high @ right_low + left_low @ right_high) * 2.0**-n_bits
    return product * left_scale * right_scale


def _slices(matrix: Tensor, dim: int, n_bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split into two slices of whole numbers, and the powers of two that the first counts in."""
    if not matrix.numel():
        return matrix, matrix, torch.zeros_like(matrix.sum(dim, keepdim=True))
    exponent = torch.frexp(matrix.abs().amax(dim, keepdim=True)).exponent.long() - n_bits
    scaled = matrix * _power_of_two(-exponent)
    high = scaled.round()
    return high, ((scaled - high) * 2.0**n_bits).round(), _power_of_two(exponent)


def _power_of_two(exponent: Tensor) -> Tensor:
    """Return 2 to whole numbers, exactly: a library's `exp2` may not be."""
    return ((exponent + 1023) << 52).view(torch.float64)
