"""TraceNAS: agreement of a candidate's gradients with the dense network's."""

from __future__ import annotations

import zlib
from collections import defaultdict

import torch

from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.proxy_inputs import LiveCandidate

# Rank of the gradients' sketch.
RANK = 64
# Concatenated sketches of a sublayer's gradients, (values,), by sublayer.
Traces = dict[str, torch.Tensor]


def traces(live: LiveCandidate) -> Traces:
    """Return Gaussian sketches of all gradients by sublayer: the gradients of LoRA's B for a Gaussian A.

    Slices that cuts removed have a gradient of zero, so that sketches have one shape whatever the candidate's cuts.
    """
    sketches = defaultdict(list)
    for name, gradient in live.gradients().items():
        matrix = live.network.matrices[name]
        gradient_GOI = matrix.view(live.pad_value(name, gradient))
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        sketch_IR = torch.randn(matrix.columns, RANK, generator=generator).to(gradient_GOI.device)
        sketches[sublayer(name)].append((gradient_GOI @ sketch_IR).flatten())
    return {name: torch.cat(parts) for name, parts in sketches.items()}


def sublayer(matrix: str) -> str:
    """Return the path of the module that holds a matrix's module."""
    return matrix.rsplit(".", 2)[0]


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return Pearson's correlation of two vectors, (values,) each; 0 if one is constant."""
    pair = torch.stack([first, second]).double()
    pair = pair - pair.mean(dim=1, keepdim=True)
    norms = pair.norm(dim=1)
    return float(pair[0] @ pair[1] / norms.prod()) if norms.all() else 0.0


def retention(live: LiveCandidate) -> dict[str, float]:
    """Return the share of nonzero weights of each sublayer."""
    kept: dict[str, int] = defaultdict(int)
    total: dict[str, int] = defaultdict(int)
    for name, matrix in live.network.matrices.items():
        total[sublayer(name)] += matrix.size
        if name in live.matrices:
            kept[sublayer(name)] += int(torch.count_nonzero(live.matrices[name]))
    return {name: kept[name] / size for name, size in total.items()}


@proxy("trace_nas", reads="network", supervised=True, prepare=traces)
def trace_nas(live: LiveCandidate) -> float:
    """Minus Σ over sublayers of the share kept times the correlation of gradients with the dense network's.

    TraceNAS (arXiv 2602.02891): gradients of LoRA factors of rank 64, standardised, Pearson's correlation.
    """
    candidate, kept = traces(live), retention(live)
    return -sum(kept[name] * correlation(candidate[name], live.dense[name]) for name in candidate)
