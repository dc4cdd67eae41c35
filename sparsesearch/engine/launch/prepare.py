"""From a recipe to a launch: every error of a recipe is found here, before any long work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sparsesearch.calibration.gradients import check_loss
from sparsesearch.config import PYTHON_SOURCE, RunConfig, SupernetConfig, load_config
from sparsesearch.data import Samples, samples_of
from sparsesearch.data.images import check_classes
from sparsesearch.engine.launch.access import report_code
from sparsesearch.engine.launch.checks import (
    check_disjoint,
    check_labels,
    check_names,
    check_objectives,
    check_pattern,
    check_propagation,
    check_quality,
    check_screen,
    check_tokens,
    check_training,
    check_values,
    searcher_traits,
)
from sparsesearch.engine.launch.identity import Outputs, module_outputs
from sparsesearch.engine.launch.latency_table import table_of
from sparsesearch.engine.launch.launch import Launch
from sparsesearch.engine.launch.learning_plan import check_learning
from sparsesearch.engine.launch.numerics import compute_dtype
from sparsesearch.engine.launch.refinement import coarse_levels
from sparsesearch.engine.launch.seed_checks import seed_runs
from sparsesearch.engine.launch.supernet_plan import check_supernet
from sparsesearch.errors import problem
from sparsesearch.evaluation.evaluator import UserQuality
from sparsesearch.latency import with_latency
from sparsesearch.models import Network
from sparsesearch.models.source import Factory, ModuleSource, Source, open_source, open_teacher
from sparsesearch.models.space_builder import build_space
from sparsesearch.plugins import load_plugins
from sparsesearch.runs.cache import read_index, started
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.progress import Reporter
from sparsesearch.searchers.base import Traits
from sparsesearch.space import Space
from sparsesearch.supernet.store import key_hash

# In the order in which a sample that serves two roles is reported.
ROLES = ("calibration", "training", "selection", "test")


@dataclass(frozen=True)
class PythonInputs:
    """The inputs from Python beside a recipe.

    Attributes:
        module: a torch.nn.Module to search, instead of the recipe's model.
        example: inputs that a module is traced with, instead of its first calibration sample.
        data: documents or samples by role, instead of the recipe's sources.
        quality: `f(model, samples)` that measures candidates, if the first objective is `quality`.
    """

    module: Any = None
    example: Sequence[Any] = ()
    data: Mapping[str, Iterable[Any]] = field(default_factory=dict)
    quality: UserQuality | None = None


def prepare(
    config: RunConfig,
    inputs: PythonInputs | None = None,
    saved: RunDirectory | None = None,
    reporter: Reporter | None = None,
) -> Launch:
    """Check a recipe and load everything but the weights.

    Args:
        saved: a run that continues; its samples are used for sources that were Python objects.
        reporter: shows the measurement of latencies.

    Raises InputError or EnvironmentProblem with the first problem.
    """
    inputs, reporter = inputs or PythonInputs(), reporter or Reporter(quiet=True)
    if saved is None:
        report_code(config, reporter)
    load_plugins(config.plugins)
    check_names(config)
    source = source_of(config, inputs)
    check_quality(config, source.task, inputs.quality)
    # A module is traced with a sample of its data, so its samples are read first.
    samples = read_samples(config, source, None, inputs.data, saved) if source.task.name == "module" else None
    network, outputs = describe_network(config, source, None if samples is None else samples["calibration"])
    check_values(config, network)
    check_propagation(config, network)
    space = build_space(config, network, source.storage.itemsize, coarse_levels(config, source.weights_hash))
    check_objectives(config, space)
    check_pattern(config, network, space)
    if samples is None:
        samples = read_samples(config, source, network, inputs.data, saved)
    latency = table_of(config, source, network, space, samples["calibration"], saved, reporter)
    if latency is not None:
        space = with_latency(space, config.context, latency).with_limits(config.parsed_limits())
        space.check()
        check_objectives(config, space)
    traits = _check_search(config, network, space, samples)
    seed_runs(config, source.weights_hash)
    launch = Launch(
        config=config,
        source=source,
        network=network,
        space=space,
        samples=samples,
        storage_bytes=source.storage.itemsize,
        dtype=str(compute_dtype(config, source.storage)),
        traits=traits,
        quality=inputs.quality,
        teacher=open_teacher(config.model, network),
        latency=latency,
        outputs=outputs,
    )
    if config.supernet.is_elastic:
        launch = _with_supernet(launch, saved)
    # The pruners of an elastic supernet need no gradients, but those that rank its elements may.
    if launch.needs_gradients or launch.stitched.needs_gradients:
        check_loss(network)
    if not config.data.allow_shared:
        check_disjoint(samples)
    return launch


def source_of(config: RunConfig, inputs: PythonInputs) -> Source:
    """Return the source of the network: the module that was given, or the recipe's model."""
    return open_source(config.model) if inputs.module is None else ModuleSource(inputs.module, tuple(inputs.example))


def describe_network(
    config: RunConfig, source: Source, calibration: Samples | None, repeatable: bool = True
) -> tuple[Network, Outputs | None]:
    """Return the parts of a network, and for a module, which is traced, its outputs for the first samples.

    Args:
        calibration: samples that a module is traced with; None for a checkpoint.
        repeatable: check that a factory builds the same network in another process.
    """
    if calibration is None:
        return source.describe(), None
    if repeatable and isinstance(source, Factory):
        source.check_repeatable()
    starts = range(0, len(calibration), config.batch)
    batches = (calibration.rows(slice(start, start + config.batch)).inputs_on_cpu() for start in starts)
    network = source.describe(calibration.rows(slice(0, 1)).inputs_on_cpu(), batches)
    return network, module_outputs(source, network.task, calibration)


def read_samples(
    config: RunConfig,
    source: Source,
    network: Network | None,
    data: Mapping[str, Iterable[Any]],
    saved: RunDirectory | None = None,
) -> dict[str, Samples]:
    """Read the samples of every role that a recipe names.

    Args:
        network: its positions bound the length of texts; None if it is not described yet.
        data: documents or samples by role, instead of the recipe's sources.
        saved: a run whose samples are used for sources that were Python objects.

    Raises InputError SS204 and others of `samples_of`.
    """
    samples: dict[str, Samples] = {}
    read: list[str] = []
    for role in ROLES:
        options = getattr(config.data, role)
        if options is None:
            continue
        if network is not None and network.task.data != "image" and options.length > network.max_length:
            text = f"data.{role}.length {options.length} exceeds the model's {network.max_length} positions."
            raise problem("SS204", text)
        documents = data.get(role)
        if saved is not None and options.source == PYTHON_SOURCE:
            samples[role] = saved.samples(role)
        elif isinstance(documents, Samples):
            samples[role] = documents
        else:
            samples[role] = samples_of(options, source.task, source.directory, role, documents)
            read.append(role)
    if source.task.data == "image":
        check_classes(config.data, read, source.directory)
    return samples


def _check_search(config: RunConfig, network: Network, space: Space, samples: Mapping[str, Samples]) -> Traits:
    """Return the searcher's traits; raises InputError if it, its rungs or its screen do not fit space and samples."""
    traits = searcher_traits(config, space)
    check_labels(config, network, samples)
    check_tokens(config, traits, samples["selection"])
    if counts := [rung.tokens for rung in config.search.rungs] + [tokens for tokens in traits.training if tokens]:
        check_training(config, network, space, samples, min(counts))
    if config.search.screen is not None:
        check_screen(config, network, samples)
    check_learning(config, traits, network, space, samples)
    return traits


def supernet_key(base: Launch, options: SupernetConfig) -> str:
    """Return the key of an elastic supernet, 16 hexadecimal digits: a hash of everything its weights depend on.

    Args:
        base: the stitched launch; its level store ranks elements.
        options: options of the supernet and its training.
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
            "data": base.training_samples.digest,
            "teacher": base.teacher and base.teacher.weights_hash,
        }
    )


def _with_supernet(launch: Launch, saved: RunDirectory | None) -> Launch:
    """Return the launch with the key of its supernet."""
    key = None if saved is None else _saved_supernet(launch, saved)
    if key is None:
        check_supernet(launch)
    return replace(launch, supernet_key=key or supernet_key(launch.stitched, launch.config.supernet))


def _saved_supernet(launch: Launch, saved: RunDirectory) -> str | None:
    """Return the key of a saved run's supernet if it is complete and has the same options and sorted units."""
    key: str | None = saved.read(saved.info)["fingerprint"].get("supernet")
    if key is None or load_config(saved.config).supernet != launch.config.supernet:
        return None
    index = read_index(saved.cache.supernet(key))
    cuts = {unit.name for unit in launch.space.units if unit.is_cut}
    return key if index is not None and cuts <= set(index["cuts"]) else None
