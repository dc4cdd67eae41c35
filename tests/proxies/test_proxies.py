"""Proxies: the identities of each, and what all have in common."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import CLASSES
from support import Built, image_data, launched
from torch import nn

from sparsesearch.calibration.gradients import collect_curvature, collect_gradients, load_curvature, mean_gradients
from sparsesearch.config import RunConfig
from sparsesearch.data import Samples
from sparsesearch.engine import controller
from sparsesearch.engine.launch.prepare import prepare
from sparsesearch.engine.workflows import audit as auditing
from sparsesearch.errors import InputError
from sparsesearch.evaluation import outputs_of
from sparsesearch.models.task import TASKS
from sparsesearch.proxies import PROXIES, LiveCandidate, Proxy, proxies_named, proxy
from sparsesearch.proxies.gatherer import Gatherer, as_number, tabulate
from sparsesearch.proxies.jacob_cov import jacob_cov
from sparsesearch.proxies.nwot import nwot
from sparsesearch.proxies.proxy_inputs import CostedGenome
from sparsesearch.proxies.score_table import ScoreTable
from sparsesearch.proxies.synflow import saliencies
from sparsesearch.proxies.trace_nas import correlation, retention, sublayer, trace_nas, traces
from sparsesearch.runs.progress import Reporter
from sparsesearch.space import Genome
from sparsesearch.space.sampling import random_genome
from sparsesearch.testing import check_proxy
from sparsesearch.testing.proxies import RECIPE

Make = Callable[[str], Path]


class Tabled:
    """A family's tiny network with tables of all matrix proxies."""

    def __init__(self, built: Built, path: Path) -> None:
        self.built, self.space = built, built.space
        self.supernet = built.supernet("sliced")
        self.samples = built.launch.samples["calibration"]
        statistics = path / "statistics"
        self.gatherer = Gatherer(self.supernet, self.samples, statistics, path / "gradients.safetensors", path, 4)
        proxies = [p for p in PROXIES.values() if p.reads == "matrix"]
        self.gatherer.gather(["gradients", "curvature", "expected"])
        blocks = range(len(built.launch.network.blocks))
        per_block = [tabulate(self.gatherer, block, proxies) for block in blocks]
        tables = {p.name: {k: v for each in per_block for k, v in each[p.name].items()} for p in proxies}
        self.tables = {name: ScoreTable.of(self.space, table) for name, table in tables.items()}

    def genomes(self, count: int) -> list[Genome]:
        return [random_genome(self.space, np.random.default_rng(i)) for i in range(count)]

    def live(self, genome: Genome, samples: Samples | None = None, dense: Any = None) -> LiveCandidate:
        model, network = self.supernet.apply(genome), self.supernet.network
        return LiveCandidate(model, network, genome, samples or self.samples, self.supernet.composer, dense)


@pytest.fixture(scope="module")
def tabled(family_dir: Make, tmp_path_factory: pytest.TempPathFactory) -> Tabled:
    path = tmp_path_factory.mktemp("proxies")
    return Tabled(Built(family_dir("llama"), path), path)


def test_a_table_is_the_sum_over_pruned_matrices(tabled: Tabled) -> None:
    """SNIP by hand: the loss's gradient by a mask over all weights, where the candidate's weights are gone."""
    dense = tabled.supernet.apply(tabled.space.dense)
    names = list(tabled.supernet.network.matrices)
    weights = {name: dense.get_parameter(name).data.clone() for name in names}
    masks = {name: torch.ones_like(weights[name], requires_grad=True) for name in names}
    task, total = tabled.supernet.network.task, 0.0
    for i in range(len(tabled.samples)):
        sample = tabled.samples.rows(slice(i, i + 1))
        masked = {name: weights[name] * mask for name, mask in masks.items()}
        logits = torch.func.functional_call(dense, masked, (), {**sample.inputs(dense), "use_cache": False}).logits
        tokens = torch.from_numpy(sample.arrays["input_ids"].astype("int64"))[:, 1:]
        total = total + nn.functional.cross_entropy(logits.float()[:, :-1].flatten(0, 1), tokens.flatten())
    by_mask = dict(zip(names, torch.autograd.grad(total / len(tabled.samples), list(masks.values())), strict=True))
    assert task.name == "causal"
    for genome in tabled.genomes(6):
        pruned = tabled.supernet.state_dict(genome, padded=True)
        gone = {name: (pruned[name] == 0) & (weights[name] != 0) for name in names}
        expected = sum(float(by_mask[name].abs()[gone[name]].sum()) for name in names)
        assert tabled.tables["snip"].scores(genome.levels) == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_dense_loses_nothing(tabled: Tabled) -> None:
    for name, table in tabled.tables.items():
        if name != "pq_index":
            assert table.scores(tabled.space.dense.levels) == pytest.approx(0, abs=1e-9), name
        many = np.array([genome.levels for genome in tabled.genomes(5)])
        assert np.allclose(table.scores(many), [table.scores(levels) for levels in many])


def test_output_error_is_that_of_real_outputs(tabled: Tabled) -> None:
    """One matrix pruned alone: |(W - W')x|² / |Wx|² over its real inputs."""
    position = next(i for i, u in enumerate(tabled.space.units) if u.name.endswith("down_proj.sparsity"))
    path = tabled.space.units[position].module
    genome = Genome.of([int(i == position) for i in range(len(tabled.space.units))])
    states: list[torch.Tensor] = []
    dense = tabled.supernet.apply(tabled.space.dense)
    weight = dense.get_submodule(path).weight.data.clone()
    handle = dense.get_submodule(path).register_forward_pre_hook(lambda _, args: states.append(args[0].flatten(0, 1)))
    outputs_of(dense, tabled.supernet.network.task, tabled.samples)
    handle.remove()
    pruned = tabled.supernet.apply(genome).get_submodule(path).weight.data
    inputs = torch.cat(states)
    expected = float((inputs @ (weight - pruned).T).square().sum() / (inputs @ weight.T).square().sum())
    assert tabled.tables["output_error"].scores(genome.levels) == pytest.approx(expected, rel=1e-3)


def test_errors_accumulate_only_behind_the_first_block(tabled: Tabled) -> None:
    block = np.array([u.block for u in tabled.space.units])
    first = Genome.of(((block == 0) & ~tabled.space.drops).astype(int))
    last = Genome.of(((block == block.max()) & ~tabled.space.drops).astype(int))
    alone, behind = tabled.tables["output_error"], tabled.tables["accumulated_error"]
    assert behind.scores(first.levels) == pytest.approx(float(alone.scores(first.levels)), rel=1e-4)
    assert behind.scores(last.levels) != pytest.approx(float(alone.scores(last.levels)), rel=1e-3)


def test_fisher_is_half_the_mean_square(tabled: Tabled) -> None:
    """All removed: ½ Σ w² E[g²], from gradients of single samples."""
    model = tabled.supernet.apply(tabled.space.dense)
    names = list(tabled.supernet.network.matrices)
    weights = {name: model.get_parameter(name) for name in names}
    total = 0.0
    for i in range(len(tabled.samples)):
        each = mean_gradients(model, tabled.supernet.network.task, tabled.samples.rows(slice(i, i + 1)), weights)
        total += sum(float((weights[n].data * g).square().sum()) for n, g in each.items()) / 2 / len(tabled.samples)
    drops = [len(u.levels) - 1 if u.is_drop else 0 for u in tabled.space.units]
    assert tabled.tables["fisher"].scores(drops) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2", "vit"])
def test_curvature_is_the_difference_of_gradients(family: str, family_dir: Make, tmp_path: Path) -> None:
    """H g = (∇L(w + εg) - ∇L(w - εg)) / 2ε."""
    launch = launched(family_dir(family), units=[{"kind": "sparsity"}])
    model, network = launch.source.load(torch.float64, "cpu"), launch.network
    samples = launch.samples["calibration"].rows(slice(0, 3))
    gradients, curvature = tmp_path / "g.safetensors", tmp_path / "c.safetensors"
    collect_gradients(model, network, samples, gradients)
    collect_curvature(model, network, samples, gradients, curvature)
    parameters = {name: model.get_parameter(name) for name in network.matrices}
    mean = mean_gradients(model, network.task, samples, parameters)
    step = 1e-3 / math.sqrt(sum(float(g.square().sum()) for g in mean.values()))
    ends = []
    for sign in (1, -1):
        for name, parameter in parameters.items():
            parameter.data += sign * step * mean[name].double()
        ends.append(mean_gradients(model, network.task, samples, parameters))
        for name, parameter in parameters.items():
            parameter.data -= sign * step * mean[name].double()
    for name, difference in load_curvature(curvature).items():
        expected = (ends[0][name] - ends[1][name]) / (2 * step)
        assert torch.allclose(difference, expected, atol=1e-2 * float(expected.abs().max()) + 1e-6), name


def test_gradients_of_the_dense_network_agree_with_themselves(tabled: Tabled) -> None:
    live = tabled.live(tabled.space.dense)
    dense_traces = traces(live)
    sublayers = {sublayer(name) for name in live.network.matrices}
    best = trace_nas(tabled.live(tabled.space.dense, dense=dense_traces))
    assert best == pytest.approx(-len(sublayers), abs=1e-6)
    assert all(trace_nas(tabled.live(genome, dense=dense_traces)) > best for genome in tabled.genomes(4))
    first, second = torch.randn(50), torch.randn(50)
    assert correlation(3 * first + 2, second) == pytest.approx(correlation(first, second), abs=1e-6)
    assert set(retention(live).values()) == {1.0}


def module_live(model: nn.Module, inputs: torch.Tensor) -> LiveCandidate:
    """A live network around a module that was not traced."""
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    network: Any = type(
        "Network",
        (),
        {"task": TASKS["module"], "matrices": dict.fromkeys(n for n in shapes if "weight" in n), "blocks": ()},
    )
    return LiveCandidate(model, network, Genome.of([0]), Samples({"0": inputs.numpy()}), None)  # type: ignore[arg-type]


def test_synflow_is_conserved_from_layer_to_layer() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5, bias=False)
    )
    live = module_live(model, torch.randn(2, 3, 6, 6))
    total = [float(saliency.sum()) for name, saliency in saliencies(live).items() if not name.startswith("1.")]
    ones = torch.ones(1, 3, 6, 6, dtype=torch.float64)
    chain = nn.functional.conv2d(ones, model[0].weight.double().abs()).flatten(1)  # type: ignore[operator]
    flow = float((chain @ model[4].weight.double().abs().T).sum().detach())  # type: ignore[operator]
    assert total == pytest.approx([flow, flow])
    assert (model[0].weight < 0).any(), "the model is left as it was"


def test_rectifiers_that_samples_switch_alike_are_singular() -> None:
    model = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, CLASSES))
    different = torch.randn(4, 6)
    assert math.isfinite(nwot(module_live(model, different)))
    assert nwot(module_live(model, different[[0, 0, 1, 2]])) > nwot(module_live(model, different)) + 10
    with pytest.raises(ValueError, match="no ReLU ran"):
        nwot(module_live(nn.Sequential(nn.Linear(6, 5)), different))


def test_jacobians_that_are_alike_score_worse() -> None:
    linear = nn.Sequential(nn.Linear(6, CLASSES))
    varied = nn.Sequential(nn.Linear(6, 200), nn.ReLU(), nn.Linear(200, CLASSES))
    inputs = torch.randn(5, 6) * 3
    assert jacob_cov(module_live(linear, inputs)) > 1e4, "a linear network has one Jacobian for all"
    assert jacob_cov(module_live(varied, inputs)) < jacob_cov(module_live(linear, inputs)) / 10


def test_chance_and_size() -> None:
    costed = CostedGenome(Genome.of([1, 2]), {"params": 10, "macs": 20, "nonzeros": 5})
    scores = {name: PROXIES[name].score(costed) for name in ("params", "macs", "nonzeros", "random")}
    assert scores | {"random": 0} == {"params": -10, "macs": -20, "nonzeros": -5, "random": 0}
    assert PROXIES["random"].score(costed) == scores["random"]


def test_names() -> None:
    def mine(candidate: CostedGenome) -> float:
        """Minus one."""
        return -1.0

    with PROXIES.restored():
        proxy("mine", reads="costs")(mine)
        (entry,) = proxies_named(["mine"])
    assert (entry.summary, entry.score) == ("Minus one.", mine)
    with pytest.raises(InputError, match=r"SS102 unknown proxy 'snap'. Did you mean 'snip'"):
        proxies_named(["snap"])
    with pytest.raises(InputError, match=r"SS102 proxy 'snip' is named twice"):
        proxies_named(["snip", "snip"])


@pytest.mark.parametrize(("value", "words"), [([1.0, 2.0], "list of 2"), (np.zeros(3), r"shape \(3,\)")])
def test_a_score_is_one_number(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        as_number(Proxy("vector", "costs", lambda _: value), value)
    assert as_number(Proxy("one", "costs", lambda _: 0.0), torch.tensor([2.0])) == 2.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where levels are built once for all proxies."""
    return tmp_path_factory.mktemp("conformance")


@pytest.mark.parametrize("name", [name for name in PROXIES if name not in ("nwot", "synflow", "params", "macs")])
def test_conformance(name: str, shared: Path) -> None:
    check_proxy(name, shared)


CNN: dict[str, Any] = {
    "model": {"id": "networks:padded"},
    "units": [{"kind": "channels", "levels": [0.75, 0.5, 0.25]}, {"kind": "sparsity", "levels": ["50%", "80%"]}],
    "objectives": ["kl", "nonzeros"],
    "pruners": {"sparsity": "magnitude", "width": "magnitude"},
    "executor": {"kind": "local"},
}


@pytest.mark.parametrize("name", [name for name in PROXIES if name not in ("random", "accumulated_error")])
def test_conformance_on_a_convolutional_network(name: str, tmp_path: Path) -> None:
    check_proxy(name, tmp_path / "run", CNN | {"data": image_data(tmp_path)})


def test_errors_accumulate_only_where_blocks_follow_one_another(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="SS116 proxy accumulated_error: its blocks do not follow one another"):
        check_proxy("accumulated_error", tmp_path / "run", CNN | {"data": image_data(tmp_path)})


def test_a_proxy_that_fails_is_told_and_has_no_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(subject: Any) -> float:
        """Fails."""
        raise ZeroDivisionError("by hand")

    launch = auditing.with_limits(prepare(RunConfig.model_validate(RECIPE)))
    proxies = [Proxy(f"broken_{reads}", reads, broken) for reads in ("costs", "matrix", "network")]  # type: ignore[arg-type]
    audit = auditing.audit(launch, tmp_path / "run", proxies, 4, 0, 0, Reporter())
    assert all(np.isnan(scores).all() for scores in audit.scores.values())
    output = capsys.readouterr().err
    assert all(f"SS407 proxy {proxy.name}: ZeroDivisionError: by hand" in output for proxy in proxies)
    with pytest.raises(InputError, match=r"SS602 .* is an audit"):
        controller.resume(tmp_path / "run", {}, Reporter(quiet=True))
