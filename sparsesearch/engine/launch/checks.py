"""Checks of a recipe: each raises InputError with the first problem, before any long work."""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Mapping

import numpy as np

from sparsesearch.calibration.gradients import check_loss
from sparsesearch.config import RunConfig
from sparsesearch.data.samples import Samples, training_samples
from sparsesearch.engine.launch.seed_checks import required_evidence
from sparsesearch.errors import problem
from sparsesearch.evaluation import qualities_of, quality_class
from sparsesearch.evaluation.evaluator import UserQuality
from sparsesearch.evaluation.qualities import USER_QUALITY
from sparsesearch.models import Network
from sparsesearch.models.network import sparsity_unit_name
from sparsesearch.models.task import Task
from sparsesearch.proxies import all_proxies, proxies_named
from sparsesearch.pruning import expert_order_named, structured, unstructured
from sparsesearch.pruning.pattern import n_of_m
from sparsesearch.searchers.base import Traits
from sparsesearch.searchers.registry import SEARCHERS, describe, options_of
from sparsesearch.space import COSTS, Space


def check_names(config: RunConfig) -> None:
    """Raise InputError SS101 or SS102 for unknown names or options of a searcher, pruners and objectives."""
    options_of(config.search.searcher, config.search.options)
    unstructured(config.pruners.sparsity)
    structured(config.pruners.width)
    expert_order_named(config.pruners.experts)
    _, *costs = config.objectives or [""]
    for index, cost in enumerate(costs, 1):
        if cost not in COSTS:
            raise problem(
                "SS102",
                f"objectives[{index}] {cost!r} is not a cost.",
                got=cost,
                allowed=COSTS,
            )
    if twice := next((name for name in config.objectives if config.objectives.count(name) > 1), None):
        raise problem("SS102", f"objectives name {twice!r} twice.", fix="Name each once.")
    if not costs:
        raise problem("SS102", "objectives need a cost beside the quality.", fix=f"Allowed: {', '.join(COSTS)}.")


def searcher_traits(config: RunConfig, space: Space) -> Traits:
    """Return the traits of the recipe's searcher; raises InputError if it cannot take the space or the options."""
    required_evidence(config, space)
    search = config.search
    traits = describe(search.searcher, space, config.objectives, search.options)
    kind = SEARCHERS[search.searcher]
    if search.asynchronous and not kind.overlaps:
        raise problem(
            "SS114",
            f"search.asynchronous: {search.searcher} needs complete generations.",
            fix=f"Searchers that allow it: {', '.join(name for name, cls in SEARCHERS.items() if cls.overlaps)}.",
        )
    if search.screen is not None and not kind.screens:
        raise problem(
            "SS114",
            f"search.screen: {search.searcher} has no children that a proxy could screen.",
            fix=f"Searchers that allow it: {', '.join(name for name, cls in SEARCHERS.items() if cls.screens)}.",
        )
    return traits


def check_tokens(config: RunConfig, traits: Traits, selection: Samples) -> None:
    """Raise InputError SS115 if the token budget does not cover one evaluation."""
    budget = config.search.tokens
    if budget is None or traits.first_tokens is None:
        return
    pool, length = len(selection), selection.length
    need = min(math.ceil(traits.first_tokens / length) or pool, pool) * length
    if budget < need:
        raise problem(
            "SS115",
            f"search.tokens {budget:,} is less than one evaluation takes ({need:,} tokens).",
            fix=f"Give search.tokens (--tokens) of about {need * 100:,}, or set a lower search.options.tokens.",
        )


def check_screen(config: RunConfig, network: Network, samples: Mapping[str, Samples]) -> None:
    """Check the proxy of search.screen.

    Raises InputError SS102 for an unknown proxy, SS116 for one that cannot screen this network's candidates, SS115 if
    validating it would spend the whole budget.
    """
    search, selection = config.search, samples["selection"]
    assert search.screen is not None
    name, candidates = search.screen.proxy, search.screen.candidates
    (proxy,) = proxies_named([name])
    if proxy.reads != "matrix":
        allowed = [matrix_proxy.name for matrix_proxy in all_proxies().values() if matrix_proxy.reads == "matrix"]
        raise problem(
            "SS116",
            f"search.screen.proxy {name}: only proxies that score single matrices can screen.",
            fix=f"Allowed: {', '.join(allowed)}.",
        )
    if reason := proxy.obstacle(network, samples["calibration"]):
        raise problem("SS116", f"search.screen.proxy {name}: {reason}.")
    tokens = candidates * min(math.ceil(search.screen.tokens / selection.length), len(selection)) * selection.length
    for budget, need, unit in ((search.evals, candidates, "evals"), (search.tokens, tokens, "tokens")):
        if budget is not None and budget <= need:
            raise problem(
                "SS115",
                f"search.{unit} {budget:,}: validating proxy {name} alone takes {need:,}.",
                fix=f"Give more --{unit}, or set search.screen.candidates or search.screen.tokens lower.",
            )


def check_training(
    config: RunConfig, network: Network, space: Space, samples: Mapping[str, Samples], tokens: int
) -> None:
    """Raise InputError if candidates cannot be trained as the recipe says: SS117 for the method, SS118 for the budget.

    Args:
        tokens: training tokens of the shortest training.
    """
    options, data = config.training, training_samples(samples)
    step = options.batch * data.length
    if tokens < step:
        raise problem(
            "SS118",
            f"{tokens:,} training tokens are less than one step takes ({step:,}).",
            fix="Give more tokens, or a smaller training.batch.",
        )
    if options.method == "lora" and any(unit.kind == "sparsity" for unit in space.units):
        raise problem(
            "SS117", "training.method lora: merged updates would fill pruned weights.", fix="Use masked_lora."
        )
    if options.method == "lora" and all(matrix.layout != "linear" for matrix in network.matrices.values()):
        raise problem("SS117", "training.method lora: the network has no linear layers.", fix="Use masked_lora.")
    if options.method == "lora" and importlib.util.find_spec("peft") is None:
        raise problem("SS307", "training.method lora needs peft.", fix="pip install 'sparsesearch[lora]'")
    if options.hidden and any(unit.kind == "channels" for unit in space.units):
        raise problem(
            "SS117",
            "training.hidden: units of kind channels change the output shapes of blocks, which are compared.",
            fix="Set training.hidden: 0.",
        )
    shifted = (".bias", ".running_mean")
    if options.method == "compensate" and not any(name.endswith(shifted) for name in network.shapes):
        raise problem(
            "SS117",
            "training.method compensate: the network has neither biases nor batch statistics.",
            fix="Search with pruners.compensate: true, which adds biases, or train with perp.",
        )
    if options.distill < 1:
        check_targets(network, data)


def check_targets(network: Network, training: Samples) -> None:
    """Raise InputError SS209 if the task has no loss of its own, SS212 if that loss has no labels."""
    check_loss(network)
    if network.task.classifies and training.labels is None:
        raise problem(
            "SS212",
            "training data have no labels, and training.distill is below 1.",
            fix="Give labels, or only distil with training.distill: 1.",
        )


def check_pattern(config: RunConfig, network: Network, space: Space) -> None:
    """Raise InputError SS104 if matrices or levels of sparsity units do not fit `pruners.pattern`."""
    if config.pruners.pattern is None:
        return
    units = {unit.name: unit for unit in space.units if unit.kind == "sparsity"}
    for matrix in network.matrices.values():
        unit = units.get(sparsity_unit_name(matrix))
        if unit is not None:
            n_of_m(config.pruners.pattern, (matrix.rows * matrix.groups, matrix.columns), unit.levels[1:])


def check_quality(config: RunConfig, task: Task, function: UserQuality | None) -> None:
    """Raise InputError SS102 if the first objective is no quality of this task.

    Args:
        function: the user's own quality, if there is one.
    """
    quality = config.objectives[0]
    if (quality == USER_QUALITY) != (function is not None):
        raise problem(
            "SS102",
            f"objectives[0] {quality!r}: objective '{USER_QUALITY}' and a function search(..., {USER_QUALITY}=f) need "
            "each other.",
        )
    allowed = (USER_QUALITY,) if function is not None else qualities_of(task)
    if quality not in allowed:
        raise problem(
            "SS102",
            f"objectives[0] {quality!r} is not a quality for {task.name}.",
            got=quality,
            allowed=allowed,
        )


def check_values(config: RunConfig, network: Network) -> None:
    """Raise InputError SS102 if a quality does not depend on the network's outputs."""
    quality = config.objectives[0]
    if quality_class(quality).is_blind(network):
        single = network.values == 1
        values = (
            "one number a position" if single else "values that are no distribution (several labels, or regression)"
        )
        raise problem(
            "SS102",
            f"objectives[0] {quality!r}: the network's outputs are {values}, and {quality} would not change with them.",
            fix=f"Use distance: objectives: [distance, {', '.join(config.objectives[1:])}].",
        )


def check_propagation(config: RunConfig, network: Network) -> None:
    """Raise InputError SS102 if errors are propagated through blocks that do not follow one another in a chain."""
    if config.pruners.propagate != "dense" and not network.blockwise:
        raise problem(
            "SS102",
            f"pruners.propagate {config.pruners.propagate!r}: blocks of {network.model_type} do not follow one "
            "another in a chain.",
            fix="Use propagate: dense.",
        )


def check_objectives(config: RunConfig, space: Space) -> None:
    """Raise InputError SS109 for an objective that is equal for all candidates; costs not measured yet are skipped."""
    smallest = space.costs.named(space.smallest.levels)
    for cost in config.objectives[1:]:
        if cost in smallest and smallest[cost] == space.dense_costs[cost]:
            varying = [name for name in smallest if smallest[name] != space.dense_costs[name]]
            raise problem(
                "SS109",
                f"objective {cost!r} is the same for every candidate of this space.",
                fix=f"Costs that vary: {', '.join(varying)}.",
            )


def check_labels(config: RunConfig, network: Network, samples: Mapping[str, Samples]) -> None:
    """Raise InputError SS212 if labels are needed and missing, or are no classes of the network."""
    needed = ["selection"] if quality_class(config.objectives[0]).needs_labels else []
    if "test" in samples and not network.task.generates:
        needed.append("test")
    for role, data in samples.items():
        if data.labels is None and role in needed:
            raise problem(
                "SS212", f"{role} data have no labels.", fix=f"Set data.{role}.label, or give a folder a class."
            )
        if data.labels is not None and len(data.labels):
            low, high = int(data.labels.min()), int(data.labels.max())
            if low < 0 or high >= network.values:
                raise problem(
                    "SS212",
                    f"{role} data have labels from {low} to {high}; the network has {network.values} classes.",
                    fix=f"Labels are integers from 0 to {network.values - 1}.",
                )


def check_disjoint(samples: Mapping[str, Samples]) -> None:
    """Raise InputError SS205 if a sample is in the data of two roles: scores would be optimistic."""
    role_by_hash: dict[bytes, str] = {}
    for role, data in samples.items():
        for row in next(iter(data.arrays.values())):
            key = hashlib.sha256(np.ascontiguousarray(row).tobytes()).digest()
            other = role_by_hash.setdefault(key, role)
            # Without training data of its own, training uses calibration data anyway.
            if other != role and {other, role} != {"calibration", "training"}:
                raise problem(
                    "SS205",
                    f"{other} and {role} data share samples; scores would be optimistic.",
                    fix=f"Give data.{role} other data, or set data.allow_shared: true.",
                )
