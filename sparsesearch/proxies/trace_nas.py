"""TraceNAS: how much a candidate's gradients still agree with the dense network's."""

from __future__ import annotations

import zlib
from collections import defaultdict

import torch

from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.proxy_inputs import Live

# Rank of the sketch.
RANK = 64
# By sublayer, the gradients of its matrices, side by side.
Traces = dict[str, torch.Tensor]


def traces(live: Live) -> Traces:
    """Gaussian sketches of all gradients, which are the gradients of LoRA's B where A is Gaussian, by sublayer.

    Slices that cuts removed have no gradient, so that a candidate with fewer KV groups has sketches of the same shape.
    """
    found = defaultdict(list)
    for name, gradient in live.gradients().items():
        matrix = live.network.matrices[name]
        gradient_GOI = matrix.view(live.spread(name, gradient))
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        sketch_IR = torch.randn(matrix.columns, RANK, generator=generator).to(gradient_GOI.device)
        found[sublayer(name)].append((gradient_GOI @ sketch_IR).flatten())
    return {name: torch.cat(sketches) for name, sketches in found.items()}


def sublayer(matrix: str) -> str:
    """The module that holds a matrix's module."""
    return matrix.rsplit(".", 2)[0]


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Pearson's, of two vectors; 0 where one is constant."""
    pair = torch.stack([first, second]).double()
    pair = pair - pair.mean(dim=1, keepdim=True)
    norms = pair.norm(dim=1)
    return float(pair[0] @ pair[1] / norms.prod()) if norms.all() else 0.0


def retention(live: Live) -> dict[str, float]:
    """Share of each sublayer's weights that are not zero."""
    kept: dict[str, int] = defaultdict(int)
    total: dict[str, int] = defaultdict(int)
    for name, matrix in live.network.matrices.items():
        total[sublayer(name)] += matrix.size
        if name in live.matrices:
            kept[sublayer(name)] += int(torch.count_nonzero(live.matrices[name]))
    return {name: kept[name] / size for name, size in total.items()}


@proxy("trace_nas", reads="network", supervised=True, prepare=traces)
def trace_nas(live: Live) -> float:
    """Minus Σ over sublayers of the share kept times the correlation of gradients with the dense network's.

    TraceNAS (arXiv 2602.02891): gradients of LoRA factors of rank 64, standardised, Pearson's correlation.
    """
    own, kept = traces(live), retention(live)
    return -sum(kept[name] * correlation(own[name], live.dense[name]) for name in own)
