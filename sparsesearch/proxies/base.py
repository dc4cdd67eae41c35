"""What a proxy is, and how one is registered: a score of a genome without training, lower is better.

A proxy reads one of three things. `costs`: the genome's exact costs. `matrix`: one matrix before and after pruning,
with its calibration statistics; scores of all levels are tabulated once, so that a candidate costs milliseconds and
touches no model. `network`: the live network as the candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sparsesearch.data.samples import Samples
from sparsesearch.errors import problem
from sparsesearch.models.network import Network
from sparsesearch.plugins import load_plugins, plugin
from sparsesearch.registry import Registry

Reads = Literal["costs", "matrix", "network"]
# What must be measured on the dense network for a proxy, once for all candidates.
Need = Literal["gradients", "curvature", "expected"]


@dataclass(frozen=True)
class Proxy:
    """A registered proxy.

    Attributes:
        score: from a `Costed`, a `PrunedMatrix` (summed over all matrices) or a `Live` network to a number.
        needs: what is measured on the dense network first.
        supervised: whether it reads the loss, so that a classifier's calibration samples need labels.
        prepare: for `network`: measured once on the dense network, and given to `score` as `Live.dense`.
        refuses: returns the reason why it cannot score a network, or an empty text.
    """

    name: str
    reads: Reads
    score: Callable[[Any], float]
    needs: tuple[Need, ...] = ()
    supervised: bool = False
    prepare: Callable[[Any], Any] | None = None
    refuses: Callable[[Network], str] | None = None

    @property
    def summary(self) -> str:
        return next(iter((self.score.__doc__ or "").strip().splitlines()), "")

    def obstacle(self, network: Network, samples: Samples) -> str:
        """Return why it cannot score a network on calibration samples; an empty text if it can."""
        with plugin(f"proxy {self.name!r}"):
            reason = self.refuses(network) if self.refuses is not None else ""
        if reason:
            return reason
        if self.supervised and not network.distribution:
            what = "a model without a head" if network.task.embeds else "a head whose outputs are no distribution"
            return f"it needs a loss, and {what} has none"
        if self.supervised and network.task.classifies and samples.labels is None:
            return "it needs labels, and the calibration data have none"
        return ""


PROXIES: Registry[Proxy] = Registry("proxy", listed="proxies")


def proxy(
    name: str,
    reads: Reads,
    needs: tuple[Need, ...] = (),
    supervised: bool = False,
    prepare: Callable[[Any], Any] | None = None,
    refuses: Callable[[Network], str] | None = None,
) -> Callable[[Callable[[Any], float]], Callable[[Any], float]]:
    """Register a function as a proxy; arguments as the attributes of `Proxy`."""

    return PROXIES.register(name, lambda score: Proxy(name, reads, score, needs, supervised, prepare, refuses))


def all_proxies() -> Registry[Proxy]:
    """Return all proxies by name: those of sparsesearch, of this process, and of installed packages."""
    load_plugins()
    return PROXIES


def proxies_named(names: Iterable[str]) -> list[Proxy]:
    """Return proxies by name; raises InputError SS102 for an unknown one, or one named twice."""
    names, registry = list(names), all_proxies()
    proxies = [registry.find(name) for name in names]
    for name in names:
        if names.count(name) > 1:
            raise problem("SS102", f"proxy {name!r} is named twice.", fix="Name each once.")
    return proxies
