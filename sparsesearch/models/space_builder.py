"""Builds the space of one network: the units that a recipe's unit families open on it, and their levels."""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from sparsesearch.config import Grid, RunConfig, UnitConfig
from sparsesearch.errors import SparseSearchError, problem
from sparsesearch.models.network import Cut, Drop, Matrix, Network, sparsity_module
from sparsesearch.models.parameter_costs import build_parts
from sparsesearch.space import Space, Unit
from sparsesearch.space.cost import MEASURED
from sparsesearch.space.unit import KINDS

# A part of a network that a unit can change.
Module = Matrix | Cut | Drop
# By a unit's name: its levels in an earlier run, and the indices of the levels to refine around.
Coarse = Mapping[str, tuple[Sequence[int], Collection[int]]]


def build_space(config: RunConfig, network: Network, bytes_per_weight: int, coarse: Coarse | None = None) -> Space:
    """Build the space that a recipe opens on a network, with nominal nonzeros (every kept weight counts).

    The space has no measured costs yet, and no limits on them.

    Args:
        coarse: levels of an earlier run by unit; these units get levels around its indices instead of the recipe's.

    Raises InputError SS103 (target matches nothing), SS104 (indivisible width), SS106, SS107 (two families on one
    module) or SS108 (nothing to choose).
    """
    units: dict[str, Unit] = {}
    for index, family in enumerate(config.units):
        for unit in _expand(family, f"units[{index}]", network, coarse or {}):
            if unit.name in units:
                raise problem(
                    "SS107",
                    f"units[{index}] and an earlier family both set {unit.kind} of {unit.module}.",
                    fix="Remove one, or make their targets disjoint.",
                )
            units[unit.name] = unit
    _check_heads(units)
    ordered = sorted(units.values(), key=lambda u: (u.block, list(units).index(u.name)))
    parts = build_parts(network, ordered, config.context, bytes_per_weight, config.pruners.compensate)
    limits = tuple(limit for limit in config.parsed_limits() if limit.cost not in MEASURED)
    space = Space(tuple(ordered), tuple(parts), bytes_per_weight, limits)
    space.check()
    return space


def _check_heads(units: Mapping[str, Unit]) -> None:
    for unit in units.values():
        if unit.kind == "q_heads" and f"{unit.module}.kv_groups" in units:
            raise problem(
                "SS107",
                f"kv_groups and q_heads both cut {unit.module}: a KV group takes its query heads with it.",
                fix="Remove one, or make their targets disjoint.",
            )


def modules_of(kind: str, network: Network) -> dict[str, Module]:
    """Return the parts of a network that a unit kind applies to, by the module path that targets match."""
    if kind == "sparsity":
        return {sparsity_module(m): m for m in network.matrices.values()}
    if kind.startswith("drop_"):
        return {d.path: d for d in network.drops.values() if f"drop_{d.kind}" == kind}
    return {c.path: c for c in network.cuts.values() if c.kind == kind}


def _expand(family: UnitConfig, key: str, network: Network, coarse: Coarse) -> list[Unit]:
    modules = modules_of(family.kind, network)
    count = len(network.blocks)
    out_of_range = [b for b in family.protect if not -count <= b < count]
    if out_of_range:
        raise problem("SS103", f"{key}.protect: {out_of_range[0]} is not a block; the model has {count}.")
    protected = {b % count for b in family.protect}
    if family.align == "nemotron_nas":
        _check_nemotron_nas(family, key, network)
    matched = [path for path in modules if _matches(path, family.target)]
    if not matched:
        raise _nothing_matched(family, key, network, modules)
    units = [_unit(family, key, p, modules[p], network) for p in matched if modules[p].block not in protected]
    # A unit with one level, such as a single KV group, leaves no choice.
    units = [unit for unit in units if len(unit.levels) > 1]
    aligns = {unit.name: _align(family, modules[unit.module]) for unit in units}
    return [_refine(u, *coarse[u.name], aligns[u.name]) if u.name in coarse else u for u in units]


def _align(family: UnitConfig, module: Module) -> int:
    return math.lcm(family.multiple, module.align) if isinstance(module, Cut) else 1


def _check_nemotron_nas(family: UnitConfig, key: str, network: Network) -> None:
    if network.model_type != "llama":
        raise problem("SS104", f"{key}.align: nemotron_nas needs model_type llama, not {network.model_type}.")
    for cut in network.cuts.values():
        if cut.kind == family.kind and cut.elements % family.multiple:
            raise problem(
                "SS104",
                f"{key}.align: nemotron_nas needs widths in multiples of {family.multiple}, and the dense "
                f"{cut.path} has {cut.elements}.",
                fix="Use a number for align, and another export form.",
            )


def _refine(unit: Unit, levels: Sequence[int], used: Collection[int], align: int) -> Unit:
    """Return the unit with the used levels, those half-way to their neighbours, the dense and the smallest level."""
    kept = {levels[0], levels[-1]}
    for level in used:
        kept.add(levels[level])
        for neighbour in (level - 1, level + 1):
            if 0 <= neighbour < len(levels):
                kept.add(round((levels[level] + levels[neighbour]) / 2 / align) * align)
    return replace(unit, levels=tuple(sorted((k for k in kept if levels[-1] <= k <= levels[0]), reverse=True)))


def _matches(path: str, target: str) -> bool:
    return fnmatch.fnmatchcase(path, target) or fnmatch.fnmatchcase(path, f"*.{target}")


def _nothing_matched(family: UnitConfig, key: str, network: Network, modules: dict[str, Module]) -> SparseSearchError:
    """Return the InputError SS103 that says why a family's target matches no module."""
    if not modules:
        kinds = sorted({"sparsity", *(c.kind for c in network.cuts.values())})
        kinds += sorted({f"drop_{d.kind}" for d in network.drops.values()})
        return problem(
            "SS103",
            f"{key}.kind {family.kind}: {network.model_type} has nothing of that kind.",
            fix=f"It has: {', '.join(kinds)}. {' '.join(f'{reason}.' for reason in network.unsearchable)}".strip(),
        )
    reasons = [r for r in network.unsearchable if any(_matches(path, family.target) for path in _layers_in(r))]
    if family.kind == "channels" and reasons:
        return problem(
            "SS103",
            f"{key}.target {family.target!r}: {reasons[0]}.",
            fix=f"channels applies to, for example: {next(iter(modules))}",
        )
    other_kinds = [
        k for k in KINDS if k != family.kind and any(_matches(p, family.target) for p in modules_of(k, network))
    ]
    if other_kinds:
        return problem(
            "SS103",
            f"{key}.target {family.target!r} matches modules of another kind ({', '.join(other_kinds)}), "
            f"none that {family.kind} applies to.",
            fix=f"{family.kind} applies to, for example: {next(iter(modules))}",
        )
    head = network.blocks[0].split(".")[0]
    near = difflib.get_close_matches(f"{head}.{family.target.removeprefix(f'{head}.')}", modules, n=1, cutoff=0)
    return problem(
        "SS103",
        f"{key}.target {family.target!r} matched 0 of {len(modules)} modules that {family.kind} applies to.",
        fix=f"Nearest: {near[0]}" if near else "",
    )


def _layers_in(reason: str) -> list[str]:
    """Return the layers that a reason of `Network.unsearchable` names."""
    return reason.removeprefix("channels of ").partition(" cannot be cut")[0].replace(" and ", ", ").split(", ")


def _unit(family: UnitConfig, key: str, path: str, module: Module, network: Network) -> Unit:
    if isinstance(module, Matrix):
        total = module.size
        kept = _sparsity_levels(family, total, network.hidden)
    elif isinstance(module, Drop):
        total, kept = 1, [0]
    else:
        total = module.elements
        kept = _width_levels(family, f"{key} {path}", module)
    levels = (total, *sorted({k for k in kept if k < total}, reverse=True))
    if isinstance(module, Cut) and len(levels) == 1 and total > module.minimum and family.multiple > 1:
        raise problem(
            "SS104",
            f"{key} {path}: align={family.align} leaves no level below its {total} elements.",
            fix="Use a smaller align.",
        )
    return Unit(path, family.kind, module.block, total, levels)


def _sparsity_levels(family: UnitConfig, total: int, hidden: int) -> list[int]:
    levels = 16 if family.levels is None else family.levels
    if isinstance(levels, Grid):
        s = levels.around
        step = levels.step or int(0.5 * min(s, 1 - s) / levels.radius * hidden**2)
        centre = math.floor(total * (1 - s) + 1e-6)
        return [min(max(centre + i * step, 0), total) for i in range(-levels.radius, levels.radius + 1)]
    if isinstance(levels, int):
        levels = [family.max_sparsity * i / levels for i in range(1, levels + 1)]
    # Rounding down: a uniform genome at sparsity s then meets the limit sparsity>=s exactly.
    return [math.floor(total * (1 - s) + 1e-6) for s in levels]


def _width_levels(family: UnitConfig, key: str, cut: Cut) -> list[int]:
    levels, align, total = family.levels, _align(family, cut), cut.elements
    if isinstance(levels, Grid):
        raise problem("SS104", f"{key}: a grid of weights needs kind sparsity, not {family.kind}.")
    if isinstance(levels, list):
        if family.align == "nemotron_nas":
            return [max(round(fraction * total / align), 1) * align for fraction in levels]
        for fraction in levels:
            exact = fraction * total
            if not math.isclose(exact / align, round(exact / align), abs_tol=1e-6):
                below = math.floor(exact / align) * align
                raise problem(
                    "SS104",
                    f"{key}: {fraction:g} x {total} = {exact:g} is not a multiple of align={align}.",
                    fix=f"Use {below / total:.4g} ({below}) or {(below + align) / total:.4g} ({below + align}).",
                )
        kept = [round(fraction * total) for fraction in levels]
        too_few = [k for k in kept if 0 < k < cut.minimum]
        if too_few:
            raise problem(
                "SS110",
                f"{key}: a level keeps {too_few[0]} of {total}, but the router picks {cut.minimum}.",
                fix=f"Keep at least {cut.minimum / total:.4g}.",
            )
    else:
        low = max(family.min_kept * total, cut.minimum)
        count = levels or (
            total - math.ceil(low) if family.kind in ("kv_groups", "q_heads", "experts", "kernel") else 8
        )
        kept = [
            min(math.ceil((total - (total - low) * i / count) / align - 1e-9) * align, total)
            for i in range(1, count + 1)
        ]
    if any(k == 0 for k in kept):
        raise problem("SS104", f"{key}: a level keeps nothing.", fix="Use drop_attention or drop_ffn for that.")
    return kept
