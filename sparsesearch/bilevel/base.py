"""The interface between the alternation and the methods: learned parameters, their factors, the final decision."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch

from sparsesearch.bilevel.expected import ExpectedCost, LevelProbabilities, interpolate_levels
from sparsesearch.bilevel.levels import prunable_weights
from sparsesearch.bilevel.relaxed import Factors, RelaxedNetwork
from sparsesearch.models.network import Network
from sparsesearch.registry import Registry
from sparsesearch.space import Space, Unit
from sparsesearch.supernet.store import UnitFiles

State = dict[str, torch.Tensor]
FLOAT_BYTES = 4


class CostTarget:
    """The cost bounds of a space, which a learner approaches from the bounds of the target before.

    Attributes:
        name: as the user wrote it.
        costs: names of the bounded costs.
        start, end: shares of the dense costs, one for each bound.
    """

    def __init__(self, name: str, space: Space, previous: CostTarget | None = None) -> None:
        self.name, self.space = name, space
        self.costs = [bound.cost for bound in space.bounds]
        self._expected_costs = [ExpectedCost(space, cost) for cost in self.costs]
        self.end = [b.maximum / c.dense for b, c in zip(space.bounds, self._expected_costs, strict=True)]
        previous_shares = {} if previous is None else dict(zip(previous.costs, previous.end, strict=True))
        self.start = [previous_shares.get(cost, 1.0) for cost in self.costs]

    def expected_shares(self, probabilities: LevelProbabilities) -> torch.Tensor:
        """Return the expected costs as shares of the dense costs, (bounds,)."""
        return torch.stack([cost(probabilities) for cost in self._expected_costs])

    def shares_at(self, ramp: float) -> torch.Tensor:
        """Return the shares of the dense costs to reach after a share `ramp`, in [0, 1], of the way, (bounds,)."""
        pairs = zip(self.start, self.end, strict=True)
        return torch.tensor([first + (last - first) * min(ramp, 1.0) for first, last in pairs], dtype=torch.float64)


@dataclass(frozen=True)
class StepState:
    """The state of learning at one step.

    Attributes:
        progress: share of the steps that are done, in [0, 1].
        ramp: share of the way to the target, in [0, 1].
        ramp_step: share of that way per step.
        generator: for all random draws of this step.
    """

    target: CostTarget
    progress: float
    ramp: float
    ramp_step: float
    generator: torch.Generator

    @property
    def target_shares(self) -> torch.Tensor:
        """Shares of the dense costs to reach by this step, (bounds,)."""
        return self.target.shares_at(self.ramp)

    def interpolate(self, first: float, last: float) -> float:
        """Return a number that changes linearly from `first` at the first step to `last` at the last step."""
        return first + (last - first) * self.progress


@dataclass(frozen=True)
class Decision:
    """The final choice at a cost target.

    Attributes:
        kept: number of elements to keep of each unit, by name; any real number.
        scores: scores of elements, in the shapes of factors; the highest are kept. Units without scores keep the
            elements that the store keeps.
        weights: changed parameters, by name.
    """

    kept: dict[str, float]
    scores: State = field(default_factory=dict)
    weights: State = field(default_factory=dict)


class Footprint(NamedTuple):
    """Memory that a method takes beside the network; an estimate.

    Attributes:
        learned: numbers that are learned; gradient and moments of each come on top.
        masks: bytes of masks and of what they are made of.
    """

    learned: float
    masks: float


class Learner(ABC):
    """A method: the parameters of a choice, and the factors that they put on the network while they are learned.

    Attributes:
        blockwise_loss: whether the loss is that of each block on its own inputs.
        returns_weights: whether it returns weights or masks, not only a genome.
        takes_pattern: whether it chooses among the patterns of N:M groups; its constructor then takes the recipe's
            pattern after the seed, and no other method may be given one.
        learns_each_weight: whether it learns a number for each prunable weight.
        mask_numbers_per_weight: numbers per prunable weight that lead to its mask and that the backward pass keeps; for
            the methods here as measured on llama-7m (results/benchmarks/bilevel).
        parameters: tensors that are learned by descent, by name.
        multipliers: tensors that are learned by gradient ascent, by name.
        buffers: other tensors that belong to a checkpoint, by name.
    """

    blockwise_loss: bool = False
    returns_weights: bool = True
    takes_pattern: ClassVar[bool] = False
    learns_each_weight: ClassVar[bool] = False
    mask_numbers_per_weight: ClassVar[int] = 0

    @classmethod
    def footprint(cls, space: Space, network: Network, options: Any, pattern: str | None) -> Footprint:
        """Return the memory that it will take.

        Args:
            options: of the searcher.
            pattern: N:M of the recipe.
        """
        weights = sum(prunable_weights(space, network).values())
        numbers = float(weights) if cls.learns_each_weight else 0.0
        return Footprint(numbers, float(cls.mask_numbers_per_weight * FLOAT_BYTES * weights))

    def __init__(self, relaxed: RelaxedNetwork, files: UnitFiles, options: Any, seed: int) -> None:
        """
        Args:
            files: levels of the store, for methods that choose among these.
            options: options of the searcher.
        """
        self.relaxed, self.files, self.options, self.seed = relaxed, files, options, seed
        self.units: dict[str, Unit] = relaxed.units
        self.device = next(iter(relaxed.weights.model_parameters.values())).device
        self.parameters: State = {}
        self.multipliers: State = {}
        self.buffers: State = {}

    def begin(self, target: CostTarget) -> None:
        """Prepare for a target; called once for each, before its first step."""

    @abstractmethod
    def factors(self, step: StepState) -> Factors:
        """Return the factors of this step, in the shapes of `Factors`, differentiable in the parameters."""

    def probabilities(self) -> LevelProbabilities:
        """Return the probabilities of every unit's levels; for methods whose cost is part of the loss."""
        raise NotImplementedError

    def penalty(self, step: StepState) -> torch.Tensor | None:
        """Return the term that is added to the loss of a step on the choice, a scalar; None: no term."""
        return None

    def gradients(self, loss: torch.Tensor, tensors: State) -> State:
        """Return the gradients of parameters and multipliers, by name, in their shapes.

        Args:
            loss: loss with the penalty, a scalar.
            tensors: tensors that the network ran with, by name.
        """
        return gradients_of(loss, self.parameters | self.multipliers)

    def optimizer(self, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
        """Return the optimizer of the parameters."""
        return torch.optim.Adam(parameters, lr=self.options.learning_rate)

    def project(self, step: StepState) -> None:
        """Project the parameters onto their allowed values; called after a step on the choice."""

    def after_weight_step(self, step: StepState, before: Mapping[str, torch.Tensor]) -> None:
        """Update buffers or weights after a step on the weights.

        Args:
            before: values of `remembered_parameters` before the step, by name, in their shapes.
        """

    @property
    def remembered_parameters(self) -> list[str]:
        """Names of network parameters whose values before a step `after_weight_step` reads."""
        return []

    @abstractmethod
    def decide(self, step: StepState) -> Decision:
        """Return the choice at the end of a target."""

    def note(self) -> str:
        """Return a warning about how learning went, for the user; empty if there is none."""
        return ""

    def element_count(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of values, in the shape of a unit's factors, over its elements, a scalar.

        For a cut it is the mean over orders, since these keep equally many elements.
        """
        return values.sum() / (len(values) if self.units[name].is_cut else 1)

    def probabilities_around(self, kept: Mapping[str, torch.Tensor]) -> LevelProbabilities:
        """Return probabilities of the levels around numbers of kept elements (of each order), scalars by unit."""
        return {name: interpolate_levels(unit, kept[name]) for name, unit in self.units.items()}


LEARNERS: Registry[type[Learner]] = Registry("learner", base=Learner)


def learner(method: str) -> Callable[[type[Learner]], type[Learner]]:
    """Register a subclass of `Learner` as a method, by the `method` of the `LearnedSearcher` whose options it reads."""
    return LEARNERS.register(method)


def gradients_of(loss: torch.Tensor, parameters: Mapping[str, torch.Tensor]) -> State:
    """Return the gradients of a scalar loss by name, in the shapes of the parameters; zero where it depends on none."""
    if not parameters or not loss.requires_grad:
        return {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(tensor) if gradient is None else gradient
        for (name, tensor), gradient in zip(parameters.items(), gradients, strict=True)
    }


def new_parameter(tensor: torch.Tensor) -> torch.Tensor:
    """Return a float32 parameter that starts at a copy of a tensor, in its shape, any."""
    return tensor.detach().clone().float().requires_grad_(True)
