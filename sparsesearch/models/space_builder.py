"""From a recipe's unit families to the units and cost parts of one network."""

from __future__ import annotations

import difflib
import fnmatch
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from sparsesearch.config import Grid, RunConfig, UnitConfig
from sparsesearch.errors import SparseSearchError, problem
from sparsesearch.models.network import Attention, Cut, Drop, Matrix, Network, Slot
from sparsesearch.space import Part, Space, Unit
from sparsesearch.space.cost import MEASURED
from sparsesearch.space.unit import KINDS

Module = Matrix | Cut | Drop
# By a unit's name: its levels in an earlier run, and the indices of those that matter.
Coarse = Mapping[str, tuple[Sequence[int], Collection[int]]]


def build_space(config: RunConfig, network: Network, bytes_per_weight: int, coarse: Coarse | None = None) -> Space:
    """The space that a recipe opens on a network, with nominal nonzeros (every kept weight counts).

    Costs that have to be measured are not known yet, and limits on them left out.

    Args:
        coarse: units that it names get levels around those that matter, in place of the recipe's.

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


def sparsity_module(matrix: Matrix) -> str:
    """The module name that a matrix's sparsity unit is about."""
    return matrix.name.removesuffix(".weight")


def sparsity_unit_name(matrix: Matrix) -> str:
    """Return the name of a matrix's sparsity unit, as `Unit.name` has it."""
    return f"{sparsity_module(matrix)}.sparsity"


def modules_of(kind: str, network: Network) -> dict[str, Module]:
    """What a unit kind applies to in a network, by the module name that targets match."""
    if kind == "sparsity":
        return {sparsity_module(m): m for m in network.matrices.values()}
    if kind.startswith("drop_"):
        return {d.path: d for d in network.drops.values() if f"drop_{d.kind}" == kind}
    return {c.path: c for c in network.cuts.values() if c.kind == kind}


def _expand(family: UnitConfig, where: str, network: Network, coarse: Coarse) -> list[Unit]:
    modules = modules_of(family.kind, network)
    count = len(network.blocks)
    out_of_range = [b for b in family.protect if not -count <= b < count]
    if out_of_range:
        raise problem("SS103", f"{where}.protect: {out_of_range[0]} is not a block; the model has {count}.")
    protected = {b % count for b in family.protect}
    if family.align == "nemotron_nas":
        _check_nemotron_nas(family, where, network)
    matched = [path for path in modules if _matches(path, family.target)]
    if not matched:
        raise _nothing_matched(family, where, network, modules)
    units = [_unit(family, where, p, modules[p], network) for p in matched if modules[p].block not in protected]
    # With one KV group, say, there is nothing to choose.
    units = [unit for unit in units if len(unit.levels) > 1]
    aligns = {unit.name: _align(family, modules[unit.module]) for unit in units}
    return [_refined(u, *coarse[u.name], aligns[u.name]) if u.name in coarse else u for u in units]


def _align(family: UnitConfig, module: Module) -> int:
    return math.lcm(family.multiple, module.align) if isinstance(module, Cut) else 1


def _check_nemotron_nas(family: UnitConfig, where: str, network: Network) -> None:
    if network.model_type != "llama":
        raise problem("SS104", f"{where}.align: nemotron_nas is for model_type llama, not {network.model_type}.")
    for cut in network.cuts.values():
        if cut.kind == family.kind and cut.elements % family.multiple:
            raise problem(
                "SS104",
                f"{where}.align: nemotron_nas has widths in multiples of {family.multiple}, and the dense "
                f"{cut.path} has {cut.elements}.",
                fix="Use a number for align, and another export form.",
            )


def _refined(unit: Unit, levels: Sequence[int], used: Collection[int], align: int) -> Unit:
    """The unit with the levels that are used, those half-way to their neighbours, dense and the smallest."""
    kept = {levels[0], levels[-1]}
    for here in used:
        kept.add(levels[here])
        for beside in (here - 1, here + 1):
            if 0 <= beside < len(levels):
                kept.add(round((levels[here] + levels[beside]) / 2 / align) * align)
    return replace(unit, levels=tuple(sorted((k for k in kept if levels[-1] <= k <= levels[0]), reverse=True)))


def _matches(path: str, target: str) -> bool:
    return fnmatch.fnmatchcase(path, target) or fnmatch.fnmatchcase(path, f"*.{target}")


def _nothing_matched(family: UnitConfig, where: str, network: Network, modules: dict[str, Module]) -> SparseSearchError:
    if not modules:
        kinds = sorted({"sparsity", *(c.kind for c in network.cuts.values())})
        kinds += sorted({f"drop_{d.kind}" for d in network.drops.values()})
        return problem(
            "SS103",
            f"{where}.kind {family.kind}: {network.model_type} has nothing of that kind.",
            fix=f"It has: {', '.join(kinds)}. {' '.join(f'{reason}.' for reason in network.limits)}".strip(),
        )
    tied = [reason for reason in network.limits if any(_matches(path, family.target) for path in _layers_in(reason))]
    if family.kind == "channels" and tied:
        return problem(
            "SS103",
            f"{where}.target {family.target!r}: {tied[0]}.",
            fix=f"channels applies to, for example: {next(iter(modules))}",
        )
    other = [k for k in KINDS if k != family.kind and any(_matches(p, family.target) for p in modules_of(k, network))]
    if other:
        return problem(
            "SS103",
            f"{where}.target {family.target!r} matches modules of another kind ({', '.join(other)}), "
            f"none that {family.kind} applies to.",
            fix=f"{family.kind} applies to, for example: {next(iter(modules))}",
        )
    head = network.blocks[0].split(".")[0]
    near = difflib.get_close_matches(f"{head}.{family.target.removeprefix(f'{head}.')}", modules, n=1, cutoff=0)
    return problem(
        "SS103",
        f"{where}.target {family.target!r} matched 0 of {len(modules)} modules that {family.kind} applies to.",
        fix=f"Nearest: {near[0]}" if near else "",
    )


def _layers_in(reason: str) -> list[str]:
    return reason.removeprefix("channels of ").partition(" cannot be cut")[0].replace(" and ", ", ").split(", ")


def _unit(family: UnitConfig, where: str, path: str, module: Module, network: Network) -> Unit:
    if isinstance(module, Matrix):
        total = module.size
        kept = _sparsity_levels(family, total, network.hidden)
    elif isinstance(module, Drop):
        total, kept = 1, [0]
    else:
        total = module.elements
        kept = _width_levels(family, f"{where} {path}", module)
    levels = (total, *sorted({k for k in kept if k < total}, reverse=True))
    if isinstance(module, Cut) and len(levels) == 1 and total > module.minimum and family.multiple > 1:
        raise problem(
            "SS104",
            f"{where} {path}: align={family.align} leaves no level below its {total} elements.",
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


def _width_levels(family: UnitConfig, where: str, cut: Cut) -> list[int]:
    levels, align, total = family.levels, _align(family, cut), cut.elements
    if isinstance(levels, Grid):
        raise problem("SS104", f"{where}: a grid of weights is for kind sparsity, not {family.kind}.")
    if isinstance(levels, list):
        if family.align == "nemotron_nas":
            return [max(round(fraction * total / align), 1) * align for fraction in levels]
        for fraction in levels:
            exact = fraction * total
            if not math.isclose(exact / align, round(exact / align), abs_tol=1e-6):
                below = math.floor(exact / align) * align
                raise problem(
                    "SS104",
                    f"{where}: {fraction:g} x {total} = {exact:g} is not a multiple of align={align}.",
                    fix=f"Use {below / total:.4g} ({below}) or {(below + align) / total:.4g} ({below + align}).",
                )
        kept = [round(fraction * total) for fraction in levels]
        too_few = [k for k in kept if 0 < k < cut.minimum]
        if too_few:
            raise problem(
                "SS110",
                f"{where}: a level keeps {too_few[0]} of {total}, but the router picks {cut.minimum}.",
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
        raise problem("SS104", f"{where}: a level keeps nothing.", fix="Use drop_attention or drop_ffn for that.")
    return kept


def build_parts(
    network: Network, units: Sequence[Unit], context: int, bytes_per_weight: int, compensate: bool = False
) -> list[Part]:
    """Cost parts of every parameter, and of attention over `context` tokens, with nominal nonzeros.

    Args:
        compensate: biases make up for what pruning takes from mean outputs.
    """
    by_name = {unit.name: unit for unit in units}
    slots: dict[str, list[Held]] = {}
    for cut in network.cuts.values():
        if cut.name in by_name:
            for slot in (*cut.writers, *cut.readers):
                slots.setdefault(slot.tensor, []).append((slot, by_name[cut.name], slot in cut.readers))
    biases = compensated(network, by_name) if compensate else {}
    parts = [_part(network, name, slots.get(name, []), by_name) for name in network.shapes if name not in biases]
    parts += [_bias_part(network, matrix, slots.get(matrix.name, []), by_name) for matrix in biases.values()]
    if network.rest_macs:
        parts.append(Part("layers and products that no unit touches", (0,), ((0,),), (network.rest_macs,), (0,)))
    return parts + [_attention_part(a, by_name, context, bytes_per_weight) for a in network.attentions]


# A slot, the unit that cuts it, and whether the tensor reads the elements
Held = tuple[Slot, Unit, bool]


def compensated(network: Network, units: Collection[str]) -> dict[str, Matrix]:
    """Matrices whose mean outputs the units change, by the name of the bias that makes up for it."""
    read = {slot.tensor for cut in network.cuts.values() if cut.name in units for slot in cut.readers}
    return {
        matrix.bias: matrix
        for matrix in network.matrices.values()
        if matrix.bias and (matrix.name in read or sparsity_unit_name(matrix) in units)
    }


def _bias_part(network: Network, matrix: Matrix, slots: list[Held], units: dict[str, Unit]) -> Part:
    """A compensating bias: everything that touches its matrix touches it, and cuts of the rows narrow it."""
    weight = _part(network, matrix.name, slots, units)
    sizes = []
    for kept in itertools.product(*(unit.levels for _, unit, _ in slots)):
        size = matrix.rows * matrix.groups
        for (slot, _, reads), elements in zip(slots, kept, strict=True):
            size = size if reads else slot.size(size, elements)
        sizes.append(size)
    none = tuple(0 for _ in sizes)
    nonzeros = tuple(tuple(sizes) for _ in weight.nonzeros)
    drop = next((d.name for d in network.drops.values() if d.name in units and d.takes(matrix.bias)), None)
    return Part(
        matrix.bias,
        tuple(sizes),
        nonzeros,
        none,
        none,
        weight.cuts,
        weight.sparsity,
        drop,
        free=matrix.bias not in network.shapes,
    )


def _part(network: Network, name: str, slots: list[Held], units: dict[str, Unit]) -> Part:
    shape, matrix = network.shapes[name], network.matrices.get(name)
    sizes = []
    for kept in itertools.product(*(unit.levels for _, unit, _ in slots)):
        now = list(shape)
        for (slot, _, _), elements in zip(slots, kept, strict=True):
            now[slot.axis] = slot.size(now[slot.axis], elements)
        sizes.append(now)
    params = tuple(math.prod(now) for now in sizes)
    sparsity = units.get(sparsity_unit_name(matrix)) if matrix else None
    weights = sparsity.levels if sparsity else (1,)
    drop = next((d.name for d in network.drops.values() if d.name in units and d.takes(name)), None)
    if matrix is None:
        macs = tuple(p * network.applied.get(name, 0) for p in params)
    elif matrix.layout == "experts":
        macs = tuple(matrix.positions * math.prod(now[1:]) for now in sizes)
    else:
        macs = tuple(p * matrix.positions for p in params)
    return Part(
        name,
        params,
        tuple(tuple(p * w // weights[0] for p in params) for w in weights),
        macs,
        tuple(0 for _ in params),
        cuts=tuple(unit.name for _, unit, _ in slots),
        sparsity=sparsity.name if sparsity else None,
        drop=drop,
        prunable=matrix is not None and bool(slots or sparsity or drop),
    )


def _attention_part(attention: Attention, units: dict[str, Unit], context: int, bytes_per_weight: int) -> Part:
    cut, heads = units.get(attention.cut), units.get(attention.heads)
    # Groups and query heads of each that stay, for each level of the one unit that there is.
    sizes = [(k, attention.query_heads) for k in (cut.levels if cut else (attention.elements,))]
    if heads:
        sizes = [(attention.elements, queries) for queries in heads.levels]
    keys = context if attention.keys is None else attention.keys
    none = tuple(0 for _ in sizes)
    cached = tuple((k * attention.cached + attention.cached_always) * context * bytes_per_weight for k, _ in sizes)
    macs = attention.macs * attention.queries * keys
    return Part(
        f"{attention.path} (attention over the context)",
        none,
        (none,),
        tuple(k * queries * macs // attention.query_heads for k, queries in sizes),
        cached,
        cuts=tuple(unit.name for unit in (cut, heads) if unit),
        drop=attention.drop if attention.drop in units else None,
    )
