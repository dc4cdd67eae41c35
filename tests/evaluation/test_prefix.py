"""Starting behind the blocks that candidates share changes nothing, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import Built

from sparsesearch.evaluation.prefix_cache import PrefixCache
from sparsesearch.evaluation.targets import outputs_of
from sparsesearch.space import Genome
from sparsesearch.space.sampling import random_genome

# One of each way that blocks are called.
BLOCKWISE = ["llama", "gemma3", "smollm3", "phi3", "gpt2", "opt", "gpt_neox", "mixtral", "deepseek_v3", "bert", "vit"]


def chain(built: Built, count: int = 8) -> list[Genome]:
    """Genomes that each change one unit of the one before, late blocks more often."""
    rng = np.random.default_rng(0)
    genomes = [built.space.dense, random_genome(built.space, rng)]
    for _ in range(count):
        levels = genomes[-1].levels.copy()
        unit = int(len(levels) * rng.random() ** 0.5)
        levels[unit] = rng.integers(0, built.space.max_levels[unit] + 1)
        genomes.append(Genome.of(levels))
    return genomes


@pytest.fixture(params=BLOCKWISE)
def built(request: pytest.FixtureRequest, family_dir: Callable[[str], Path], tmp_path: Path) -> Built:
    return Built(family_dir(request.param), tmp_path)


def test_outputs_are_those_of_a_whole_pass(built: Built) -> None:
    network, samples = built.launch.network, built.launch.samples["selection"]
    plain, cached = built.supernet("sliced"), built.supernet("sliced")
    cache = PrefixCache(cached.model, network, built.space, 2**30)
    for genome in chain(built):
        for rows in (slice(0, 2), slice(2, 4)):
            expected = outputs_of(plain.apply(genome), network.task, samples.rows(rows))
            model = cached.apply(genome)
            with cache.share(genome, str(rows).encode()):
                outputs = outputs_of(model, network.task, samples.rows(rows))
            assert torch.equal(outputs, expected)
    assert cache.blocks_run < cache.blocks_requested
    assert outputs_of(cached.apply(built.space.dense), network.task, samples).isfinite().all()


def test_memory_stays_within_its_bound(family_dir: Callable[[str], Path], tmp_path: Path) -> None:
    built = Built(family_dir("llama"), tmp_path)
    samples, supernet = built.launch.samples["selection"].rows(slice(0, 2)), built.supernet("sliced")
    one = 2 * 16 * 32 * 4
    for maximum in (0, one, 3 * one):
        cache = PrefixCache(supernet.model, built.launch.network, built.space, maximum)
        for genome in chain(built):
            expected: Any = outputs_of(supernet.apply(genome), built.launch.network.task, samples)
            with cache.share(genome, b"all"):
                assert torch.equal(outputs_of(supernet.model, built.launch.network.task, samples), expected)
            assert cache.bytes <= maximum
            assert cache.bytes == sum(t.nbytes for t in cache._states.values())
        assert (cache.blocks_run == cache.blocks_requested) == (maximum == 0)


def test_an_exception_leaves_the_model_whole(family_dir: Callable[[str], Path], tmp_path: Path) -> None:
    built = Built(family_dir("llama"), tmp_path)
    task, samples = built.launch.network.task, built.launch.samples["selection"].rows(slice(0, 2))
    supernet = built.supernet("sliced")
    cache = PrefixCache(supernet.model, built.launch.network, built.space, 2**30)
    expected = outputs_of(supernet.apply(built.space.dense), task, samples)
    with cache.share(built.space.dense, b"all"):
        outputs_of(supernet.model, task, samples)
    with pytest.raises(RuntimeError, match="boom"), cache.share(built.space.dense, b"all"):
        raise RuntimeError("boom")
    assert torch.equal(outputs_of(supernet.model, task, samples), expected)
