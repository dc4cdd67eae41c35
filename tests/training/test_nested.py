"""Training a supernet: gradients are those of the sub-networks, blocks alone learn what blocks do, runs go on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import make
from support import Built, kinds_of

from sparsesearch.calibration.statistics import outputs
from sparsesearch.config import RunConfig, SupernetConfig, UnitConfig
from sparsesearch.data import Samples
from sparsesearch.models import meta_model
from sparsesearch.models.load import dense_config
from sparsesearch.models.space_builder import build_space
from sparsesearch.models.tracing.trace import describe_module
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet
from sparsesearch.supernet.draws import Draws
from sparsesearch.supernet.elastic import ElasticSupernet
from sparsesearch.training import Diverged, Objective
from sparsesearch.training.activations import Activations, cache_bytes, shards, write_arguments, write_shard
from sparsesearch.training.block_local import BlockRun, LocalBlock, block_tensors, materialise_block
from sparsesearch.training.nested import NestedRun
from sparsesearch.training.objective import softened_kl
from sparsesearch.training.order import rows_at
from sparsesearch.training.weights import Weights

Make = Callable[[str], Path]
STEPS = 6


class Case:
    """A tiny model whose elements are in the order of importance already: the store's levels keep the first."""

    def __init__(self, directory: Path, work: Path) -> None:
        units = [unit for unit in kinds_of(directory) if unit["kind"] != "sparsity"]
        self.directory = directory
        self.built = Built(directory, work, units=units, pruners={"width": "prefix", "experts": "prefix"})
        self.network, self.space = self.built.launch.network, self.built.space
        self.samples = self.built.launch.samples["calibration"]

    @property
    def stitched(self) -> StitchedSupernet:
        return self.built.supernet("sliced")

    @property
    def model(self) -> Any:
        return self.stitched.materialise(self.space.dense)

    def run(self, steps: int = STEPS, dense: Any = None, **changes: Any) -> NestedRun:
        training = {"batch": 3, "learning_rate": 3e-3, "rank": 2} | changes.pop("training", {})
        options = SupernetConfig.model_validate({"kind": "sandwich", "training": training} | changes)
        weights = Weights(self.model, self.network, options.weights, options.training)
        elastic = ElasticSupernet(weights.model, self.network, self.space, weights.tensor, options.execution)
        draws = Draws(self.space, options, steps, options.training.seed)
        objective = Objective(self.network, dense or self.model, options.training)
        return NestedRun(weights, elastic, draws, objective, self.samples, options)

    def block(self, work: Path, block: int, steps: int = STEPS, **changes: Any) -> BlockRun:
        model = self.model
        write_arguments(work, model, self.network, self.samples)
        for number, start, stop in shards(len(self.samples)):
            write_shard(work, model, self.network, self.samples.rows(slice(start, stop)), number, 4)
        path = self.network.blocks[block]
        skeleton = materialise_block(meta_model(dense_config(self.directory)), path, block_tensors(model, path))
        training = {"batch": 3, "learning_rate": 3e-3, "rank": 2} | changes.pop("training", {})
        options = SupernetConfig.model_validate({"kind": "block_local", "training": training} | changes)
        local = LocalBlock(skeleton, self.network, block, Activations(work, block))
        return BlockRun(local, self.space, self.samples, options, steps)


@pytest.fixture(scope="module", params=["llama", "vit", "qwen3_moe"])
def case(request: pytest.FixtureRequest, family_dir: Make, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(family_dir(request.param), tmp_path_factory.mktemp("nested"))


def rows(run: NestedRun) -> Any:
    """Samples of the first step."""
    return rows_at(0, run.options.batch, len(run.samples), run.options.seed)


def narrowest(case: Case) -> Genome:
    return Genome.of(np.where(case.space.drops, 0, case.space.max_levels))


def test_gradients_are_the_mean_of_those_of_the_sub_networks(case: Case) -> None:
    run = case.run(training={"distill": 0.0 if case.network.task.generates else 1.0})
    some, genomes = case.samples.rows(rows(run)), run.draws.at(0)
    assert len(genomes) >= 3
    loss = run.gradients()
    stitched, expected, total = case.stitched, {}, 0.0
    for genome in genomes:
        cut = stitched.materialise(genome).requires_grad_(True)
        value = run.objective(cut, some) / len(genomes)
        value.backward()
        total += float(value.detach())
        for name, parameter in cut.named_parameters():
            if parameter.grad is not None:
                touched = name in stitched.composer.plans
                grad = stitched.composer.pad_value(name, genome, parameter.grad) if touched else parameter.grad
                expected[name] = expected.get(name, 0) + grad
    assert loss == pytest.approx(total, rel=1e-4)
    for name, parameter in run.trainee.parameters().items():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, expected[name], atol=2e-5, rtol=5e-3)


def test_the_largest_teaches_the_others_of_its_step(case: Case) -> None:
    """In-place distillation: the largest learns from the dense network, and teaches without being taught back."""
    run = case.run(distill_from="largest")
    # As if some steps were behind: the largest is no longer the dense network.
    with torch.no_grad():
        for parameter in run.trainee.parameters().values():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    some, genomes = case.samples.rows(rows(run)), run.draws.at(0)

    def logits(genome: Genome) -> torch.Tensor:
        with run.elastic.running(genome) as running:
            return case.network.task.call(running, some.inputs(run.trainee.model))

    losses = [float(value.detach()) for value in run.nested_losses(rows(run), genomes)]
    largest = logits(case.space.dense).detach()
    assert losses[0] == pytest.approx(
        float(softened_kl(largest, outputs(case.model, case.network, some), 1.0)), rel=1e-4
    )
    for value, genome in zip(losses[1:], genomes[1:], strict=True):
        assert value == pytest.approx(float(softened_kl(logits(genome), largest, 1.0)), rel=1e-4)
    _, smallest, *_ = run.nested_losses(rows(run), genomes)
    smallest.backward()
    cut_away = [n for n, p in run.trainee.parameters().items() if p.grad is not None and "mlp" in n and p.ndim == 2]
    for name in cut_away[:1]:
        grad = run.trainee.parameters()[name].grad
        assert grad is not None
        assert not grad.all()


@pytest.mark.parametrize("weights", ["full", "lora"])
@pytest.mark.parametrize("execution", ["sliced", "masked"])
def test_training_makes_small_networks_better(case: Case, weights: str, execution: str) -> None:
    rate = {"full": 1e-2, "lora": 3e-2}[weights]
    run = case.run(30, weights=weights, execution=execution, training={"learning_rate": rate, "rank": 8})
    before = {n: p.detach().clone() for n, p in run.trainee.model.named_parameters()}
    first = [float(v.detach()) for v in run.nested_losses(rows(run), [narrowest(case)])]
    run.run(30)
    last = [float(v.detach()) for v in run.nested_losses(rows(run), [narrowest(case)])]
    assert last[0] < 0.9 * first[0]
    full = next(run.nested_losses(rows(run), [case.space.dense]))
    merged = run.trainee.merge()
    moved = {n for n, p in merged.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    if weights == "lora":
        assert moved <= set(case.network.matrices)
    expected = run.objective(merged, case.samples.rows(rows(run)))
    for value in (full, next(run.nested_losses(rows(run), [case.space.dense]))):
        assert float(expected) == pytest.approx(float(value.detach()), rel=1e-4, abs=1e-6)


def test_masks_train_what_slices_train(case: Case) -> None:
    sliced, masked = (case.run(execution=execution) for execution in ("sliced", "masked"))
    for run in (sliced, masked):
        run.run(3)
    for name, parameter in sliced.trainee.parameters().items():
        torch.testing.assert_close(parameter, masked.trainee.parameters()[name], atol=2e-3, rtol=2e-2)


def test_a_run_goes_on_as_if_it_had_never_stopped(case: Case, tmp_path: Path) -> None:
    whole, begun, again = case.run(), case.run(), case.run()
    whole.run(STEPS)
    begun.run(2)
    begun.save(tmp_path / "checkpoint")
    assert again.load(tmp_path / "checkpoint")
    assert again.run_for(1e9, tmp_path / "checkpoint")
    for name, parameter in whole.trainee.parameters().items():
        assert torch.equal(parameter, again.trainee.parameters()[name])


def test_what_is_no_number_changes_nothing(case: Case) -> None:
    run = case.run()
    run.run(2)
    before = {n: p.detach().clone() for n, p in run.trainee.parameters().items()}
    loss = run.objective.loss
    run.objective.loss = lambda *operands: loss(*operands) * float("nan")  # type: ignore[method-assign]
    with pytest.raises(Diverged):
        run.run(3)
    assert all(torch.equal(p, before[n]) for n, p in run.trainee.parameters().items())


def test_batch_normalisation_uses_each_minibatch(case: Case) -> None:
    model = make("padded")
    x = torch.randn(8, 3, 16, 16)
    network = describe_module(model, [x[:1]])
    units = [UnitConfig(kind="channels", levels=2, min_kept=0.5)]
    space = build_space(RunConfig(units=units, objectives=["kl", "macs"]), network, 4)
    options = SupernetConfig.model_validate({"kind": "sandwich", "training": {"batch": 4}})
    weights = Weights(copy.deepcopy(model), network, "full", options.training)
    elastic = ElasticSupernet(weights.model, network, space, weights.tensor)
    samples = Samples({"x": x.numpy()})
    run = NestedRun(
        weights, elastic, Draws(space, options, 4, 0), Objective(network, model, options.training), samples, options
    )
    statistics = {n: b.clone() for n, b in weights.model.named_buffers() if "running" in n}
    run.run(3)
    assert all(torch.equal(b, statistics[n]) for n, b in weights.model.named_buffers() if n in statistics)
    with torch.no_grad(), elastic.running(space.smallest) as running:
        together, alone = running(x), running(x[:2])
    assert not torch.allclose(together[:2], alone, atol=1e-4)
    assert not run.trainee.merge().training


def test_hidden_states_on_disk_are_what_blocks_see(case: Case, tmp_path: Path) -> None:
    model, network = case.model, case.network
    write_arguments(tmp_path, model, network, case.samples)
    write_shard(tmp_path, model, network, case.samples, 0, 4)
    activations = [Activations(tmp_path, block) for block in range(len(network.blocks))]
    some = np.array([4, 1])
    for block, path in enumerate(network.blocks):
        inputs, expected = activations[block].rows(some)
        args, kwargs = activations[block].arguments()
        with torch.no_grad():
            output = model.get_submodule(path)(inputs, *args, **kwargs)
        torch.testing.assert_close(output[0] if isinstance(output, tuple) else output, expected, atol=1e-5, rtol=1e-5)
        if block:
            assert torch.equal(inputs, activations[block - 1].rows(some)[1])
    disk = sum(p.stat().st_size for p in tmp_path.glob("*-*.safetensors"))
    assert disk == pytest.approx(cache_bytes(network, case.samples, len(case.samples), 4), rel=0.3)
    # A shard that is there is not made again.
    times = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*-*.safetensors")}
    write_shard(tmp_path, None, network, case.samples, 0, 4)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*-*.safetensors")} == times


def test_a_block_is_alone_in_memory_and_learns(case: Case, tmp_path: Path) -> None:
    block = len(case.network.blocks) - 1
    run = case.block(tmp_path, block, steps=40, training={"learning_rate": 1e-2})
    params = sum(p.numel() for p in case.model.get_submodule(case.network.blocks[block]).parameters())
    there = sum(p.numel() for p in run.trainee.model.parameters() if not p.is_meta)
    assert there == params == sum(p.numel() for p in run.trainee.parameters().values())
    columns = case.space.blocks == block
    widths = columns & ~case.space.drops
    smallest = Genome.of(np.where(widths, case.space.max_levels, 0))
    full, small = (float(v.detach()) for v in run.nested_losses(rows(run), [case.space.dense, smallest]))
    assert full == pytest.approx(0, abs=1e-9)
    assert small > 1e-6
    run.run(40)
    (after,) = (float(v.detach()) for v in run.nested_losses(rows(run), [smallest]))
    assert after < 0.9 * small
    assert all(not genome.levels[~columns].any() for step in range(40) for genome in run.draws.at(step))


def test_a_blocks_run_goes_on(case: Case, tmp_path: Path) -> None:
    whole, begun, again = (case.block(tmp_path / "states", 0) for _ in range(3))
    whole.run(STEPS)
    begun.run(3)
    begun.save(tmp_path / "checkpoint")
    assert again.load(tmp_path / "checkpoint")
    again.run(STEPS)
    for name, parameter in whole.trainee.parameters().items():
        assert torch.equal(parameter, again.trainee.parameters()[name])
