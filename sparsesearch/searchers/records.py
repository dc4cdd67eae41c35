"""What searchers and the engine exchange: proposals, requests to measure, and evaluations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from markupsafe import Markup

from sparsesearch.space import Genome

Status = Literal["ok", "invalid", "failed"]
# Why a genome is measured. `baseline`: dense, or pruned uniformly; `search`: a candidate of the searcher; `repeat`: one
# that is measured again on other sequences; `probe`: to fit or to check a model or a proxy; `final`: on all selection
# data, after the search; `learned`: with the weights that a search by gradient ended with.
Role = Literal["baseline", "search", "repeat", "probe", "final", "learned"]
ROLES: tuple[Role, ...] = get_args(Role)


def role_of_origin(origin: str) -> Role:
    """Return the role that an origin stands for in archives, whose lines name a role only if it is another one."""
    if role_of_start(origin) == "baseline":
        return "baseline"
    if origin.startswith("final") or origin == "judged":
        return "final"
    labels: dict[str, Role] = {"rotation": "repeat", "sample": "probe", "probe": "probe", "learned": "learned"}
    return labels.get(origin, "search")


def role_of_start(name: str) -> Role:
    """Return the role of a genome of generation 0: uniform ones are baselines, also those that allocations make."""
    return "baseline" if name.startswith(("dense", "uniform")) else "search"


@dataclass(frozen=True)
class Proposal:
    """A genome that a searcher wants to be measured.

    Attributes:
        tokens: selection tokens to spend; 0 for all there are.
        draw: which random sequences; proposals with equal `tokens` and `draw` are measured on the same ones, and
            smaller token counts of one draw are nested in larger ones.
        origin: label of where the genome comes from, for reports: `dense`, `uniform`, `random`, `mutation`, ...
        trained: tokens of training before it is measured, from the supernet's weights.
        parents: genomes that it was made from, or is a solution near. If several proposals name a genome, the parents
            of the first one are kept.
        role: why it is measured.
    """

    genome: Genome
    tokens: int
    draw: int
    origin: str
    trained: int = 0
    parents: tuple[Genome, ...] = ()
    role: Role = "search"


class Request(NamedTuple):
    """One measurement; two proposals with equal requests have one evaluation.

    Attributes:
        sequences: how many selection sequences.
        trained: tokens of training before.
    """

    genome: Genome
    draw: int
    sequences: int
    trained: int


@dataclass(frozen=True)
class Evaluation:
    """The measurement of a genome.

    Attributes:
        sequences, draw: how many selection sequences, and which.
        status: `ok`, `invalid` (a non-finite objective) or `failed` (an exception, in `error`).
        quality: the first objective; not finite unless `ok`.
        losses: mean loss of each sequence, in the draw's order.
        known: how many of the sequences had been measured before, for other draws or fewer tokens.
        trained: training tokens before it was measured.
        parents: ids of the parents of its proposal.
        role: why it was measured.
    """

    genome: Genome
    sequences: int
    draw: int
    origin: str
    status: Status
    quality: float
    costs: dict[str, int]
    losses: tuple[float, ...] = ()
    error: str = ""
    known: int = 0
    trained: int = 0
    parents: tuple[str, ...] = ()
    role: Role = "search"

    @property
    def measured_sequences(self) -> int:
        """Number of sequences on which the network ran for this evaluation."""
        return self.sequences - self.known

    @property
    def request(self) -> Request:
        return Request(self.genome, self.draw, self.sequences, self.trained)

    def __repr__(self) -> str:
        costs = ", ".join(f"{name}={value:,}" for name, value in self.costs.items())
        return f"Evaluation({self.genome.id} ({self.origin}), quality={self.quality:.4g}, {costs})"

    def _repr_html_(self) -> str:
        """Return the table that notebooks show."""
        facts = [("quality", f"{self.quality:.4g}"), *((name, f"{value:,}") for name, value in self.costs.items())]
        rows = Markup().join(Markup("<tr><td>{}</td><td>{}</td></tr>").format(*fact) for fact in facts)
        return Markup("<table><tr><th>{}</th><th>{}</th></tr>{}</table>").format(self.genome.id, self.origin, rows)

    def values(self, quality_name: str) -> dict[str, float]:
        """Return quality and costs by name."""
        return {quality_name: self.quality, **self.costs}
