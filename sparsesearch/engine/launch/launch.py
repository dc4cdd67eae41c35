"""A launch: a checked recipe with its network, space and samples, and the keys of the caches made from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from sparsesearch.config import PrunerConfig, RunConfig, SearchConfig, SupernetConfig
from sparsesearch.data.samples import Samples, training_samples
from sparsesearch.engine.launch.checks import check_tokens, searcher_traits
from sparsesearch.engine.launch.identity import Outputs, identity
from sparsesearch.engine.launch.learning_plan import check_learning, learning_tokens
from sparsesearch.engine.launch.numerics import worker_device
from sparsesearch.engine.launch.seed_checks import allocations_of, required_evidence
from sparsesearch.evaluation.evaluator import UserQuality
from sparsesearch.evaluation.teacher import TOP_K
from sparsesearch.latency import LatencyTable
from sparsesearch.models import Network
from sparsesearch.models.source import Source
from sparsesearch.pruning import needs_gradients
from sparsesearch.searchers import Searcher
from sparsesearch.searchers.base import Seeds, Traits
from sparsesearch.searchers.registry import create
from sparsesearch.space import Space
from sparsesearch.supernet.store import key_hash, store_key


@dataclass(frozen=True)
class Launch:
    """A recipe with everything it refers to.

    Attributes:
        space: search space with nominal nonzeros; the level store has the measured ones.
        samples: samples by role: `calibration`, `selection`, and `training` and `test` if there are any.
        storage_bytes: bytes of a weight in the model's files.
        dtype: data type of the arithmetic, as `torch.float32`.
        traits: traits of the recipe's searcher on this space; None for a run that is only read.
        quality: the user's own function, if the first objective is `quality`.
        teacher: the network that candidates are compared with; None for the network itself.
        supernet_key: of the elastic supernet that candidates are parts of; empty if weights come from the level store.
        latency: table of latency and memory, if they are costs.
        outputs: outputs of a module for the first calibration samples; None for checkpoints.
    """

    config: RunConfig
    source: Source
    network: Network
    space: Space
    samples: Mapping[str, Samples]
    storage_bytes: int
    dtype: str
    traits: Traits | None = None
    quality: UserQuality | None = None
    teacher: Source | None = None
    supernet_key: str = ""
    latency: LatencyTable | None = None
    outputs: Outputs | None = None

    @property
    def stitched(self) -> Launch:
        """The same launch without an elastic supernet; its level store ranks the elements that a supernet sorts."""
        config = self.config.model_copy(update={"supernet": SupernetConfig()})
        return replace(self, config=config, supernet_key="")

    @property
    def pruners(self) -> PrunerConfig:
        """Options of pruning; in an elastic supernet the first elements stay."""
        pruners = self.config.pruners
        return pruners.model_copy(update={"width": "prefix", "experts": "prefix"}) if self.supernet_key else pruners

    @property
    def training_samples(self) -> Samples:
        """Data that candidates and supernets are trained on: the training role, else calibration data."""
        return training_samples(self.samples)

    @property
    def needs_gradients(self) -> bool:
        """Whether a pruner or an allocation reads gradients of the loss."""
        return needs_gradients(self.pruners) or "gradient_square" in required_evidence(self.config, self.space)

    @property
    def reads_statistics(self) -> bool:
        """Whether calibration statistics are read after levels are built: by allocations, or by a screen's proxy."""
        return bool(allocations_of(self.config)) or self.config.search.screen is not None

    def searcher(self, space: Space, seeds: Seeds) -> Searcher:
        """Make the recipe's searcher.

        Args:
            space: the space with measured nonzeros.
            seeds: further genomes for generation 0, by name.
        """
        search = self.config.search
        return create(search.searcher, space, self.config.objectives, search.seed, search.options, seeds)

    def with_search(self, search: SearchConfig) -> Launch:
        """Return the launch with another searcher; raises InputError if it cannot take the space."""
        config = self.config.model_copy(update={"search": search})
        traits = searcher_traits(config, self.space)
        check_tokens(config, traits, self.samples["selection"])
        check_learning(config, traits, self.network, self.space, self.samples)
        return replace(self, config=config, traits=traits)

    @cached_property
    def weights(self) -> str:
        """Hash of the network's weights, and of a module's outputs."""
        return identity(self.source, self.outputs)

    @property
    def teacher_weights(self) -> str:
        """Hash of the network that candidates are compared with."""
        if self.teacher is None:
            return self.weights
        # A user's teacher runs the same code as the module.
        return self.teacher.weights_hash if self.outputs is None else f"{self.weights} {self.teacher.weights_hash}"

    @property
    def pruned_weights(self) -> str:
        """Hash of the weights that levels are made from."""
        return f"{self.weights} {self.supernet_key}" if self.supernet_key else self.weights

    @property
    def numerics(self) -> dict[str, Any]:
        """Options that decide the order and precision of sums, and so the last bits of every number."""
        config = self.config
        return {
            "dtype": self.dtype,
            "device": worker_device(config.executor),
            "batch": config.batch,
            "threads": config.executor.threads,
        }

    @cached_property
    def store_key(self) -> dict[str, Any]:
        """Everything that the level store depends on."""
        calibration = self.samples["calibration"].digest
        return store_key(self.space, self.pruners, self.pruned_weights, calibration, self.numerics)

    @cached_property
    def statistics_key(self) -> str | None:
        """Key of calibration statistics that do not depend on pruners or space; None if they belong to the store."""
        if self.config.pruners.propagate != "dense":
            return None
        key = {"weights": self.pruned_weights, "numerics": self.numerics}
        return key_hash(key | {"data": self.samples["calibration"].digest})

    @cached_property
    def teacher_key(self) -> str:
        """Key of the teacher cache."""
        key = {"weights": self.teacher_weights, "numerics": self.numerics}
        selection, quality = self.samples["selection"].digest, self.config.objectives[0]
        return key_hash(key | {"data": selection, "quality": quality, "top": TOP_K})

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the archive. Budgets, workers and executor may change between sessions."""
        config = self.config
        return {
            "weights": self.weights,
            "space": hashlib.sha256(self.space.canonical_text().encode()).hexdigest(),
            **{f"data.{role}": samples.digest for role, samples in self.samples.items()},
            "data.batch_norm": config.data.batch_norm,
            "pruners": config.pruners.model_dump(),
            "objectives": config.objectives,
            "searcher": config.search.searcher,
            "search.options": config.search.options,
            "search.seed": config.search.seed,
            "search.seeds": config.search.seeds,
            "teacher": None if self.teacher is None else self.teacher.weights_hash,
            "search.asynchronous": config.search.asynchronous,
            "search.screen": None if config.search.screen is None else config.search.screen.model_dump(),
            **{f"numerics.{name}": value for name, value in self.numerics.items()},
            **({"supernet": self.supernet_key} if self.supernet_key else {}),
        } | self._training

    @property
    def _training(self) -> dict[str, Any]:
        """Options that results of training depend on; empty if nothing is trained."""
        assert self.traits is not None
        search = self.config.search
        learned = learning_tokens(self.config, self.traits, self.samples)
        learning = {} if learned is None else {"learning.tokens": learned}
        if not (learning or search.rungs or self.traits.training):
            return {}
        rungs = [rung.model_dump() for rung in search.rungs]
        return {"training": self.config.training.model_dump(), "search.rungs": rungs} | learning
