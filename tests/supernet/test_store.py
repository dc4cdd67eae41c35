"""The level store: what is read is what was built, builds resume, wrong or damaged stores are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import kinds_of, launched

from sparsesearch.calibration import BlockPass
from sparsesearch.config import PrunerConfig
from sparsesearch.errors import EnvironmentProblem
from sparsesearch.models import load_model
from sparsesearch.pruning import Layer, unstructured
from sparsesearch.supernet import LevelStore, StoreBuilder
from sparsesearch.supernet.propagate import propagated_weights
from sparsesearch.supernet.store import UnitFiles, estimated_bytes, write_sparse

Make = Callable[[str], Path]
BLOCKS = 3


def builder(directory: Path, work: Path, **changes: Any) -> tuple[StoreBuilder, BlockPass, Any]:
    launch = launched(directory, **{"units": kinds_of(directory), **changes})
    model = load_model(directory, torch.float32)
    build = StoreBuilder(
        model, launch.network, launch.space, launch.config.pruners, work, work / "statistics", torch.float32
    )
    blocks = BlockPass(model, launch.network, launch.samples["calibration"], work / "statistics", 4)
    return build, blocks, launch


def build_all(directory: Path, work: Path, **changes: Any) -> tuple[StoreBuilder, Any]:
    build, blocks, launch = builder(directory, work, **changes)
    mode = launch.config.pruners.propagate
    for block in range(BLOCKS):
        blocks.collect(block)
        build.build(block)
        if mode == "dense":
            blocks.advance(block)
        else:
            with propagated_weights(build.composer, mode, block):
                blocks.advance(block)
    blocks.close()
    build.finish(launch.store_key)
    return build, launch


def files(work: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(work.rglob("*")) if p.is_file() and "statistics" not in str(p)}


@pytest.fixture(scope="module")
def store(family_dir: Make, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StoreBuilder, Any]:
    work = tmp_path_factory.mktemp("store")
    return (work, *build_all(family_dir("llama"), work))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_reload_equals_memory(tmp_path: Path, dtype: torch.dtype) -> None:
    launch_unit = launched("demo", units=[{"kind": "sparsity", "levels": ["30%", "90%"], "target": "*.0.*.q_proj"}])
    unit = launch_unit.space.units[0]
    levels = torch.randn(2, 192, 192) * (torch.rand(2, 192, 192) < 0.3)
    write_sparse(tmp_path / "units" / f"{unit.name}.safetensors", levels, dtype)
    read = UnitFiles(tmp_path)
    for level in (1, 2):
        assert torch.equal(read.sparse(unit, level, (192, 192)), levels[level - 1].to(dtype))


def test_stored_levels_are_what_the_pruner_made(store: tuple[Path, StoreBuilder, Any], family_dir: Make) -> None:
    work, build, launch = store
    from sparsesearch.calibration.statistics import load_statistics

    model = load_model(family_dir("llama"), torch.float32)
    for unit in launch.space.units:
        if unit.kind != "sparsity":
            continue
        matrix = launch.network.matrices[f"{unit.module}.weight"]
        weight = model.get_submodule(unit.module).weight
        inputs = load_statistics(work / "statistics", unit.block)[matrix.input_key].group(0)
        made = unstructured("sparsegpt")(Layer(weight, inputs), unit.levels[1:], PrunerConfig()).weights
        uncut = [0] * (len(build.composer.counts(matrix.name)) - 1)
        for level in range(1, len(unit.levels)):
            assert torch.equal(build.composer.tensor(matrix.name, (level, *uncut)), made[level - 1])


def test_nonzeros_in_the_index_are_counted_ones(store: tuple[Path, StoreBuilder, Any]) -> None:
    work, build, launch = store
    opened = LevelStore.open(work, launch.store_key)
    for name in launch.network.matrices:
        counted = [int(torch.count_nonzero(build.composer.tensor(name, c))) for c in build.composer.combinations(name)]
        assert [count for row in opened.nonzeros[name] for count in row] == counted


def test_an_interrupted_build_ends_in_the_same_bytes(
    store: tuple[Path, StoreBuilder, Any], family_dir: Make, tmp_path: Path
) -> None:
    build, blocks, _ = builder(family_dir("llama"), tmp_path)
    blocks.collect(0)
    build.build(0)
    first = (tmp_path / "blocks" / "000.json").stat().st_mtime_ns
    # Killed here: block 1 has its statistics and one unit file, no entry.
    blocks.advance(0)
    blocks.collect(1)
    (tmp_path / "units" / "model.layers.1.mlp.ffn_width.safetensors").write_bytes(b"half")
    build_all(family_dir("llama"), tmp_path)
    assert (tmp_path / "blocks" / "000.json").stat().st_mtime_ns == first
    assert files(tmp_path) == files(store[0])


def test_another_key_is_refused(store: tuple[Path, StoreBuilder, Any]) -> None:
    work, _, launch = store
    with pytest.raises(EnvironmentProblem, match=r"SS306 .* built from other weights"):
        LevelStore.open(work, {**launch.store_key, "weights": "something else"})


def test_a_damaged_file_is_refused(family_dir: Make, tmp_path: Path) -> None:
    _, launch = build_all(family_dir("llama"), tmp_path, units=[{"kind": "kv_groups"}])
    path = next((tmp_path / "units").iterdir())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(EnvironmentProblem, match=r"SS306 .*safetensors is damaged"):
        LevelStore.open(tmp_path, launch.store_key)


def test_the_disk_estimate_is_close(store: tuple[Path, StoreBuilder, Any]) -> None:
    work, _, launch = store
    real = sum(p.stat().st_size for p in (work / "units").iterdir())
    headers = 2000 * len(launch.space.units)
    assert abs(estimated_bytes(launch.space, launch.network, 4) - real) < 0.05 * real + headers


def test_expectation_over_one_level_and_dense_lies_between_them(family_dir: Make, tmp_path: Path) -> None:
    from sparsesearch.supernet.propagate import propagated_weight

    units = [{"kind": "sparsity", "levels": ["75%"]}]
    build, _ = build_all(family_dir("llama"), tmp_path, units=units)
    for name in build.network.matrices:
        dense, level = build.composer.tensor(name, (0,)), build.composer.tensor(name, (1,))
        kept = build.composer.kept_fraction(name, (1,))
        expected = (dense + kept * level) / (1 + kept)
        assert torch.allclose(propagated_weight(build.composer, name, "expectation"), expected, atol=1e-6)
        assert torch.equal(propagated_weight(build.composer, name, "sequential"), level)


@pytest.mark.parametrize("mode", ["sequential", "expectation"])
def test_propagation_changes_later_blocks_only_and_leaves_the_model_dense(
    store: tuple[Path, StoreBuilder, Any], family_dir: Make, tmp_path: Path, mode: Any
) -> None:
    pruners = PrunerConfig(propagate=mode).model_dump()
    build, _ = build_all(family_dir("llama"), tmp_path, pruners=pruners)
    dense, other = files(store[0]), files(tmp_path)
    changed = {name for name in dense if name.endswith(".safetensors") and dense[name] != other[name]}
    assert changed
    assert not any(".layers.0." in name for name in changed)
    fresh = load_model(family_dir("llama"), torch.float32)
    for name in build.network.matrices:
        assert torch.equal(build.model.get_parameter(name), fresh.get_parameter(name))
