"""Multiply matrices to the same bits on every machine."""

import math

import torch
from torch import Tensor

MANTISSA = 53
BLOCK = 2**18  # elements of a product that are held at once: they stay in a core's cache


def exact_product(left: Tensor, right: Tensor) -> Tensor:
    """Return `left @ right`, `(rows, cols)` float64, as `ExactProduct` adds it."""
    total = left.new_zeros(left.shape[0], right.shape[1], dtype=torch.float64)
    add_product(total, left, right)
    return total


def add_product(total: Tensor, left: Tensor, right: Tensor, scale: float = 1.0) -> None:
    """Add `scale * left @ right` to `total`, in blocks of rows (see `ExactProduct`)."""
    product, start = ExactProduct(left, right, scale), 0
    for rows in torch.split(total, block_rows(total)) if total.numel() else ():
        product.add_to(rows, start)
        start += len(rows)


def block_rows(matrix: Tensor) -> int:
    """Return how many rows of a matrix make a block."""
    return max(1, BLOCK // max(1, matrix.shape[1]))


class ExactProduct:
    r"""A product of matrices, the same bits whatever library computes it.

    A product of floats depends on the order in which a library adds, and so on the machine; the
    digest of materialised weights must not. Rows of `left` and columns of `right` are therefore
    rounded to $b$ bits below the power of two above their largest element, with
    $2b + \log_2 n \le 53$: products of two such elements are multiples of one power of two, and all
    sums of them are exact in float64, in any order (the splitting of Ozaki, Ogita, Oishi and Rump,
    2012, with one slice). The error is below $n\,2^{2-b}$ of the largest elements of row and
    column: what a product in float32 has. A product of rank one is exact.

    Args:
        left: `(rows, n)`, float32 or shorter.
        right: `(n, cols)`.
        scale: a factor of the product.
    """

    def __init__(self, left: Tensor, right: Tensor, scale: float = 1.0) -> None:
        rank = right.shape[0]
        n_bits = (MANTISSA - math.ceil(math.log2(max(1, rank)))) // 2
        self._empty = not rank or not left.numel() or not right.numel()
        self._left = left if self._empty else _rounded(left, 1, n_bits)
        self._right = right if self._empty else _rounded(right, 0, n_bits)
        self._scale = scale

    def add_to(self, rows: Tensor, start: int) -> None:
        """Add rows of the product, from row `start` on, to `rows`: `(n_rows, cols)`.

        These are float64 or float32, and rounded once, after the sum.
        """
        if self._empty or not rows.numel():
            return
        product = self._left[start : start + len(rows)] @ self._right
        rows += product if self._scale == 1 else product.mul_(self._scale)


def _rounded(matrix: Tensor, dim: int, n_bits: int) -> Tensor:
    """Round to whole multiples of 2 to (exponent of the largest along `dim` - `n_bits`)."""
    largest = matrix.abs().amax(dim, keepdim=True).double()
    exponent = torch.frexp(largest).exponent.long() - n_bits
    # 1.5 * 2**(exponent + 52), from its bits: a number whose last place counts 2**exponent
    anchor = ((exponent + 52 + 1023) << 52 | 1 << 51).view(torch.float64)
    return matrix.double().add_(anchor).sub_(anchor)
