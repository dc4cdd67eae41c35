"""From a configuration to a checked launch: everything that can be wrong is found here, before any long work."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparsesearch.calibration import Samples, samples_of
from sparsesearch.calibration.gradients import check_loss
from sparsesearch.config import PYTHON_SOURCE, RunConfig, SearchConfig
from sparsesearch.engine.directory import RunDirectory
from sparsesearch.engine.refine import coarse_levels
from sparsesearch.engine.seeds import check_allocations
from sparsesearch.engine.worker import WorkerSetup, compute_dtype
from sparsesearch.errors import EnvironmentProblem, InputError, did_you_mean
from sparsesearch.evaluation.evaluator import USER, UserQuality
from sparsesearch.evaluation.teacher import TOP
from sparsesearch.models import Network
from sparsesearch.models.source import Given, Source, open_source, open_teacher
from sparsesearch.models.task import Task
from sparsesearch.models.units import build_space
from sparsesearch.proxies import all_proxies, proxies_named
from sparsesearch.pruning import expert_order, needs_gradients, structured, unstructured
from sparsesearch.searchers import Searcher
from sparsesearch.searchers.registry import SEARCHERS, create, options_of
from sparsesearch.space import COSTS, Space
from sparsesearch.supernet.store import estimated_bytes, key_hash, store_key

# In the order in which a sample that serves two is found.
ROLES = ("calibration", "training", "selection", "test")


@dataclass(frozen=True)
class Launch:
    """A configuration with all it refers to, checked.

    Attributes:
        space: with nominal nonzeros; the store brings the measured ones.
        teacher: what candidates are compared with; None: the network itself.
        samples: by role (`calibration`, `selection`, and `test` where there is one).
    """

    config: RunConfig
    source: Source
    network: Network
    space: Space
    samples: dict[str, Samples]
    storage_bytes: int
    dtype: str
    quality: UserQuality | None = None
    teacher: Source | None = None

    @property
    def needs_gradients(self) -> bool:
        """Whether a pruner or an allocation weighs gradients of the loss."""
        return needs_gradients(self.config.pruners) or "gradient_square" in check_allocations(self.config, self.space)

    @property
    def weights(self) -> str:
        return self.source.weights

    @property
    def numerics(self) -> dict[str, Any]:
        """What decides the order and precision of sums, and so the last bits of every number."""
        config = self.config
        return {
            "dtype": self.dtype,
            "device": config.executor.device,
            "batch": config.batch,
            "threads": config.executor.threads,
        }

    @cached_property
    def store_key(self) -> dict[str, Any]:
        calibration = self.samples["calibration"].digest
        return store_key(self.space, self.config.pruners, self.weights, calibration, self.numerics)

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """All that determines the archive. Budgets, workers and executor may change between sessions."""
        config = self.config
        return {
            "weights": self.weights,
            "space": hashlib.sha256(self.space.canonical().encode()).hexdigest(),
            **{f"data.{role}": samples.digest for role, samples in self.samples.items()},
            "data.batch_norm": config.data.batch_norm,
            "pruners": config.pruners.model_dump(),
            "objectives": config.objectives,
            "searcher": config.search.searcher,
            "search.options": config.search.options,
            "search.seed": config.search.seed,
            "search.seeds": config.search.seeds,
            "teacher": None if self.teacher is None else self.teacher.weights,
            "search.asynchronous": config.search.asynchronous,
            "search.screen": None if config.search.screen is None else config.search.screen.model_dump(),
            **{f"numerics.{name}": value for name, value in self.numerics.items()},
        } | self._training

    @property
    def _training(self) -> dict[str, Any]:
        """What results of training depend on, where there is any."""
        search = self.config.search
        if not search.rungs and not getattr(options_of(search.searcher, search.options), "training", []):
            return {}
        return {"training": self.config.training.model_dump(), "search.rungs": [r.model_dump() for r in search.rungs]}

    def searching(self, search: SearchConfig) -> Launch:
        """The same with another searcher; raises InputError where that cannot take the space."""
        config = self.config.model_copy(update={"search": search})
        _check_tokens(config, _check_searcher(config, self.space), self.samples["selection"])
        return replace(self, config=config)

    def setup(self, run: RunDirectory, cache: Path) -> WorkerSetup:
        """What workers of a run are told; stores and teacher caches are shared by all runs of `cache`."""
        common = {"weights": self.weights, "numerics": self.numerics}
        taught = common if self.teacher is None else common | {"weights": self.teacher.weights}
        teacher = taught | {"data": self.samples["selection"].digest, "quality": self.config.objectives[0], "top": TOP}
        store = cache / "stores" / key_hash(self.store_key)
        # What dense blocks see is the same for every space and pruner.
        moments = common | {"data": self.samples["calibration"].digest}
        shared = self.config.pruners.propagate == "dense"
        statistics = cache / "statistics" / key_hash(moments) if shared else store / "statistics"
        return WorkerSetup(
            config=self.config,
            source=self.source,
            network=self.network,
            quality=self.quality,
            taught_by=self.teacher,
            run=str(run.path),
            store=str(store),
            statistics=str(statistics),
            teacher=str(cache / "teachers" / key_hash(teacher)),
        )


def prepare(
    config: RunConfig,
    given: dict[str, Iterable[Any]] | None = None,
    saved: RunDirectory | None = None,
    reread: bool = True,
    module: Any = None,
    example: Sequence[Any] = (),
    quality: UserQuality | None = None,
) -> Launch:
    """Check a configuration and load all but the weights.

    Args:
        given: documents by role, in place of the configured sources.
        saved: a run whose saved windows serve where a source was a Python iterable.
        reread: read the other sources again, to see whether they changed; without it all windows are the saved ones.
        module: a torch.nn.Module to search, in place of the configured model.
        example: what a module is traced with, in place of the first calibration sample.
        quality: what candidates are judged by where the first objective is `quality`.

    Raises InputError or EnvironmentProblem with the first problem found.
    """
    _check_names(config)
    source = open_source(config.model) if module is None else Given(module, tuple(example))
    _check_quality(config, source.task, quality)
    samples = None
    if source.task.name == "module":
        # A module is traced with a sample of its data, so these come first.
        samples = _samples(config, source, None, given or {}, saved, reread)
        network = source.describe(list(samples["calibration"].rows(slice(0, 1)).inputs_on_cpu()))
    else:
        network = source.describe([])
    _check_propagation(config, network)
    dtype = source.storage
    space = build_space(config, network, dtype.itemsize, coarse_levels(config, source.weights))
    _check_objectives(config, space)
    searcher = _check_searcher(config, space)
    if samples is None:
        samples = _samples(config, source, network, given or {}, saved, reread)
    _check_labels(config, network, samples)
    _check_tokens(config, searcher, samples["selection"])
    if least := [rung.tokens for rung in config.search.rungs] + [tokens for tokens in searcher.training if tokens]:
        check_training(config, network, space, samples, min(least))
    if config.search.screen is not None:
        _check_screen(config.search.screen.proxy, network, samples["calibration"])
    compute = str(compute_dtype(config, dtype))
    teacher = open_teacher(config.model, network)
    launch = Launch(config, source, network, space, samples, dtype.itemsize, compute, quality, teacher)
    if launch.needs_gradients:
        check_loss(network.task)
    if not config.data.allow_shared:
        _check_disjoint(samples)
    return launch


def _check_names(config: RunConfig) -> None:
    options_of(config.search.searcher, config.search.options)
    unstructured(config.pruners.sparsity)
    structured(config.pruners.width)
    expert_order(config.pruners.experts)
    _, *costs = config.objectives or [""]
    for index, cost in enumerate(costs, 1):
        if cost not in COSTS:
            raise InputError(
                "SS102", f"objectives[{index}] {cost!r} is not a cost. {did_you_mean(cost, COSTS)}".rstrip(),
                f"Allowed: {', '.join(COSTS)}.",
            )  # fmt: skip
    if not costs:
        raise InputError("SS102", "objectives need a cost beside the quality.", f"Allowed: {', '.join(COSTS)}.")


def _check_searcher(config: RunConfig, space: Space) -> Searcher:
    """The searcher; raises InputError where it cannot take the space."""
    check_allocations(config, space)
    search = config.search
    searcher = create(search.searcher, space, config.objectives, search.seed, search.options)
    if search.asynchronous and not searcher.overlaps:
        able = [name for name, cls in SEARCHERS.items() if cls.overlaps]
        raise InputError(
            "SS114", f"search.asynchronous: {search.searcher} works in whole generations.",
            f"Without them work: {', '.join(able)}.",
        )  # fmt: skip
    if search.screen is not None and not searcher.screens:
        able = [name for name, cls in SEARCHERS.items() if cls.screens]
        raise InputError(
            "SS114", f"search.screen: {search.searcher} makes no children to choose among.",
            f"With one work: {', '.join(able)}.",
        )  # fmt: skip
    return searcher


def _check_tokens(config: RunConfig, searcher: Searcher, selection: Samples) -> None:
    """Raise InputError SS115 where the budget covers not one evaluation.

    Args:
        searcher: a fresh one, which is asked once and not used again.
    """
    search = config.search
    pool, length = len(selection), selection.length
    needs = [min(math.ceil(p.tokens / length) or pool, pool) * length for p in searcher.ask(1)]
    if search.tokens is not None and needs and search.tokens < needs[0]:
        raise InputError(
            "SS115", f"search.tokens {search.tokens:,} is less than one evaluation takes ({needs[0]:,} tokens).",
            f"Give --tokens {needs[0] * 100:,} or so, or set search.options.tokens to fewer.",
        )  # fmt: skip


def _check_screen(name: str, network: Network, samples: Samples) -> None:
    """Raise InputError SS102 for an unknown proxy, SS116 for one that cannot screen this network's candidates."""
    (proxy,) = proxies_named([name])
    if proxy.reads != "matrix":
        able = [each.name for each in all_proxies().values() if each.reads == "matrix"]
        raise InputError(
            "SS116", f"search.screen.proxy {name}: only scores that are tabulated can screen.",
            f"Allowed: {', '.join(able)}.",
        )  # fmt: skip
    if reason := proxy.obstacle(network, samples):
        raise InputError("SS116", f"search.screen.proxy {name}: {reason}.")


def check_training(config: RunConfig, network: Network, space: Space, samples: dict[str, Samples], tokens: int) -> None:
    """Raise InputError where candidates cannot be trained as the recipe wants: SS117 the method, SS118 the budget.

    Args:
        tokens: of the shortest training.
    """
    options, data = config.training, samples.get("training", samples["calibration"])
    step = options.batch * data.length
    if tokens < step:
        raise InputError(
            "SS118", f"{tokens:,} training tokens are less than one step takes ({step:,}).",
            "Give more tokens, or a smaller training.batch.",
        )  # fmt: skip
    if options.method == "lora" and any(unit.kind == "sparsity" for unit in space.units):
        raise InputError("SS117", "training.method lora: merged updates would fill pruned weights.", "Use masked_lora.")
    shifted = (".bias", ".running_mean")
    if options.method == "compensate" and not any(name.endswith(shifted) for name in network.shapes):
        raise InputError(
            "SS117", "training.method compensate: the network has neither biases nor batch statistics.",
            "Search with pruners.compensate: true, which adds biases, or train with perp.",
        )  # fmt: skip
    if options.distill < 1:
        check_loss(network.task)
        if network.task.classifies and data.labels is None:
            raise InputError(
                "SS212", "training data have no labels, and training.distill is below 1.",
                "Give labels, or distil alone with training.distill: 1.",
            )  # fmt: skip


def _check_quality(config: RunConfig, task: Task, given: UserQuality | None) -> None:
    """Raise InputError SS102 where candidates of this task cannot be judged as the recipe wants."""
    quality = config.objectives[0]
    if (quality == USER) != (given is not None):
        raise InputError(
            "SS102", f"objectives[0] {quality!r}: objective '{USER}' and a function search(..., {USER}=f) go together."
        )
    allowed = (USER,) if given is not None else task.qualities
    if quality not in allowed:
        raise InputError(
            "SS102", f"objectives[0] {quality!r} is not a quality for {task.name}. "
            f"{did_you_mean(quality, allowed)}".rstrip(), f"Allowed: {', '.join(allowed)}.",
        )  # fmt: skip


def _check_propagation(config: RunConfig, network: Network) -> None:
    if config.pruners.propagate != "dense" and not network.blockwise:
        raise InputError(
            "SS102", f"pruners.propagate {config.pruners.propagate!r}: blocks of {network.model_type} do not simply "
            "follow one another.", "Use propagate: dense.",
        )  # fmt: skip


def _check_objectives(config: RunConfig, space: Space) -> None:
    smallest = space.costs.named(space.smallest.levels)
    for cost in config.objectives[1:]:
        if smallest[cost] == space.dense_costs[cost]:
            varying = [name for name in COSTS if smallest[name] != space.dense_costs[name]]
            raise InputError(
                "SS109", f"objective {cost!r} is the same for every candidate of this space.",
                f"Costs that vary: {', '.join(varying)}.",
            )  # fmt: skip


def _samples(
    config: RunConfig,
    source: Source,
    network: Network | None,
    given: dict[str, Iterable[Any]],
    saved: RunDirectory | None,
    reread: bool,
) -> dict[str, Samples]:
    data = {role: getattr(config.data, role) for role in ROLES}
    samples: dict[str, Samples] = {}
    for role, wanted in data.items():
        if wanted is None:
            continue
        if network is not None and network.task.data != "image" and wanted.length > network.max_length:
            raise InputError(
                "SS204", f"data.{role}.length {wanted.length} exceeds the model's {network.max_length} positions."
            )
        if saved is not None and (wanted.source == PYTHON_SOURCE or not reread):
            samples[role] = saved.samples(role)
        elif isinstance(found := given.get(role), Samples):
            samples[role] = found
        else:
            samples[role] = samples_of(wanted, source.task, source.directory, role, found)
    return samples


def _check_labels(config: RunConfig, network: Network, samples: dict[str, Samples]) -> None:
    """Raise InputError SS212 where labels are needed and missing, or are no classes of the network."""
    needed = ["selection"] if config.objectives[0] == "error" else []
    if "test" in samples and not network.task.generates:
        needed.append("test")
    for role, found in samples.items():
        if found.labels is None and role in needed:
            raise InputError(
                "SS212", f"{role} data have no labels.", f"Set data.{role}.label, or give a folder a class."
            )
        if found.labels is not None and len(found.labels):
            low, high = int(found.labels.min()), int(found.labels.max())
            if low < 0 or high >= network.values:
                raise InputError(
                    "SS212", f"{role} data have labels from {low} to {high}; the network has {network.values} classes.",
                    f"Labels are integers from 0 to {network.values - 1}.",
                )  # fmt: skip


def _check_disjoint(samples: dict[str, Samples]) -> None:
    """Raise InputError SS205 where a sample serves two roles: scores would be optimistic."""
    seen: dict[bytes, str] = {}
    for role, found in samples.items():
        for row in next(iter(found.arrays.values())):
            key = hashlib.sha256(np.ascontiguousarray(row).tobytes()).digest()
            other = seen.setdefault(key, role)
            if other != role:
                raise InputError(
                    "SS205", f"{other} and {role} data share samples; scores would be optimistic.",
                    f"Give data.{role} data of its own, or set data.allow_shared: true.",
                )  # fmt: skip


def _calibration_bytes(launch: Launch) -> int:
    """Disk of second moments, gradients, hidden states between blocks (all float32), and of the teacher cache."""
    moments = {m.reads: m.groups * m.columns**2 for m in launch.network.matrices.values()}
    positions = launch.samples["calibration"].size * launch.network.positions
    hidden = positions * launch.network.hidden if launch.network.blockwise else 0
    gradients = 2 * sum(m.size for m in launch.network.matrices.values()) if launch.needs_gradients else 0
    return 4 * (sum(moments.values()) + hidden + gradients) + 3100 * launch.samples["selection"].size


def spared_blocks_note(launch: Launch) -> str:
    """Why candidates will run whole although hidden states could be shared; empty where they will not."""
    bound, network = launch.config.executor.prefix_bytes, launch.network
    width = getattr(torch, launch.dtype.removeprefix("torch.")).itemsize
    length = launch.samples["selection"].length * network.positions
    states = launch.config.batch * length * network.hidden * width
    if not network.blockwise or bound == 0 or bound >= states:
        return ""
    return (
        f"executor.prefix_bytes {bound:,} holds not one block's hidden states of a minibatch ({states:,} bytes): "
        "candidates run whole."
    )


def check_disk(launch: Launch, cache: Path) -> None:
    """Raise EnvironmentProblem SS305 where the level store will not fit."""
    directory = next(p for p in (cache, *cache.parents) if p.exists())
    need = estimated_bytes(launch.space, launch.network, launch.storage_bytes) + _calibration_bytes(launch)
    free = shutil.disk_usage(directory).free
    if need > free:
        raise EnvironmentProblem(
            "SS305",
            f"levels and calibration need about {need / 1e9:.1f} GB; {directory} has {free / 1e9:.1f} GB free.",
            "Give units fewer levels, or --results on a larger disk.",
        )
    if not os.access(directory, os.W_OK):
        raise EnvironmentProblem("SS302", f"cannot write to {directory}.", "Choose another --results.")
