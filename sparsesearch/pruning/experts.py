"""Orders in which experts of a mixture-of-experts layer are removed; one forward pass gathers their inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist

from sparsesearch.pruning.checked import wrap_order
from sparsesearch.registry import Registry


@dataclass(frozen=True)
class Experts:
    """Experts among which a router chooses; E experts.

    Attributes:
        router: rows of the router's weight, (E, hidden).
        tokens: number of calibration tokens routed to each expert, (E,).
        output: gate · ‖f(x)‖ summed over these tokens, (E,).
        turning: the same times 1 - cos(x, x + routed(x)), (E,).
    """

    router: torch.Tensor
    tokens: torch.Tensor
    output: torch.Tensor
    turning: torch.Tensor


def by_score(score_E: torch.Tensor) -> torch.Tensor:
    """Return indices (E,) in order of removal, lowest score first, ties by index."""
    return score_E.argsort(stable=True)


def reap(experts: Experts) -> torch.Tensor:
    """REAP (Lasby et al., 2025): mean gate · ‖f(x)‖ over the tokens that an expert serves; 0 where it serves none."""
    return by_score(experts.output / experts.tokens.clamp_min(1))


def easy_ep(experts: Experts) -> torch.Tensor:
    """EASY-EP (Dong et al., 2025): gate · ‖f(x)‖ weighted by how much the layer turns the token, summed over tokens."""
    return by_score(experts.turning)


def frequency(experts: Experts) -> torch.Tensor:
    """Frequency: remove the experts that serve the fewest tokens."""
    return by_score(experts.tokens)


def stun(experts: Experts) -> torch.Tensor:
    """STUN (Lee et al., 2024): experts with similar router rows are merged, the one nearest the cluster's mean stays.

    Agglomerative clustering with complete linkage on the L2 distance of router rows, so that a cluster's diameter is
    the height of its last merge. Each merge removes one representative; orders are nested by construction.
    """
    rows = experts.router.double().cpu()
    count = len(rows)
    members = {i: [i] for i in range(count)}
    representative = {i: i for i in range(count)}
    order = []
    for step, (a, b, *_) in enumerate(linkage(pdist(rows.numpy()), method="complete") if count > 1 else []):
        first, second = int(a), int(b)
        merged = members.pop(first) + members.pop(second)
        centre = rows[merged].mean(dim=0)
        kept, removed = sorted(
            (representative.pop(first), representative.pop(second)), key=lambda e: (float((rows[e] - centre).norm()), e)
        )
        order.append(removed)
        members[count + step], representative[count + step] = merged, kept
    return torch.tensor([*order, *representative.values()], dtype=torch.int64)


def prefix(experts: Experts) -> torch.Tensor:
    """Prefix: remove the last experts first, for layers whose experts are sorted."""
    return torch.arange(len(experts.tokens)).flip(0)


# experts -> all their indices (E,) in order of removal
ExpertOrder = Callable[[Experts], torch.Tensor]

EXPERTS: Registry[ExpertOrder] = Registry(
    "order of experts",
    {"reap": reap, "easy_ep": easy_ep, "stun": stun, "frequency": frequency, "prefix": prefix},
    listed="pruners",
)


def expert_order(name: str) -> Callable[[ExpertOrder], ExpertOrder]:
    """Register a function of your own as an order of experts: f(experts) gives all their indices (E,), int64, in order
    of removal.
    """
    return EXPERTS.register(name)


def expert_order_named(name: str) -> ExpertOrder:
    """Return the order of a name, whose indices are checked; raises InputError SS102 or, from it, SS127."""
    order = EXPERTS.find(name, key="pruners.experts")
    return wrap_order(f"pruners.experts {name!r}", order, lambda experts: len(experts.tokens))
