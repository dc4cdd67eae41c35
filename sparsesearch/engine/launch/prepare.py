"""From a configuration to a checked launch: everything that can be wrong is found here, before any long work."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from sparsesearch.calibration.gradients import check_loss
from sparsesearch.config import PYTHON_SOURCE, PrunerConfig, RunConfig, SearchConfig, SupernetConfig, load_config
from sparsesearch.data import Samples, samples_of
from sparsesearch.data.images import check_classes
from sparsesearch.engine.launch.access import Access
from sparsesearch.engine.launch.checks import (
    check_disjoint,
    check_labels,
    check_names,
    check_objectives,
    check_pattern,
    check_propagation,
    check_quality,
    check_screen,
    check_searcher,
    check_tokens,
    check_training,
    check_values,
)
from sparsesearch.engine.launch.identity import Outputs, identity, known_outputs
from sparsesearch.engine.launch.latency_table import table_of
from sparsesearch.engine.launch.learning_plan import check_learning, searcher_of, tokens_of
from sparsesearch.engine.launch.refinement import coarse_levels
from sparsesearch.engine.launch.supernet_plan import check_supernet, check_supernet_disk
from sparsesearch.engine.seeds import allocations_of, check_allocations, seed_runs
from sparsesearch.engine.workers.worker import WorkerSetup, compute_dtype
from sparsesearch.errors import problem
from sparsesearch.evaluation.evaluator import UserQuality
from sparsesearch.evaluation.teacher import TOP
from sparsesearch.latency import LatencyTable, with_latency
from sparsesearch.models import Network
from sparsesearch.models.source import Factory, ModuleSource, Source, SupernetSource, open_source, open_teacher
from sparsesearch.models.space_builder import build_space
from sparsesearch.plugins import load_plugins
from sparsesearch.pruning import needs_gradients
from sparsesearch.runs.cache import read_index, started, supernet_path, weights_of
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.progress import Reporter
from sparsesearch.searchers.registry import options_of
from sparsesearch.space import Space
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
        supernet: what names the elastic supernet whose parts candidates are; empty where there is none.
        latency: what the space's latency and memory come from, where it has them.
        known: what a module puts out for the first calibration samples; None for checkpoints.
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
    supernet: str = ""
    latency: LatencyTable | None = None
    known: Outputs | None = None

    @property
    def stitched(self) -> Launch:
        """The same on the network's own weights, whose level store says in which order elements are sorted."""
        config = self.config.model_copy(update={"supernet": SupernetConfig()})
        return replace(self, config=config, supernet="")

    @property
    def pruners(self) -> PrunerConfig:
        """How levels are made; in an elastic supernet the first elements stay."""
        own = self.config.pruners
        return own.model_copy(update={"width": "prefix", "experts": "prefix"}) if self.supernet else own

    @property
    def needs_gradients(self) -> bool:
        """Whether a pruner or an allocation weighs gradients of the loss."""
        return needs_gradients(self.pruners) or "gradient_square" in check_allocations(self.config, self.space)

    @property
    def reads_statistics(self) -> bool:
        """Whether calibration statistics are read once levels are built: by allocations, or by a screen's proxy."""
        return bool(allocations_of(self.config)) or self.config.search.screen is not None

    @cached_property
    def weights(self) -> str:
        """What names the network: its weights, and of a module also what it does with them."""
        return identity(self.source, self.known)

    @property
    def taught_by(self) -> str:
        """What names the network that candidates are compared with."""
        if self.teacher is None:
            return self.weights
        # A teacher of the user's own is run by the same code.
        return self.teacher.weights_hash if self.known is None else f"{self.weights} {self.teacher.weights_hash}"

    @property
    def pruned(self) -> str:
        """What names the weights that levels are made of."""
        return f"{self.weights} {self.supernet}" if self.supernet else self.weights

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
        return store_key(self.space, self.pruners, self.pruned, calibration, self.numerics)

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
            "teacher": None if self.teacher is None else self.teacher.weights_hash,
            "search.asynchronous": config.search.asynchronous,
            "search.screen": None if config.search.screen is None else config.search.screen.model_dump(),
            **{f"numerics.{name}": value for name, value in self.numerics.items()},
            **({"supernet": self.supernet} if self.supernet else {}),
        } | self._training

    @property
    def _training(self) -> dict[str, Any]:
        """What results of training depend on, where there is any."""
        search, searcher = self.config.search, searcher_of(self.config, self.space)
        learned = {} if searcher is None else {"learning.tokens": tokens_of(self.config, searcher, self.samples)}
        trains = getattr(options_of(search.searcher, search.options), "training", [])
        if not (learned or search.rungs or trains):
            return {}
        rungs = [rung.model_dump() for rung in search.rungs]
        return {"training": self.config.training.model_dump(), "search.rungs": rungs} | learned

    def searching(self, search: SearchConfig) -> Launch:
        """The same with another searcher; raises InputError where that cannot take the space."""
        config = self.config.model_copy(update={"search": search})
        check_tokens(config, check_searcher(config, self.space), self.samples["selection"])
        check_learning(config, self.network, self.space, self.samples)
        return replace(self, config=config)

    def setup(self, run: RunDirectory, cache: Path) -> WorkerSetup:
        """What workers of a run are told; stores and teacher caches are shared by all runs of `cache`.

        Samples that it is trained on are written to the run where they are others than its own.
        """
        common = {"weights": self.pruned, "numerics": self.numerics}
        taught = common | {"weights": self.taught_by}
        teacher = taught | {"data": self.samples["selection"].digest, "quality": self.config.objectives[0], "top": TOP}
        store = cache / "stores" / key_hash(self.store_key)
        # What dense blocks see is the same for every space and pruner.
        moments = common | {"data": self.samples["calibration"].digest}
        shared = self.config.pruners.propagate == "dense"
        statistics = cache / "statistics" / key_hash(moments) if shared else store / "statistics"
        supernet = supernet_path(cache, self.supernet) if self.supernet else None
        elastic = supernet is not None
        return WorkerSetup(
            config=self.config.model_copy(update={"pruners": self.pruners}),
            source=self.source if supernet is None else SupernetSource(self.source, weights_of(supernet), self.pruned),
            network=self.network,
            quality=self.quality,
            taught_by=self.source if elastic and self.teacher is None else self.teacher,
            run=str(run.path),
            store=str(store),
            statistics=str(statistics),
            teacher=str(cache / "teachers" / key_hash(teacher)),
            training=run.keep("training", self.samples["training"]) if "training" in self.samples else "calibration",
            supernet=str(supernet or ""),
            known=self.known,
        )


def prepare(
    config: RunConfig,
    given: dict[str, Iterable[Any]] | None = None,
    saved: RunDirectory | None = None,
    reread: Collection[str] = ROLES,
    module: Any = None,
    example: Sequence[Any] = (),
    quality: UserQuality | None = None,
    searches: bool = True,
    reporter: Reporter | None = None,
) -> Launch:
    """Check a configuration and load all but the weights.

    Args:
        given: documents by role, in place of the configured sources.
        saved: a run whose saved windows serve where a source was a Python iterable.
        reread: roles whose other sources are read again, to see whether they changed; else the saved ones serve.
        module: a torch.nn.Module to search, in place of the configured model.
        example: what a module is traced with, in place of the first calibration sample.
        quality: what candidates are judged by where the first objective is `quality`.
        searches: whether there will be a search, not only something done with what one has found.
        reporter: shows what takes a while, which measuring latencies does.

    Raises InputError or EnvironmentProblem with the first problem found.
    """
    reporter = reporter or Reporter(quiet=True)
    if saved is None and (named := [name for name in config.code if name != config.model.id]):
        reporter.message(f"Runs code that the recipe names: {', '.join(named)}")
    load_plugins(config.plugins)
    check_names(config)
    source = open_source(config.model) if module is None else ModuleSource(module, tuple(example))
    check_quality(config, source.task, quality)
    read = partial(_samples, config, source, given=given or {}, saved=saved, reread=reread)
    # A module is traced with a sample of its data, so these come first.
    samples = read(None) if source.task.name == "module" else None
    if samples is None:
        network, known = source.describe(), None
    else:
        network, known = _traced(config, source, samples["calibration"], searches)
    check_values(config, network)
    check_propagation(config, network)
    dtype = source.storage
    space = build_space(config, network, dtype.itemsize, coarse_levels(config, source.weights_hash))
    check_objectives(config, space)
    check_pattern(config, network, space)
    if samples is None:
        samples = read(network)
    latency = table_of(config, source, network, space, samples["calibration"], saved, reporter)
    if latency is not None:
        space = with_latency(space, config.context, latency).with_limits(config.parsed_limits())
        space.check()
        check_objectives(config, space)
    _check_use(config, network, space, samples, searches)
    seed_runs(config, source.weights_hash)
    compute = str(compute_dtype(config, dtype))
    teacher = open_teacher(config.model, network)
    launch = Launch(
        config, source, network, space, samples, dtype.itemsize, compute, quality, teacher, latency=latency, known=known
    )
    if config.supernet.is_elastic:
        launch = _elastic(launch, saved, searches)
    # An elastic supernet's pruners need none, but what sorts it may.
    if launch.needs_gradients or launch.stitched.needs_gradients:
        check_loss(network)
    if not config.data.allow_shared:
        check_disjoint(samples)
    return launch


def reopen(
    run: RunDirectory,
    access: Access,
    changes: dict[str, Any] | None = None,
    reread: Collection[str] = ROLES,
    searches: bool = True,
) -> Launch:
    """The launch of a run that is there.

    Args:
        changes: other keys of its configuration.
        reread, searches: as for `prepare`.

    Raises InputError SS129 where it names code and is not trusted, and whatever `prepare` raises.
    """
    config = access.config(run, changes)
    return prepare(config, None, run, reread, access.module, quality=access.quality, searches=searches)


def _traced(config: RunConfig, source: Source, samples: Samples, searches: bool) -> tuple[Network, Outputs | None]:
    """The parts of a module, which is traced on its data, and what it puts out for the first of them."""
    if searches and isinstance(source, Factory):
        source.check_repeatable()
    starts = range(0, len(samples), config.batch)
    batches = (samples.rows(slice(start, start + config.batch)).inputs_on_cpu() for start in starts)
    network = source.describe(samples.rows(slice(0, 1)).inputs_on_cpu(), batches)
    return network, known_outputs(source, network.task, samples)


def _check_use(config: RunConfig, network: Network, space: Space, samples: dict[str, Samples], searches: bool) -> None:
    """Raise InputError where the searcher, its rungs or its screen cannot do with this space and these samples."""
    searcher = check_searcher(config, space)
    check_labels(config, network, samples)
    check_tokens(config, searcher, samples["selection"])
    if least := [rung.tokens for rung in config.search.rungs] + [tokens for tokens in searcher.training if tokens]:
        check_training(config, network, space, samples, min(least))
    if config.search.screen is not None:
        check_screen(config, network, samples)
    if searches:
        check_learning(config, network, space, samples)


def supernet_key(base: Launch, options: SupernetConfig) -> str:
    """Sixteen hexadecimal digits for all that an elastic supernet's weights depend on.

    Args:
        base: whose level store sorts.
        options: how it is trained.
    """
    cuts = [unit.name for unit in base.space.units if unit.is_cut]
    start = None if options.start is None else started(options.start, base.weights, cuts)["key"]
    if not options.is_trained:
        return key_hash({"order": base.store_key if start is None else None, "start": start})
    return key_hash(
        {
            "order": base.store_key,
            "start": start,
            "options": options.model_dump(exclude={"start"}),
            "data": base.samples.get("training", base.samples["calibration"]).digest,
            "teacher": base.teacher and base.teacher.weights_hash,
        }
    )


def _elastic(launch: Launch, saved: RunDirectory | None, searches: bool) -> Launch:
    """The launch with the name of its supernet."""
    known = None if saved is None else _known_supernet(launch, saved, searches)
    if known is None:
        check_supernet(launch)
    return replace(launch, supernet=known or supernet_key(launch.stitched, launch.config.supernet))


def _known_supernet(launch: Launch, saved: RunDirectory, searches: bool) -> str | None:
    """The supernet of a run of the same options: what only uses it, or finds it whole, does not train another.

    None where it is to be named anew: for other options, or for units whose elements it has not sorted.
    """
    key: str | None = saved.read(saved.info)["fingerprint"].get("supernet")
    if key is None or load_config(saved.config).supernet != launch.config.supernet:
        return None
    index = read_index(supernet_path(saved.path.parent / ".cache", key))
    cuts = {unit.name for unit in launch.space.units if unit.is_cut}
    whole = index is not None and cuts <= set(index["cuts"])
    return key if whole or not searches else None


def _samples(
    config: RunConfig,
    source: Source,
    network: Network | None,
    given: dict[str, Iterable[Any]],
    saved: RunDirectory | None,
    reread: Collection[str],
) -> dict[str, Samples]:
    data = {role: getattr(config.data, role) for role in ROLES}
    samples: dict[str, Samples] = {}
    read: list[str] = []
    for role, wanted in data.items():
        if wanted is None:
            continue
        if network is not None and network.task.data != "image" and wanted.length > network.max_length:
            raise problem(
                "SS204", f"data.{role}.length {wanted.length} exceeds the model's {network.max_length} positions."
            )
        if saved is not None and (wanted.source == PYTHON_SOURCE or role not in reread):
            samples[role] = saved.samples(role)
        elif isinstance(found := given.get(role), Samples):
            samples[role] = found
        else:
            samples[role] = samples_of(wanted, source.task, source.directory, role, found)
            read.append(role)
    if source.task.data == "image":
        check_classes(config.data, read, source.directory)
    return samples


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


def check_disk(launch: Launch, results: Path) -> None:
    """Raise EnvironmentProblem SS305 where the level store or the supernet will not fit in a results directory."""
    directory = next(p for p in (results, *results.parents) if p.exists())
    need = estimated_bytes(launch.space, launch.network, launch.storage_bytes) + _calibration_bytes(launch)
    free = shutil.disk_usage(directory).free
    if need > free:
        raise problem(
            "SS305",
            f"levels and calibration need about {need / 1e6:,.0f} MB; {directory} has {free / 1e6:,.0f} MB free.",
            fix="Give units fewer levels, or --results on a larger disk.",
        )
    if not os.access(directory, os.W_OK):
        raise problem("SS302", f"cannot write to {directory}.", fix="Choose another --results.")
    check_supernet_disk(launch, results / ".cache")
