"""Training: masks that hold, methods that merge, objectives, order, divergence, checkpoints."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import Built
from torch import nn

from sparsesearch.config import TrainingConfig
from sparsesearch.data import Samples
from sparsesearch.errors import InputError
from sparsesearch.evaluation import outputs_of
from sparsesearch.space import Genome
from sparsesearch.training import Diverged, Masks, Objective, TrainingRun, average, greedy_soup, loop, make_trainee
from sparsesearch.training.compensation import _mean_outputs, compensate
from sparsesearch.training.loop import learning_rate_at, steps_of
from sparsesearch.training.objective import softened_kl
from sparsesearch.training.order import rows_at

Make = Callable[[str], Path]
METHODS = ["full", "perp", "masked_lora"]


@pytest.fixture(scope="module", params=["llama", "vit", "gpt2"])
def built(request: pytest.FixtureRequest, family_dir: Make, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(family_dir(request.param), tmp_path_factory.mktemp("store"))


def candidate(built: Built, sparse: bool = True) -> Any:
    """The smallest genome without drops, a network of its own; widths alone where not `sparse`."""
    units = built.space.units
    levels = [0 if u.is_drop or (u.kind == "sparsity" and not sparse) else len(u.levels) - 1 for u in units]
    return built.supernet("sliced").materialise(Genome.of(levels))


def run_of(built: Built, model: Any, **changes: Any) -> TrainingRun:
    options = TrainingConfig.model_validate({"batch": 3, "learning_rate": 1e-2, "rank": 2} | changes)
    network, dense = built.launch.network, built.supernet("sliced").model
    samples = built.launch.samples["calibration"]
    return TrainingRun(make_trainee(model, network, options), Objective(network, dense, options), samples, options, 6)


def zeros(model: Any, built: Built) -> dict[str, torch.Tensor]:
    weights = dict(model.named_parameters())
    return {name: weights[name].data == 0 for name in built.launch.network.matrices if name in weights}


@pytest.mark.parametrize("family", ["gpt2", "vit"])
def test_compensation_gives_back_mean_outputs(family: str, family_dir: Make, tmp_path: Path) -> None:
    """Of every module with a bias whose outputs are all kept, on the samples it saw; nothing else changes."""
    built = Built(family_dir(family), tmp_path)
    network, samples = built.launch.network, built.launch.samples["calibration"]
    model, dense = candidate(built).float(), built.supernet("sliced").materialise(built.space.dense).float()
    before = copy.deepcopy(model.state_dict())
    paths = compensate(model, dense, network, samples, 4)
    assert paths
    targets, means = (_mean_outputs(net, network, paths, samples, 4) for net in (dense, model))
    for path in paths:
        torch.testing.assert_close(means[path], targets[path], atol=1e-4, rtol=1e-3)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed <= {f"{path}.bias" for path in paths}
    again = copy.deepcopy(dense)
    compensate(again, dense, network, samples, 4)
    for name, tensor in again.state_dict().items():
        torch.testing.assert_close(tensor, dense.state_dict()[name], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("method", METHODS)
def test_pruned_weights_stay_zero(built: Built, method: str, optimizer: str) -> None:
    model = candidate(built)
    before = zeros(model, built)
    counts = {name: int(zero.sum()) for name, zero in before.items()}
    assert sum(counts.values()) > 100
    start = copy.deepcopy(model.state_dict())
    run = run_of(built, model, method=method, optimizer=optimizer, weight_decay=0.1)
    average = {name: p.detach().clone() for name, p in run.trainee.parameters().items()}
    for step in range(1, 5):
        run.run(step)
        for name, parameter in run.trainee.parameters().items():
            average[name].lerp_(parameter.detach(), 0.5)
    merged = run.trainee.merge()
    after = zeros(merged, built)
    assert all((after[name] & zero == zero).all() for name, zero in before.items()), "what was zero is zero"
    assert {name: int(zero.sum()) for name, zero in after.items()} == counts, "and nothing else is"
    if method == "full":
        assert all(bool((average[name][zero] == 0).all()) for name, zero in before.items()), "averages over steps too"
    moved = [name for name, tensor in merged.state_dict().items() if not torch.equal(tensor, start[name])]
    assert moved
    assert {*merged.state_dict()} == {*start}, "a plain network again"
    if method == "perp":
        assert all(merged.get_parameter(name).ndim == 1 for name in moved)


def test_training_brings_a_candidate_nearer_to_dense(built: Built) -> None:
    model = candidate(built)
    run = run_of(built, model, schedule="constant", learning_rate=3e-3)
    run.steps = 40
    run.run(40)
    assert np.mean(run.losses[-8:]) < 0.8 * np.mean(run.losses[:8])


def test_masked_lora_starts_where_it_is_and_merges_exactly(built: Built) -> None:
    model = candidate(built).float()
    sample, task = built.launch.samples["selection"].rows(slice(0, 2)), built.launch.network.task
    plain = outputs_of(model, task, sample)
    run = run_of(built, model, method="masked_lora")
    assert torch.equal(outputs_of(run.trainee.model, task, sample), plain)
    run.run(3)
    apart = outputs_of(run.trainee.model, task, sample)
    merged = run.trainee.merge()
    assert torch.allclose(outputs_of(merged, task, sample), apart, atol=1e-5)
    assert not torch.allclose(apart, plain, atol=1e-3)


def test_lora_is_for_networks_without_unstructured_sparsity(built: Built) -> None:
    with pytest.raises(InputError, match=r"SS117 .* would fill pruned weights"):
        run_of(built, candidate(built), method="lora")
    model = candidate(built, sparse=False)
    names = {*model.state_dict()}
    if built.launch.network.model_type == "gpt2":
        return  # its matrices are of a class that peft knows by another name
    run = run_of(built, model, method="lora")
    run.run(3)
    task, sample = built.launch.network.task, built.launch.samples["selection"]
    adapted = outputs_of(run.trainee.model, task, sample)
    merged = run.trainee.merge()
    assert {*merged.state_dict()} == names
    assert torch.allclose(outputs_of(merged, task, sample), adapted, atol=1e-4)


def test_nothing_to_train() -> None:
    network: Any = type("Network", (), {"matrices": {}})
    with pytest.raises(InputError, match=r"SS117 .* has no parameters of that kind"):
        make_trainee(nn.Linear(2, 2, bias=False), network, TrainingConfig(method="perp"))


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_goes_on_as_if_nothing_had_been(built: Built, method: str, tmp_path: Path) -> None:
    model = candidate(built)
    whole = run_of(built, copy.deepcopy(model), method=method)
    whole.run(5)
    first = run_of(built, copy.deepcopy(model), method=method)
    first.run(2)
    first.save(tmp_path / "checkpoint")
    first.run(3)
    first.save(tmp_path / "checkpoint")
    torn = run_of(built, copy.deepcopy(model), method=method)
    weights = tmp_path / "checkpoint" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-20])
    assert torn.load(tmp_path / "checkpoint")
    assert torn.step == 2, "a torn checkpoint falls back on the one before"
    torn.run(5)
    assert torn.losses == whole.losses
    state, expected = torn.trainee.merge().state_dict(), whole.trainee.merge().state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    assert not run_of(built, copy.deepcopy(model)).load(tmp_path / "none")


def test_a_kill_on_the_way_costs_what_came_after_the_last_checkpoint(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MIN_CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(loop, "CHECKPOINT_TIME_FACTOR", 0)
    model, place, progress = candidate(built), tmp_path / "checkpoint", list[int]()

    def killed() -> None:
        progress.append(loop.tokens_of(place))
        if len(progress) == 3:
            raise KeyboardInterrupt

    whole, first = run_of(built, copy.deepcopy(model)), run_of(built, copy.deepcopy(model))
    whole.run(5)
    first.run_saving(1, place, lambda: None)
    with pytest.raises(KeyboardInterrupt):
        first.run_saving(5, place, killed)
    step = first.tokens // 4
    assert progress == [2 * step, 3 * step, 4 * step]
    again = run_of(built, copy.deepcopy(model))
    assert again.load(place)
    assert again.step == 4
    again.run_saving(5, place, lambda: None)
    assert again.losses == whole.losses
    assert again.segment_tokens == 4 * step, "all since the first stretch, whoever paid for it"


def test_objectives(built: Built) -> None:
    dense, network = built.supernet("sliced").model, built.launch.network
    sample = built.launch.samples["calibration"].rows(slice(0, 2))
    for options in (TrainingConfig(), TrainingConfig(hidden=1.0, temperature=4.0)):
        assert float(Objective(network, dense, options)(dense, sample)) == pytest.approx(0, abs=1e-6)
    config = TrainingConfig(distill=0.0)
    assert float(Objective(network, None, config)(dense, sample)) > 0
    pruned = candidate(built).float()
    half, kl, task = (Objective(network, dense, TrainingConfig(distill=d))(pruned, sample) for d in (0.5, 1.0, 0.0))
    assert float(half) == pytest.approx((float(kl) + float(task)) / 2, rel=1e-4)
    assert float(Objective(network, dense, TrainingConfig(hidden=1.0))(pruned, sample)) > float(kl)


def test_the_temperature_keeps_the_scale_of_gradients() -> None:
    """For large T, T² KL tends to |Δ - mean Δ|² / 2V (Hinton et al., 2015, eq. 4)."""
    logits, dense = torch.randn(1, 1, 7, dtype=torch.float64), torch.randn(1, 1, 7, dtype=torch.float64)
    change = (logits - dense).flatten()
    expected = float((change - change.mean()).square().sum()) / (2 * 7)
    assert float(softened_kl(logits, dense, 1000.0)) == pytest.approx(expected, rel=1e-2)


def test_every_pass_sees_every_sample_once() -> None:
    rows = np.concatenate([rows_at(step, 4, 10, 0) for step in range(5)])
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert not np.array_equal(rows[:10], rows[10:])
    assert np.array_equal(rows_at(2, 4, 10, 0), rows[8:12])


def test_schedules() -> None:
    for schedule, middle, end in (("constant", 1.0, 1.0), ("cosine", 0.5, 0.0), ("wsd", 1.0, 0.0)):
        options = TrainingConfig.model_validate({"schedule": schedule, "learning_rate": 1.0, "warmup": 0.0})
        assert learning_rate_at(0.5, options) == pytest.approx(middle)
        assert learning_rate_at(1.0, options) == pytest.approx(end)
    warm = TrainingConfig(learning_rate=1.0, warmup=0.1)
    assert learning_rate_at(0.05, warm) == pytest.approx(0.5)
    assert steps_of(1000, TrainingConfig(batch=4), 50) == 5


def test_a_rate_that_is_too_high_is_noticed(built: Built) -> None:
    run = run_of(built, candidate(built), learning_rate=1e4, schedule="constant", warmup=0.0, optimizer="sgd", clip=1e9)
    run.steps = 60
    with pytest.raises(Diverged, match="step"):
        run.run(60)
    assert run.step < 60


def test_tokens_are_those_consumed(built: Built) -> None:
    run = run_of(built, candidate(built))
    run.run(4)
    assert run.tokens == 4 * 3 * built.launch.samples["calibration"].length


def test_soups() -> None:
    model = nn.Linear(5, 5)
    masks = Masks({"weight": torch.rand(5, 5) > 0.5})
    states = []
    for _ in range(3):
        nn.init.normal_(model.weight)
        masks.apply(model)
        states.append(copy.deepcopy(model.state_dict()))
    copies = average([states[0]] * 7)
    assert all(torch.equal(copies[name], tensor) for name, tensor in states[0].items())
    soup = average(states)
    assert torch.allclose(soup["weight"], torch.stack([s["weight"] for s in states]).mean(dim=0))
    assert not masks.violations(model)
    model.load_state_dict(soup)
    assert not masks.violations(model)

    def quality(state: dict[str, torch.Tensor]) -> float:
        return float(state["weight"].square().sum())

    best, chosen = greedy_soup(states, quality)
    assert quality(best) <= min(map(quality, states))
    assert len(chosen) >= 1
    with torch.no_grad():
        model.weight.fill_(1.0)
    assert masks.violations(model) == ["weight"]


def test_batch_statistics_stay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    network: Any = type("Network", (), {"matrices": {"0.weight": None, "4.weight": None}, "blocks": (), "task": None})
    from sparsesearch.models.task import TASKS

    network.task = TASKS["module"]
    options = TrainingConfig(batch=4, distill=0.0, learning_rate=1e-2)
    samples = Samples({"0": np.random.default_rng(0).normal(size=(8, 3, 6, 6)).astype("f")}, np.arange(8) % 5)
    run = TrainingRun(make_trainee(model, network, options), Objective(network, None, options), samples, options, 4)
    run.run(4)
    assert torch.equal(model[1].running_mean, torch.zeros(4))
    assert not torch.equal(model[1].weight, torch.ones(4))
    assert math.isfinite(run.losses[-1])
