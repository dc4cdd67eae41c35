"""From a recipe's unit families to the units and cost parts of one architecture."""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Sequence
from dataclasses import replace

from sparsesearch.config import Grid, RunConfig, UnitConfig
from sparsesearch.errors import InputError
from sparsesearch.models.architecture import Architecture, Linear, Sublayer
from sparsesearch.space import Part, Space, Unit

_SUBLAYER_KIND = {"ffn_width": "ffn", "drop_ffn": "ffn", "kv_groups": "attention", "drop_attention": "attention"}


def build_space(config: RunConfig, architecture: Architecture, bytes_per_weight: int) -> Space:
    """The space that a recipe opens on an architecture, with nominal nonzeros (every kept weight counts).

    Raises InputError SS103 (target matches nothing), SS104 (indivisible width), SS106, SS107 (two families on one
    module) or SS108 (nothing to choose).
    """
    units: dict[str, Unit] = {}
    for index, family in enumerate(config.units):
        for unit in _expand(family, f"units[{index}]", architecture):
            if unit.name in units:
                raise InputError(
                    "SS107", f"units[{index}] and an earlier family both set {unit.kind} of {unit.module}.",
                    "Remove one, or make their targets disjoint.",
                )  # fmt: skip
            units[unit.name] = unit
    ordered = sorted(units.values(), key=lambda u: (u.block, list(units).index(u.name)))
    parts = build_parts(architecture, ordered, config.context, bytes_per_weight)
    space = Space(tuple(ordered), tuple(parts), bytes_per_weight, config.parsed_limits())
    space.check()
    return space


def _expand(family: UnitConfig, where: str, architecture: Architecture) -> list[Unit]:
    modules: dict[str, tuple[int, Linear | Sublayer]]
    if family.kind == "sparsity":
        modules = {x.path: (s.block, x) for s in architecture.sublayers for x in s.linears}
    else:
        kind = _SUBLAYER_KIND[family.kind]
        modules = {s.path: (s.block, s) for s in architecture.sublayers if s.kind == kind}
    count = len(architecture.blocks)
    out_of_range = [b for b in family.protect if not -count <= b < count]
    if out_of_range:
        raise InputError("SS103", f"{where}.protect: {out_of_range[0]} is not a block; the model has {count}.")
    protected = {b % count for b in family.protect}
    matched = [path for path in modules if _matches(path, family.target)]
    if not matched:
        near = difflib.get_close_matches(f"model.{family.target.removeprefix('model.')}", modules, n=1, cutoff=0)
        raise InputError(
            "SS103",
            f"{where}.target {family.target!r} matched 0 of {len(modules)} modules that {family.kind} applies to.",
            f"Nearest: {near[0]}" if near else "",
        )
    chosen = [(path, *modules[path]) for path in matched if modules[path][0] not in protected]
    units = [_unit(family, where, path, block, module, architecture.hidden) for path, block, module in chosen]
    # With one KV group, say, there is nothing to choose.
    return [unit for unit in units if len(unit.levels) > 1]


def _matches(path: str, target: str) -> bool:
    return fnmatch.fnmatchcase(path, target) or fnmatch.fnmatchcase(path, f"model.{target}")


def _unit(family: UnitConfig, where: str, path: str, block: int, module: Linear | Sublayer, hidden: int) -> Unit:
    if isinstance(module, Linear):
        total = module.rows * module.columns
        kept = _sparsity_levels(family, total, hidden)
    elif family.kind.startswith("drop_"):
        total, kept = 1, [0]
    else:
        total = module.elements
        kept = _width_levels(family, f"{where} {path}", total)
    levels = (total, *sorted({k for k in kept if k < total}, reverse=True))
    return Unit(path, family.kind, block, total, levels)


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


def _width_levels(family: UnitConfig, where: str, total: int) -> list[int]:
    levels, align = family.levels, family.align
    if isinstance(levels, Grid):
        raise InputError("SS104", f"{where}: a grid of weights is for kind sparsity, not {family.kind}.")
    if isinstance(levels, list):
        for fraction in levels:
            exact = fraction * total
            if not math.isclose(exact / align, round(exact / align), abs_tol=1e-6):
                below = math.floor(exact / align) * align
                raise InputError(
                    "SS104", f"{where}: {fraction:g} x {total} = {exact:g} is not a multiple of align={align}.",
                    f"Use {below / total:.4g} ({below}) or {(below + align) / total:.4g} ({below + align}).",
                )  # fmt: skip
        kept = [round(fraction * total) for fraction in levels]
    else:
        low = max(family.min_kept * total, 1)
        count = levels or (total - math.ceil(low) if family.kind == "kv_groups" else 8)
        kept = [
            min(math.ceil((total - (total - low) * i / count) / align - 1e-9) * align, total)
            for i in range(1, count + 1)
        ]
    if any(k == 0 for k in kept):
        raise InputError("SS104", f"{where}: a level keeps nothing.", "Use drop_attention or drop_ffn for that.")
    return kept


def build_parts(architecture: Architecture, units: Sequence[Unit], context: int, bytes_per_weight: int) -> list[Part]:
    """Cost parts of every parameter, and of attention over `context` tokens, with nominal nonzeros."""
    by_name = {unit.name: unit for unit in units}
    parts, seen = [], set()
    for sublayer in architecture.sublayers:
        for part in _sublayer_parts(architecture, sublayer, by_name, context, bytes_per_weight):
            parts.append(part)
            seen.add(part.name)
    for name, size in architecture.sizes.items():
        if name not in seen:
            macs = size if name == architecture.head else 0
            parts.append(Part(name, (size,), ((size,),), (macs,), (0,)))
    return parts


def _sublayer_parts(
    architecture: Architecture, sublayer: Sublayer, units: dict[str, Unit], context: int, bytes_per_weight: int
) -> list[Part]:
    attention = sublayer.kind == "attention"
    cut, drop = units.get(sublayer.cut_unit), sublayer.drop_unit
    kept = cut.levels if cut else (sublayer.elements,)
    common = {"cut": cut.name if cut else None, "drop": drop if drop in units else None}
    none = tuple(0 for _ in kept)
    parts = []
    for linear in sublayer.linears:
        other = linear.columns if linear.cut_axis == "rows" else linear.rows
        params = tuple(k * linear.cut_span * other for k in kept)
        sparsity = units.get(f"{linear.path}.sparsity")
        weights = sparsity.levels if sparsity else (1,)
        total = weights[0]
        nonzeros = tuple(tuple(p * w // total for p in params) for w in weights)
        part = Part(f"{linear.path}.weight", params, nonzeros, params, none, **common)
        parts.append(replace(part, sparsity=sparsity.name) if sparsity else part)
        if linear.bias:
            cut_rows = linear.cut_axis == "rows"
            sizes = tuple(k * linear.cut_span if cut_rows else linear.rows for k in kept)
            parts.append(Part(f"{linear.path}.bias", sizes, (sizes,), none, none, **common))
    whole = {"cut": None, "drop": common["drop"]}
    for name in (f"{sublayer.norm}.weight", *sublayer.extras):
        size = architecture.sizes[name]
        parts.append(Part(name, (size,), ((size,),), (0,), (0,), **whole))
    if attention:
        heads = tuple(k * sublayer.queries * sublayer.head_dim for k in kept)
        cache = tuple(2 * k * sublayer.head_dim * context * bytes_per_weight for k in kept)
        name = f"{sublayer.path} (attention over the context)"
        parts.append(Part(name, none, (none,), tuple(2 * h * context for h in heads), cache, **common))
    return parts
