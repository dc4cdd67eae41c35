"""Traced networks: the identities of the families, on channel groups that Torch-Pruning finds."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import CLASSES, NETWORKS, make
from safetensors.torch import save_model
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import sparsesearch as ss
from sparsesearch.engine.launch.access import Access
from sparsesearch.engine.reopen import ReopenedRun, open_run
from sparsesearch.errors import InputError
from sparsesearch.evaluation.batchnorm import RunningStatistics, batch_norms, reestimate
from sparsesearch.models.source import load_state
from sparsesearch.models.task import TASKS
from sparsesearch.models.tracing.trace import describe_module
from sparsesearch.space import Genome, Space
from sparsesearch.space.sampling import random_genome
from sparsesearch.supernet import StitchedSupernet

IMAGES = torch.randn(24, 3, 16, 16, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(24) % CLASSES
DATA = {
    "calibration": IMAGES[:8],
    "selection": (IMAGES[8:16], LABELS[8:16]),
    "test": (IMAGES[16:], LABELS[16:]),
}
RECIPE: dict[str, Any] = {
    "units": [{"kind": "channels", "levels": 3}, {"kind": "sparsity", "levels": ["50%"]}],
    "objectives": ["kl", "nonzeros"],
    "batch": 4,
    "search": {"searcher": "random", "evals": 8, "final": 4, "options": {"batch": 6, "tokens": 4, "sizes": 2}},
    "executor": {"kind": "local"},
}
EXPECTED = {
    "padded": {"blocks.0.conv1", "blocks.1.conv1"},
    "gated": {"stem", "expand", "squeeze"},
    "joined": {"c1", "c2", "c3", "grouped", "c4"},
    "projected": {"stem", "conv"},
    "shared": {"stem"},
    "kernels": {"stem", "depthwise", "point", "down"},
}


class Searched:
    """A finished run on a traced network."""

    def __init__(self, name: str, work: Path) -> None:
        self.module = make(name)
        kernels = [{"kind": "kernel"}] if name == "kernels" else []
        recipe = RECIPE | {"units": RECIPE["units"] + kernels}
        self.run = ss.search(self.module, recipe, data=DATA, results=work, name=name, quiet=True)
        self.opened: ReopenedRun = open_run(self.run.results, Access(self.module))

    @property
    def space(self) -> Space:
        return self.run.results.space


@pytest.fixture(scope="module", params=list(NETWORKS))
def searched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    return Searched(request.param, tmp_path_factory.mktemp("traced"))


def genomes(space: Space) -> list[Genome]:
    rng = np.random.default_rng(0)
    return [space.dense, space.smallest, *(random_genome(space, rng) for _ in range(5))]


def outputs(model: nn.Module, images: torch.Tensor = IMAGES) -> torch.Tensor:
    with torch.no_grad():
        predictions: torch.Tensor = model(images)
    return predictions


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_are_found_and_nothing_that_changes_the_function(name: str) -> None:
    network = describe_module(make(name), [IMAGES[:1]])
    assert {cut.path for cut in network.cuts.values()} == EXPECTED[name]
    assert any("cannot be cut" in reason for reason in network.unsearchable)
    assert network.values == CLASSES


def test_in_place_equals_sliced_equals_materialised_on_three_sizes(searched: Searched) -> None:
    sliced = searched.opened.supernet
    model = copy.deepcopy(searched.module)
    in_place = StitchedSupernet(model, sliced.network, searched.space, sliced.composer.files, "in_place")
    for genome in genomes(searched.space):
        materialised = sliced.materialise(genome)
        for size in (12, 16, 24):
            images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(size))
            expected = outputs(sliced.apply(genome), images)
            assert torch.allclose(outputs(in_place.apply(genome), images), expected, atol=1e-4)
            assert torch.allclose(outputs(materialised, images), expected, atol=1e-5)


def test_costs_equal_counting_and_torchs_flop_counter(searched: Searched) -> None:
    for genome in genomes(searched.space):
        model = searched.opened.supernet.materialise(genome)
        costs = searched.space.costs.named(genome.levels)
        assert costs["params"] == sum(p.numel() for p in model.parameters())
        assert costs["nonzeros"] == sum(int(torch.count_nonzero(p)) for p in model.parameters())
        with FlopCounterMode(display=False) as counter:
            outputs(model, IMAGES[:2])
        assert counter.get_total_flops() == 2 * 2 * costs["macs"]


def test_dense_is_untouched_to_the_last_bit(searched: Searched) -> None:
    supernet = searched.opened.supernet
    expected = outputs(searched.module)
    supernet.apply(searched.space.smallest)
    assert torch.equal(outputs(supernet.apply(searched.space.dense)), expected)
    assert searched.run.results.dense.quality < 1e-6  # type: ignore[union-attr]


def test_obs_beats_plain_removal_of_the_same_channels(searched: Searched) -> None:
    """The refit of what reads the channels lowers the error of its outputs."""
    errors = [entry["errors"] for entry in _index(searched)["units"].values() if len(entry["errors"]) == 4]
    assert errors
    assert all(0 <= error[1] < 1 for error in errors)


def _index(searched: Searched) -> Any:
    import json

    stores = searched.run.path.parent / ".cache" / "stores"
    return json.loads(next(stores.glob("*/index.json")).read_text())


@pytest.mark.parametrize("form", ["uneven", "zeros"])
def test_exports_load_with_the_module(searched: Searched, form: str, tmp_path: Path) -> None:
    genome = genomes(searched.space)[3]
    candidate = searched.run.results.front[0]
    chosen = type(candidate)(genome, 8, 0, "test", "ok", 1.0, searched.space.costs.named(genome.levels))
    report = searched.run.export(chosen, tmp_path / "out", form=form)
    assert report["verified"] == ["sparsesearch.load"]
    assert report["nonzeros"] == chosen.costs["nonzeros"]
    model = ss.load(tmp_path / "out", module=searched.module)
    if form == "uneven":
        assert sum(p.numel() for p in model.parameters()) == chosen.costs["params"]
    with pytest.raises(InputError, match=r"SS504 .* given from Python"):
        ss.load(tmp_path / "out")


def test_batch_norm_moves_alike_in_place_sliced_and_materialised(searched: Searched) -> None:
    norms, supernet = searched.opened.norms, searched.opened.supernet
    model = copy.deepcopy(searched.module)
    in_place = StitchedSupernet(model, supernet.network, searched.space, supernet.composer.files, "in_place")
    padded = RunningStatistics(in_place, norms.task, norms.samples, norms.batch)
    for genome in genomes(searched.space):
        predictions = []
        for rule, make_network in ((norms, supernet.materialise), (norms, supernet.apply), (padded, in_place.apply)):
            network = make_network(genome)
            rule.correct(network, genome)
            predictions.append(outputs(network))
        assert torch.allclose(predictions[1], predictions[0], atol=1e-5)
        assert torch.allclose(predictions[2], predictions[0], atol=1e-4)


@pytest.mark.parametrize("name", ["padded", "projected"])
def test_training_that_does_nothing_changes_no_judgement(name: str, tmp_path: Path) -> None:
    """Running statistics stay what the candidate was judged with."""
    recipe = RECIPE | {
        "search": RECIPE["search"] | {"rungs": [{"tokens": 16, "candidates": 3}]},
        "training": {"learning_rate": 1e-12, "batch": 4, "distill": 1.0},
    }
    results = ss.search(make(name), recipe, data=DATA, results=tmp_path, name=name, quiet=True).results
    before = {e.genome: e.quality for e in results.final}
    assert len(results.trained_evaluations) >= 3
    for evaluation in results.trained_evaluations:
        assert evaluation.quality == pytest.approx(before[evaluation.genome], rel=1e-3, abs=1e-7)


def test_batch_norm_of_a_network_that_nothing_was_taken_from_stays(searched: Searched) -> None:
    """Its own statistics are not those of the samples, and do not become them."""
    norms, space = searched.opened.norms, searched.space
    model = copy.deepcopy(searched.module)
    norms.correct(model, space.smallest)  # of dense shapes, so that every channel is compared with itself
    assert torch.allclose(outputs(model), outputs(searched.module), atol=1e-5)
    replaced = copy.deepcopy(searched.module)
    reestimate(replaced, norms.task, norms.samples, norms.batch)
    assert torch.allclose(outputs(replaced), outputs(searched.module), atol=1e-2) == (not batch_norms(model))


def test_batch_norm_undoes_an_affine_change_of_what_it_reads(tmp_path: Path) -> None:
    searched = Searched("padded", tmp_path)
    norms, model = searched.opened.norms, copy.deepcopy(searched.module)
    scale = torch.linspace(0.2, 3.0, 8)
    with torch.no_grad():
        model.conv1.weight.mul_(scale[:, None, None, None])  # type: ignore[union-attr, operator]
    assert not torch.allclose(outputs(model), outputs(searched.module), atol=0.1)
    norms.correct(model, searched.space.smallest)  # of dense shapes, so that every channel is compared with itself
    assert torch.allclose(outputs(model), outputs(searched.module), atol=1e-2)


def test_a_channel_that_pruning_silences_does_not_explode(tmp_path: Path) -> None:
    searched = Searched("padded", tmp_path)
    model = copy.deepcopy(searched.module)
    with torch.no_grad():
        model.conv1.weight[0] = 0  # type: ignore[union-attr, operator, index]
    searched.opened.norms.correct(model, searched.space.smallest)
    activations: list[torch.Tensor] = []
    model.bn1.register_forward_hook(lambda *parts: activations.append(parts[2]))  # type: ignore[union-attr]
    before: list[torch.Tensor] = []
    dense = copy.deepcopy(searched.module)
    dense.bn1.register_forward_hook(lambda *parts: before.append(parts[2]))  # type: ignore[union-attr]
    outputs(model)
    outputs(dense)
    assert activations[0][:, 0].abs().max() <= before[0][:, 0].abs().max()


def test_batch_norm_is_measured_over_all_samples(tmp_path: Path) -> None:
    from sparsesearch.data import Samples

    module = make("padded")
    samples = Samples({"0": IMAGES.numpy()})
    weights = {n: p.clone() for n, p in module.named_parameters()}
    reestimate(module, TASKS["module"], samples, 8)
    layer = next(iter(batch_norms(module).values()))
    with torch.no_grad():
        activations = module.conv1(IMAGES)  # type: ignore[operator]
    assert torch.allclose(layer.running_mean, activations.mean((0, 2, 3)), atol=1e-5)  # type: ignore[arg-type]
    assert all(torch.equal(p, weights[n]) for n, p in module.named_parameters())
    assert not layer.training


def test_a_quality_of_the_users_own(tmp_path: Path) -> None:
    def quality(model: nn.Module, samples: Any) -> float:
        return float((outputs(model, torch.from_numpy(samples.arrays["0"])) ** 2).mean())

    recipe = RECIPE | {"objectives": ["quality", "params"]}
    module = make("joined")
    run = ss.search(module, recipe, data=DATA, quality=quality, results=tmp_path, quiet=True)
    assert run.results.dense is not None
    assert run.results.dense.quality == pytest.approx(float((outputs(module, IMAGES[8:16]) ** 2).mean()), rel=1e-5)


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    searched = Searched("shared", tmp_path)
    network, module = searched.opened.supernet.network, searched.module
    assert not {"narrow.weight", "again.weight"} & set(network.matrices)
    assert "again, narrow share weights with each other and stay as they are" in network.unsearchable
    assert any(
        "channels of wide cannot be cut: again, narrow share weights" in reason for reason in network.unsearchable
    )
    smaller = searched.opened.supernet.materialise(searched.space.smallest)
    assert smaller.narrow.weight is smaller.again.weight
    report = searched.run.export(searched.run.pick("knee"), tmp_path / "out")
    loaded = ss.load(report["out"], module=module)
    assert loaded.narrow.weight is loaded.again.weight
    # A file that holds a tied weight once, as safetensors' own `save_model` writes it, fits.
    save_model(module, str(tmp_path / "state.safetensors"))
    load_state(make("shared"), tmp_path / "state.safetensors")


def test_the_first_channel_to_go_is_the_one_that_brute_force_finds(tmp_path: Path) -> None:
    """On a real convolution: least squares on all other channels' patches, once for each channel."""
    recipe = RECIPE | {
        "units": [{"kind": "channels", "levels": [0.875, 0.75], "target": "blocks.0.conv1"}],
        "pruners": {"damp": 1e-6},
    }
    module = make("padded")
    run = ss.search(module, recipe, data=DATA, results=tmp_path, quiet=True)
    supernet = open_run(run.results, Access(module)).supernet
    (unit,) = run.results.space.units
    kept = supernet.composer.files.kept(unit, 1, unit.total)[0].tolist()
    reader, activations = module.get_submodule("blocks.0.conv2"), []
    handle = reader.register_forward_pre_hook(lambda _, args: activations.append(args[0]))
    outputs(module, IMAGES[:8])
    handle.remove()
    patches = functional.unfold(activations[0], 3, padding=1).transpose(1, 2).reshape(-1, 8, 9).double()
    target = patches.flatten(1) @ reader.weight.flatten(1).T.detach().double()  # type: ignore[union-attr, operator]
    errors = []
    for channel in range(8):
        rest = patches[:, [c for c in range(8) if c != channel]].flatten(1)
        errors.append(float((rest @ torch.linalg.lstsq(rest, target).solution - target).square().sum()))
    assert kept == [c for c in range(8) if c != int(np.argmin(errors))]


def test_allocations_distribute_channels(tmp_path: Path) -> None:
    recipe = RECIPE | {"units": [{"kind": "channels", "levels": 6}], "limits": ["macs<=60%"]}
    names = ["erk", "lamp", "global_magnitude", "owl", "alpha_pruning"]
    recipe["search"] = {**RECIPE["search"], "seeds": names}
    run = ss.search(make("joined"), recipe, data=DATA, results=tmp_path, quiet=True)
    seeds = run.results.run.read(run.results.run.seeds)
    assert {name for name in seeds if "@" not in name} == set(names)
    assert {name.partition("@")[0] for name in seeds} == set(names)
    assert all(run.results.space.feasible(Genome.of(levels)) for levels in seeds.values())


def test_accuracy_as_the_quality(tmp_path: Path) -> None:
    recipe = RECIPE | {"objectives": ["error", "macs"]}
    module = make("gated")
    run = ss.search(module, recipe, data=DATA, results=tmp_path, quiet=True)
    wrong = (outputs(module, IMAGES[8:16]).argmax(1) != LABELS[8:16]).double().mean()
    assert run.results.dense is not None
    assert run.results.dense.quality == pytest.approx(float(wrong))


def test_pruners_of_every_kind_work_on_convolutions(tmp_path: Path) -> None:
    for sparsity, width in (("wanda", "flap"), ("gblm", "taylor"), ("magnitude", "minitron"), ("taylor", "magnitude")):
        recipe = RECIPE | {"pruners": {"sparsity": sparsity, "width": width}}
        run = ss.search(make("gated"), recipe, data=DATA, results=tmp_path, name=sparsity, quiet=True)
        assert all(np.isfinite(e.quality) for e in run.results.final)


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> Any:
        return self.linear(x)


@pytest.mark.parametrize(
    ("module", "data", "code", "words"),
    [
        (Broken(), DATA, "SS210", "does not run on inputs of shape (1, 3, 16, 16)"),
        (nn.Flatten(), DATA, "SS210", "has no linear or convolution layer"),
        (make("joined"), DATA | {"selection": (IMAGES[8:16], LABELS[8:16] + 3)}, "SS212", "labels from 3 to 7"),
        (make("joined"), DATA | {"selection": (IMAGES[8:16], LABELS[:3])}, "SS204", "the same number"),
    ],
)
def test_modules_and_data_that_do_not_fit(
    module: nn.Module, data: dict[str, Any], code: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        ss.search(module, RECIPE, data=data, results=tmp_path, quiet=True)
    assert caught.value.code == code
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_example_inputs_are_traced_and_fit_the_data(tmp_path: Path) -> None:
    run = ss.search(make("joined"), RECIPE, example_inputs=IMAGES[:2], data=DATA, results=tmp_path, quiet=True)
    assert {u.module for u in run.results.space.units if u.kind == "channels"} == EXPECTED["joined"]
    with pytest.raises(InputError, match=r"SS210 example_inputs have shapes \(3, 8, 8\) a sample, .* \(3, 16, 16\)"):
        ss.search(make("joined"), RECIPE, example_inputs=IMAGES[:2, :, :8, :8], data=DATA, results=tmp_path)


@pytest.mark.parametrize("arguments", [(nn.Flatten(),), (RECIPE, RECIPE), (3, RECIPE), (None,)])
def test_what_is_neither_a_recipe_nor_a_module(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match=r"SS101 .* Call search\(recipe\) or search\(module, recipe\)"):
        ss.search(*arguments)


def test_a_resnet_of_transformers_is_traced_searched_and_exported(tmp_path: Path) -> None:
    import transformers
    from support import image_data, run_search

    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic", num_labels=CLASSES
    )
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "model")
    results = run_search(
        tmp_path / "run",
        tmp_path / "model",
        units=RECIPE["units"],
        objectives=["kl", "macs"],
        data=image_data(tmp_path / "model"),
    )
    assert sum(unit.kind == "channels" for unit in results.space.units) >= 4
    assert results.dense is not None
    assert results.dense.quality < 1e-6
    report = ss.Run(results).export(results.pick("smallest"), tmp_path / "out")
    assert report["form"] == "uneven"
    assert report["verified"] == ["sparsesearch.load", "trust_remote_code"]
    assert report["max_abs_logit_diff"] < 1e-4
