"""The sweep of structured optimal brain surgeon: elements leave one at a time, cheapest first, in blocked updates.

Removing the inputs c of an element takes the inverse second moments A to A - A_c Yᵀ with Y = A_c A_cc⁻¹, and the
weights W to W - W_c Yᵀ. The cost of an element g, tr(W_g A_gg⁻¹ W_gᵀ) = tr(A_gg⁻¹ G_gg), needs only A and G = Wᵀ W,
which goes to G - Q Yᵀ - Y Qᵀ with Q = G_c - Y G_cc / 2. As in blocked factorisations (LAPACK's potrf), the factors of
several removals are gathered and applied to the whole matrices by one product; columns that are read before are brought
up to date alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

# Inputs that are removed between two updates of the whole matrices.
INPUTS_PER_BLOCK = 64
# Removed elements stay in the matrices until they are this share of what the matrices hold.
REMOVED_SHARE = 1 / 8


class Sweep:
    """Inverse second moments A and weight products G of one reader, exact for the elements that remain.

    The matrices are those at the start of a block; columns of the factors A_c, Y and Q of all removals since are kept
    beside them, and the diagonal blocks of A and G are always up to date.
    """

    def __init__(self, weight_OI: torch.Tensor, inverse_II: torch.Tensor, index_ES: torch.Tensor) -> None:
        """
        Args:
            weight_OI: dense weights, (O, I).
            inverse_II: inverse of the damped second moments, (I, I).
            index_ES: the inputs of each element, (E, span).
        """
        inputs = index_ES.to(weight_OI.device).flatten()  # in an order in which those of an element are adjacent
        self.span = index_ES.shape[1]
        ordered = weight_OI[:, inputs]
        self._set(inverse_II[inputs[:, None], inputs], ordered.T @ ordered)

    def _set(self, inverse: torch.Tensor, products: torch.Tensor) -> None:
        self._inverse, self._products = inverse, products
        self._factors = inverse.new_empty(3, len(inverse), max(INPUTS_PER_BLOCK, self.span))
        self._inverse_blocks, self._product_blocks = self._diagonal_blocks(inverse), self._diagonal_blocks(products)
        self._columns = 0

    def _diagonal_blocks(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return the block of each element, (E, span, span)."""
        elements = len(matrix) // self.span
        blocks = matrix.view(elements, self.span, elements, self.span).diagonal(dim1=0, dim2=2)
        return blocks.permute(2, 0, 1).contiguous()

    @property
    def device(self) -> torch.device:
        return self._inverse.device

    @property
    def elements(self) -> int:
        """Number of elements that the matrices hold."""
        return len(self._inverse_blocks)

    def costs(self, removed: torch.Tensor) -> torch.Tensor:
        """Return the squared output error that removing each element alone adds, (E,).

        Args:
            removed: mask of the removed elements, (E,), whose costs have no meaning.
        """
        if self.span == 1:
            return (self._product_blocks / self._inverse_blocks).flatten()
        identity = torch.eye(self.span, dtype=self._inverse.dtype, device=self._inverse.device)
        blocks = torch.where(removed[:, None, None], identity, self._inverse_blocks)
        solved = torch.linalg.solve_ex(blocks, self._product_blocks).result
        costs: torch.Tensor = solved.diagonal(dim1=1, dim2=2).sum(dim=1)
        return costs

    def remove(self, element: torch.Tensor) -> None:
        """Remove an element, of index (1,)."""
        columns = element * self.span + torch.arange(self.span, device=element.device)
        a, y, q = self._factors[:, :, : self._columns]
        a_c = self._inverse[:, columns] - a @ y[columns].T
        g_c = self._products[:, columns] - q @ y[columns].T - y @ q[columns].T
        y_c = torch.linalg.solve_ex(a_c[columns].T, a_c.T).result.T.contiguous()
        q_c = g_c - y_c @ g_c[columns] / 2
        for factor, new in zip(self._factors, (a_c, y_c, q_c), strict=True):
            factor[:, self._columns : self._columns + self.span] = new
        self._columns += self.span
        a_E, y_E, q_E = (new.view(-1, self.span, self.span) for new in (a_c, y_c, q_c))
        self._inverse_blocks -= a_E @ y_E.mT
        change = q_E @ y_E.mT
        self._product_blocks -= change + change.mT

    def update(self) -> None:
        """Apply the removals of a block to the whole matrices."""
        a, y, q = self._factors[:, :, : self._columns]
        self._inverse -= a @ y.T
        change = q @ y.T
        self._set(self._inverse, self._products - change - change.T)

    def keep(self, elements: torch.Tensor) -> None:
        """Drop all but some elements, of ascending indices (kept,); between `update` and the next removal."""
        inputs = (elements[:, None] * self.span + torch.arange(self.span, device=elements.device)).flatten()
        self._set(self._inverse[inputs[:, None], inputs], self._products[inputs[:, None], inputs])


def removal_order(sweeps: Sequence[Sweep], remove: int) -> torch.Tensor:
    """Return the first `remove` elements in order of removal, cheapest over all readers first, (remove,).

    The host waits for the device only when removed elements are dropped from the matrices, and at the end.
    """
    device = sweeps[0].device
    per_block = max(INPUTS_PER_BLOCK // max(sweep.span for sweep in sweeps), 1)
    held = torch.arange(sweeps[0].elements, device=device)  # elements that the matrices hold
    removed = torch.zeros_like(held, dtype=torch.bool)
    order: list[torch.Tensor] = []
    dropped = 0
    while len(order) < remove:
        for _ in range(min(per_block, remove - len(order))):
            costs = torch.stack([sweep.costs(removed) for sweep in sweeps]).sum(dim=0)
            cheapest = costs.masked_fill(removed, torch.inf).argmin(keepdim=True)
            for sweep in sweeps:
                sweep.remove(cheapest)
            removed[cheapest] = True
            order.append(held[cheapest])
        if len(order) == remove:
            break
        for sweep in sweeps:
            sweep.update()
        if len(order) - dropped >= REMOVED_SHARE * len(held):
            dropped, kept = len(order), (~removed).nonzero().flatten()
            held, removed = held[kept], removed[kept]
            for sweep in sweeps:
                sweep.keep(kept)
    return torch.cat(order).cpu() if order else torch.empty(0, dtype=torch.int64)
