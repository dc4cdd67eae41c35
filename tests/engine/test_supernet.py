"""Elastic supernets as runs: built once, searched like any other, resumed, reopened, and refused before they begin."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from networks import CLASSES, make
from safetensors.torch import load_file, save_file
from support import image_folder, launched, run_search
from typer.testing import CliRunner

import sparsesearch as ss
from sparsesearch.cli import app
from sparsesearch.config import RunConfig, load_config
from sparsesearch.data import Samples
from sparsesearch.engine import controller
from sparsesearch.engine.launch import supernet_plan as supernet_checks
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.engine.launch.prepare import prepare
from sparsesearch.engine.launch.supernet_plan import training_bytes
from sparsesearch.engine.phases import supernet_training as supernet_building
from sparsesearch.engine.reopen import open_run
from sparsesearch.engine.workflows import recover as recovering
from sparsesearch.errors import EnvironmentProblem, InputError
from sparsesearch.export import load, write
from sparsesearch.models.surgery import set_attribute
from sparsesearch.runs.cache import INDEX, USAGE, Cache, weights_of
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.supernet.draws import Draws
from sparsesearch.supernet.elastic import ElasticSupernet
from sparsesearch.training.block_local import BlockRun, LocalBlock
from sparsesearch.training.nested import NestedRun

Make = Callable[[str], Path]
UNITS = [{"kind": "ffn_width", "levels": 3}, {"kind": "kv_groups"}, {"kind": "drop_ffn"}]
STEPS, BATCH, LENGTH = 6, 2, 16


def supernet(kind: str, **more: Any) -> dict[str, Any]:
    """Some steps of two samples, of trained ones."""
    networks = 4 if kind == "sandwich" else 2
    training = {"batch": BATCH, "learning_rate": 1e-2} | more.pop("training", {})
    trained = {"tokens": STEPS * networks * BATCH * LENGTH, "training": training}
    return {"units": UNITS, "supernet": {"kind": kind} | (trained if kind not in ("sorted", "stitched") else {}) | more}


def directory(results: RunResults) -> Path:
    return results.run.cache.supernet(results.info["fingerprint"]["supernet"])


def tokens(results: RunResults, phase: str) -> int:
    return sum(line["tokens"] for line in results.run.lines(results.run.ledger) if line["phase"] == phase)


@pytest.fixture(scope="module")
def runs(family_dir: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunResults]:
    """A run of each kind, in one results directory."""
    place = tmp_path_factory.mktemp("elastic")
    kinds = ["stitched", "sorted", "sandwich", "random_linear", "block_local"]
    return {kind: run_search(place / kind, family_dir("llama"), **supernet(kind)) for kind in kinds}


@pytest.mark.parametrize("kind", ["sorted", "sandwich", "random_linear", "block_local"])
def test_candidates_are_parts_of_one_network(
    runs: dict[str, RunResults], kind: str, tmp_path: Path, quick_exports: None
) -> None:
    """What a run measures, and what it exports, is the elastic network run at the genome."""
    results = runs[kind]
    assert {p.name for p in directory(results).iterdir()} == {INDEX, USAGE, "weights.safetensors"}
    opened = open_run(results)
    launch = launched(results.info["model"], **supernet(kind))
    network, samples = launch.network, launch.samples["selection"].rows(slice(0, 2))
    model = launch.source.load(torch.float32, "cpu")
    model.load_state_dict(load_file(weights_of(directory(results))), strict=False)
    elastic = ElasticSupernet(model, network, results.space)
    for evaluation in results.final[:4]:
        cut = opened.supernet.materialise(evaluation.genome)
        with torch.no_grad():
            expected = network.task.call(cut, samples.inputs(cut))
            with elastic.running(evaluation.genome) as running:
                outputs = network.task.call(running, samples.inputs(model))
        torch.testing.assert_close(outputs, expected, atol=1e-4, rtol=1e-3)
    done = write.export(open_run(results), results.pick("smallest"), tmp_path / "out")
    assert done["verified"]
    assert sum(p.numel() for p in load(tmp_path / "out").parameters()) >= done["params"]


def test_sorting_alone_keeps_the_dense_network_and_training_moves_it(runs: dict[str, RunResults]) -> None:
    dense = {kind: results.dense.quality for kind, results in runs.items() if results.dense is not None}
    assert max(dense["stitched"], dense["sorted"]) < 1e-6
    assert all(dense[kind] > 1e-6 for kind in ("sandwich", "random_linear", "block_local"))
    # All are compared with the same dense network.
    assert len(list((runs["sorted"].run.path.parent / ".cache" / "teachers").glob("*/"))) == 1


def test_gradient_tokens_of_each_sub_network_are_counted(runs: dict[str, RunResults], family_dir: Make) -> None:
    """And there are about as many as were asked for, whatever the kind."""
    for kind in ("sandwich", "random_linear", "block_local"):
        launch = launched(family_dir("llama"), **supernet(kind))
        options, steps = launch.config.supernet, supernet_checks.steps_of(launch)
        blocks = range(3) if kind == "block_local" else [None]
        draws = [Draws(launch.space, options, steps, 0, block) for block in blocks]
        networks = sum(len(each.at(step)) for each in draws for step in range(steps)) / len(draws)
        expected = round(networks * BATCH * LENGTH)
        assert tokens(runs[kind], "supernet") == runs[kind].front_json()["supernet_tokens"] == 3 * expected
        assert options.tokens is not None
        assert expected == pytest.approx(options.tokens, rel=0.3)
    assert tokens(runs["block_local"], "hidden states") == 6 * LENGTH
    assert tokens(runs["sorted"], "supernet") == runs["stitched"].supernet_tokens == 0


def test_equal_tokens_are_equal(family_dir: Make) -> None:
    for kind in ("sandwich", "random", "random_linear", "block_local"):
        launch = launched(family_dir("llama"), **supernet(kind, tokens=400 * BATCH * LENGTH))
        steps, blocks = supernet_checks.steps_of(launch), 3 if kind == "block_local" else 1
        mean = sum(supernet_checks.trained_tokens(launch, 0, steps, block) for block in range(blocks)) / blocks
        assert mean == pytest.approx(400 * BATCH * LENGTH, rel=0.08)


def test_what_weights_depend_on_names_the_supernet(
    runs: dict[str, RunResults], family_dir: Make, tmp_path: Path
) -> None:
    """Teacher, units and start as well; what does not matter to a kind cannot be said of it."""
    directory_ = family_dir("llama")
    other = tmp_path / "other"
    shutil.copytree(directory_, other)
    state = load_file(other / "model.safetensors")
    save_file({n: t * 1.01 for n, t in state.items()}, other / "model.safetensors", metadata={"format": "pt"})
    plain = launched(directory_, **supernet("sandwich")).supernet_key
    taught = {"model": {"id": str(directory_), "teacher": str(other)}}
    assert launched(directory_, **supernet("sandwich"), **taught).supernet_key != plain
    assert (
        launched(directory_, **supernet("sorted"), **taught).supernet_key
        == launched(directory_, **supernet("sorted")).supernet_key
    )
    with pytest.raises(InputError, match=r"SS120 .*cannot be trained towards another network's blocks"):
        launched(directory_, **supernet("block_local"), **taught)
    start = str(runs["sandwich"].run.path)
    fewer = supernet("random", start=start) | {"units": UNITS[:1]}
    assert (
        launched(directory_, **fewer).supernet_key
        != launched(directory_, **supernet("random", start=start)).supernet_key
    )


def test_units_that_a_start_has_not_sorted_are_refused(family_dir: Make, tmp_path: Path) -> None:
    narrow = run_search(tmp_path / "narrow", family_dir("llama"), **supernet("sorted") | {"units": UNITS[:1]})
    with pytest.raises(InputError, match=r"SS219 .*has not sorted the elements of .*kv_groups"):
        launched(family_dir("llama"), **supernet("sorted", start=str(narrow.run.path)))


def test_damaged_weights_are_refused(runs: dict[str, RunResults], tmp_path: Path) -> None:
    results = runs["random_linear"]
    path = weights_of(directory(results))
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    try:
        for use in (lambda: open_run(results), lambda: controller.resume(results.run.path, {}, Reporter(True))):
            with pytest.raises(EnvironmentProblem, match=r"SS306 .*weights.safetensors is damaged: it is missing"):
                use()
    finally:
        path.write_bytes(whole)


def test_a_refined_run_opens_the_supernet_that_was_trained(runs: dict[str, RunResults]) -> None:
    coarse = runs["sandwich"]
    ended = CliRunner().invoke(app, ["refine", str(coarse.run.path), "--evals", "10"])
    assert ended.exit_code == 0, ended.output
    fine = RunResults(coarse.run.path.with_name("sandwich-fine"))
    assert weights_of(directory(fine)).read_bytes() == weights_of(directory(coarse)).read_bytes()
    assert tokens(fine, "supernet") == 0
    # Of other options, or for units that it has not sorted, another is named.
    config = {"refines": str(coarse.run.path)}
    for other in ({"supernet.subnets": 3}, {"units": [*UNITS, {"kind": "drop_attention"}]}):
        launch = prepare(load_config(coarse.run.config, config | other), saved=coarse.run)
        assert (launch.supernet_key == coarse.info["fingerprint"]["supernet"]) == ("units" in other)


def test_a_run_needs_not_what_it_started_from_once_it_has_its_own(
    runs: dict[str, RunResults], family_dir: Make
) -> None:
    place = runs["sandwich"].run.path.parent
    first = run_search(place / "first", family_dir("llama"), **supernet("random", training={"seed": 7}))
    second = run_search(place / "second", family_dir("llama"), **supernet("sorted", start=str(directory(first))))
    shutil.rmtree(directory(first))
    assert controller.resume(second.run.path, {"search.evals": 14}, Reporter(quiet=True)).front


def test_another_run_takes_the_supernet_that_is_there(runs: dict[str, RunResults], family_dir: Make) -> None:
    first = runs["sandwich"]
    before = weights_of(directory(first)).stat().st_mtime_ns
    place = first.run.path.parent / "again"
    again = run_search(place, family_dir("llama"), **supernet("sandwich"), training={"batch": 3})
    assert directory(again) == directory(first)
    assert weights_of(directory(first)).stat().st_mtime_ns == before
    assert tokens(again, "supernet") == 0
    assert again.run.archive.read_bytes() == first.run.archive.read_bytes()


@pytest.mark.parametrize("searcher", ["auto", "nsga2", "evolution", "dp", "gates", "allocation:uniform", "optuna:tpe"])
def test_every_kind_of_searcher_takes_it(runs: dict[str, RunResults], family_dir: Make, searcher: str) -> None:
    place = runs["sandwich"].run.path.parent / searcher.replace(":", "-")
    options = {"sizes": ["params<=95%"], "tokens": 64} if searcher == "gates" else {}
    search = {"searcher": searcher, "evals": 30, "final": 4, "options": options}
    if searcher == "gates":
        search.pop("evals")
    changes = supernet("sandwich") | {"objectives": ["kl", "params"], "search": search, "training": {"batch": 2}}
    if searcher in ("allocation:uniform", "evolution"):
        changes |= {"limits": ["params<=95%"]}
    results = run_search(place, family_dir("llama"), **changes)
    assert results.front
    assert directory(results) == directory(runs["sandwich"])


def test_proxies_and_rungs_work_on_it(runs: dict[str, RunResults], family_dir: Make) -> None:
    screen = {"proxy": "wanda", "children": 2, "candidates": 8, "tokens": 32}
    search = {"searcher": "random", "evals": 24, "final": 4, "options": {"batch": 6, "tokens": 32}, "screen": screen}
    search["rungs"] = [{"tokens": 64, "candidates": 2}]
    place = runs["sandwich"].run.path.parent / "screened"
    results = run_search(place, family_dir("llama"), **supernet("sandwich"), search=search, training={"batch": 2})
    assert any(e.trained == 64 for e in results.front)


def test_recovery_is_trained_otherwise(runs: dict[str, RunResults]) -> None:
    """With options and data that the supernet was not trained with, whose name does not depend on them."""
    results = runs["block_local"]
    changes = {"training.learning_rate": 3e-3, "data.training": {"source": "stdlib:test", "sequences": 4, "length": 16}}
    launch = recovering.prepare_recovery(results, changes | {"training.batch": 2}, 64)
    (done,) = recovering.recover(launch, [results.pick("smallest")], Reporter(quiet=True))
    assert done.tokens == 64


def test_a_supernet_is_reopened_and_trained_further(runs: dict[str, RunResults], family_dir: Make) -> None:
    first = runs["sandwich"]
    place = first.run.path.parent
    reopened = run_search(place / "reopened", family_dir("llama"), **supernet("sorted", start=str(first.run.path)))
    assert reopened.dense is not None
    assert first.dense is not None
    assert reopened.dense.quality == first.dense.quality
    assert weights_of(directory(reopened)).read_bytes() == weights_of(directory(first)).read_bytes()
    further = run_search(place / "further", family_dir("llama"), **supernet("random", start=str(directory(first))))
    assert weights_of(directory(further)).read_bytes() != weights_of(directory(first)).read_bytes()
    state, other = (load_file(weights_of(directory(r))) for r in (first, further))
    assert {n: t.shape for n, t in state.items()} == {n: t.shape for n, t in other.items()}


def test_a_supernet_that_is_gone_is_missed(runs: dict[str, RunResults]) -> None:
    results = runs["random_linear"]
    place = directory(results)
    place.rename(place.with_name("away"))
    try:
        with pytest.raises(InputError, match=r"SS505 the run's supernet .* is gone"):
            open_run(results)
        with pytest.raises(InputError, match=r"SS505 .*supernets.* is gone"):
            recovering.prepare_recovery(results, {"training.batch": 2}, 64)
    finally:
        place.with_name("away").rename(place)


def test_a_supernet_of_another_model_is_refused(runs: dict[str, RunResults], family_dir: Make, tmp_path: Path) -> None:
    changes = supernet("sorted", start=str(runs["sandwich"].run.path))
    with pytest.raises(InputError, match=r"SS219 .* is of another network"):
        launched(family_dir("qwen2"), **changes)
    for start in (tmp_path, runs["stitched"].run.path):
        with pytest.raises(InputError, match=r"SS219 .* is neither a supernet nor a run with one"):
            launched(family_dir("llama"), **supernet("sorted", start=str(start)))


@pytest.mark.parametrize("kind", ["sandwich", "block_local"])
def test_a_killed_training_goes_on_to_the_same_bytes(
    runs: dict[str, RunResults], kind: str, family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle (of the second block), with a checkpoint after each step."""
    monkeypatch.setattr("sparsesearch.training.loop.MIN_CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr("sparsesearch.training.loop.CHECKPOINT_TIME_FACTOR", -1.0)
    monkeypatch.setattr(supernet_building, "SECONDS_PER_CALL", 0.0)
    method, calls = NestedRun.gradients, []
    steps = supernet_checks.steps_of(launched(family_dir("llama"), **supernet(kind)))

    def dying(self: NestedRun) -> float:
        calls.append(1)
        if len(calls) == (4 if kind == "sandwich" else steps + 3):
            raise KeyboardInterrupt
        return method(self)

    monkeypatch.setattr(NestedRun, "gradients", dying)
    with pytest.raises(KeyboardInterrupt):
        run_search(tmp_path / "run", family_dir("llama"), **supernet(kind))
    monkeypatch.setattr(NestedRun, "gradients", method)
    half = next((tmp_path / ".cache" / "supernets").glob("*/"))
    assert not (half / INDEX).exists()
    finished = list(half.glob("blocks/*-trained.safetensors"))
    assert len(finished) == (kind == "block_local")
    made, times = [], [path.stat().st_mtime_ns for path in finished]

    def counting(self: NestedRun) -> float:
        made.append(1)
        return method(self)

    monkeypatch.setattr(NestedRun, "gradients", counting)
    resumed = controller.resume(tmp_path / "run", {}, Reporter(quiet=True))
    assert resumed.run.archive.read_bytes() == runs[kind].run.archive.read_bytes()
    assert not [path for path, time in zip(finished, times, strict=True) if path.exists() and time]
    blocks = 3 if kind == "block_local" else 1
    assert len(made) < blocks * steps - len(finished) * steps


@pytest.mark.ray
@pytest.mark.parametrize("kind", ["sandwich", "block_local"])
def test_ray_builds_the_same(
    cluster: str, runs: dict[str, RunResults], kind: str, family_dir: Make, tmp_path: Path
) -> None:
    executor = {"kind": "ray", "workers": 2}
    rebuilt = run_search(tmp_path / "ray", family_dir("llama"), **supernet(kind), executor=executor)
    assert rebuilt.run.archive.read_bytes() == runs[kind].run.archive.read_bytes()
    state, other = (load_file(weights_of(directory(results))) for results in (runs[kind], rebuilt))
    assert all(torch.equal(tensor, other[name]) for name, tensor in state.items())


def test_a_block_task_never_holds_the_network(
    family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[tuple[int, int]] = []
    method = BlockRun.__init__

    def looking(self: BlockRun, block: LocalBlock, *arguments: Any) -> None:
        method(self, block, *arguments)
        real = sum(p.numel() for p in block.skeleton.parameters() if not p.is_meta)
        there.append((real, sum(p.numel() for p in block.skeleton.parameters())))

    monkeypatch.setattr(BlockRun, "__init__", looking)
    run_search(tmp_path / "run", family_dir("llama"), **supernet("block_local"))
    assert len(there) == 3
    assert all(real < whole / 10 for real, whole in there)


def test_what_is_no_number_ends_training_and_keeps_what_was(
    family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = NestedRun.gradients
    monkeypatch.setattr(NestedRun, "gradients", lambda self: method(self) if self.step < 3 else float("nan"))
    messages: list[str] = []
    monkeypatch.setattr(Reporter, "message", lambda self, text: messages.append(text))
    results = run_search(tmp_path / "run", family_dir("llama"), **supernet("sandwich"))
    assert any("SS408 supernet: loss nan" in text for text in messages)
    assert results.front
    index = json.loads((directory(results) / INDEX).read_text())
    assert index["stopped"]
    assert tokens(results, "supernet") == 3 * index["tokens"] <= 3 * 3 * 4 * BATCH * LENGTH


def test_a_convolutional_network_with_batch_normalisation(tmp_path: Path) -> None:
    """Channels of a traced network; running statistics are measured when training ends, and for each candidate."""
    image = {"size": 16, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    data = {
        role: {"source": str(image_folder(tmp_path / role, seed=n)), "sequences": 8, "image": image}
        for n, role in enumerate(("calibration", "selection"))
    }
    changes: dict[str, Any] = {
        "units": [{"kind": "channels", "levels": 3}],
        "objectives": ["kl", "macs"],
        "data": data,
        "batch": 4,
        "supernet": {"kind": "sandwich", "tokens": 4 * 4 * 6, "training": {"batch": 4, "learning_rate": 1e-2}},
        "model": {"id": "networks:padded"},
    }
    results = run_search(tmp_path / "runs" / "run", "networks:padded", **changes)
    state = load_file(weights_of(directory(results)))
    assert any("running_mean" in name for name in state)
    assert state["linear.weight"].shape[0] == CLASSES
    assert results.dense is not None
    assert results.dense.quality < 1.0
    opened = open_run(results, TRUSTED)
    smallest = results.pick("smallest")
    network = opened.supernet.materialise(smallest.genome)
    params = sum(p.numel() for p in network.parameters())
    assert params == smallest.costs["params"] < sum(t.numel() for n, t in state.items() if "running" not in n)


def test_one_word_in_the_recipe(family_dir: Make, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("units: [{kind: ffn_width}]\nsupernet: sandwich\n")
    assert load_config(path).supernet.kind == "sandwich"
    assert load_config(path, {"supernet.subnets": 3}).supernet.subnets == 3
    assert load_config(path, {"supernet": "sorted"}).supernet.kind == "sorted"
    assert load_config(path, {"supernet.tokens": 99, "supernet": "random"}).supernet.tokens == 99
    assert RunConfig.model_validate({"units": [{"kind": "ffn_width"}], "supernet": "random"}).supernet.is_trained
    names = [launched(family_dir("llama"), **supernet(k)).supernet_key for k in ("stitched", "sorted", "sandwich")]
    assert names[0] == ""
    assert len(set(names)) == 3


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"units": [{"kind": "sparsity", "levels": 3}]}, "SS120", "no unit is a width or a sublayer"),
        ({"supernet": {"kind": "sandwich", "tokens": 8}}, "SS118", "less than one step takes"),
        ({"supernet": {"kind": "sandwich", "stages": [["experts"]]}}, "SS120", "no unit is of kind experts"),
        ({"supernet": {"kind": "sandwich", "stages": [["kv_groups"], ["kv_groups"]]}}, "SS120", "in two stages"),
        (
            {"units": UNITS, "supernet": {"kind": "block_local", "tokens": 9**6, "training": {"distill": 0.5}}},
            "SS120",
            "only trained towards their dense outputs",
        ),
    ],
)
def test_bad_input_is_one_line_before_any_work(family_dir: Make, changes: Any, code: str, says: str) -> None:
    with pytest.raises(InputError, match=f"{code} .*{says}"):
        launched(family_dir("llama"), **supernet("sandwich") | changes)


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "sorted", "tokens": 9},
        {"kind": "sorted", "weights": "lora"},
        {"start": "x"},
        {"kind": "random", "distill_from": "largest"},
        {"kind": "sandwich", "training": {"method": "perp"}},
        {"kind": "block_local", "training": {"temperature": 2.0}},
    ],
)
def test_options_that_would_do_nothing_are_refused(bad: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"units": [{"kind": "ffn_width"}], "supernet": bad}))
    with pytest.raises(InputError, match=r"SS101 .*supernet"):
        load_config(path)


def test_blocks_that_do_not_follow_one_another_are_refused(family_dir: Make) -> None:
    with pytest.raises(InputError, match=r"SS120 .*do not follow one another in a chain"):
        launched(family_dir("t5"), **supernet("block_local") | {"units": [{"kind": "ffn_width", "levels": 3}]})


def test_memory_and_disk_are_stated_and_refused(
    family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = launched(family_dir("llama"), **supernet("block_local"))
    note, plan = supernet_checks.supernet_note(launch), supernet_checks.supernet_plan(launch)
    assert plan["steps"] == supernet_checks.steps_of(launch)
    assert plan["activation_bytes"] == 4 * 6 * LENGTH * 32 * 4  # before, between and behind three blocks
    assert supernet_checks.supernet_plan(launched(family_dir("llama"), **supernet("sorted"))) == {"kind": "sorted"}
    assert "GB a worker" in note
    assert "of hidden states on disk" in note
    whole = launched(family_dir("llama"), **supernet("sandwich"))
    assert training_bytes(launch) < training_bytes(whole) / 4
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(EnvironmentProblem, match=r"SS305 building the supernet needs .* data.training.sequences fit"):
        supernet_checks.check_supernet_disk(launch, Cache(tmp_path))
    monkeypatch.undo()
    monkeypatch.setattr(supernet_checks, "free_bytes", lambda _: 1.0)
    with pytest.raises(EnvironmentProblem, match=r"SS308 training the supernet needs about"):
        launched(family_dir("llama"), **supernet("sandwich"))


def test_a_module_from_python(tmp_path: Path) -> None:
    """`ss.search` on a torch.nn.Module, with the supernet in one word."""
    images = torch.randn(12, 3, 16, 16)
    recipe = {"units": [{"kind": "channels", "levels": 2}], "objectives": ["kl", "macs"], "supernet": "sorted"}
    run = ss.search(
        make("gated"),
        recipe,
        data={"calibration": images[:6], "selection": images[6:]},
        results=tmp_path,
        name="run",
        changes={"search": {"searcher": "random", "evals": 6, "options": {"batch": 3}}, "executor.kind": "local"},
        quiet=True,
    )
    assert run.results.front


def test_what_needs_gradients_and_masks_is_refused_where_there_are_none(family_dir: Make, tmp_path: Path) -> None:
    """An order by gradients of a loss that a network has not; block-local training on padded samples; other shapes."""
    widths = {"units": [{"kind": "ffn_width", "levels": 3}]}
    with pytest.raises(InputError, match=r"SS209"):
        launched(family_dir("bert-embedding"), **supernet("sorted") | widths, pruners={"width": "taylor"})
    launch = launched(family_dir("llama"), **supernet("block_local"))
    arrays = launch.samples["calibration"].arrays
    mask = np.ones_like(arrays["input_ids"])
    mask[0, -1] = 0
    padded = replace(launch, samples={"calibration": Samples(arrays | {"attention_mask": mask})})
    with pytest.raises(InputError, match=r"SS120 .*samples are padded"):
        supernet_checks.check_supernet(padded)
    image = {"size": 16, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    data = {
        role: {"source": str(image_folder(tmp_path / role, seed=n)), "sequences": 8, "image": image}
        for n, role in enumerate(("calibration", "selection"))
    }
    with pytest.raises(InputError, match=r"SS117 supernet.training.hidden"):
        launched(
            "networks:padded",
            units=[{"kind": "channels", "levels": 3}],
            objectives=["kl", "macs"],
            data=data,
            supernet={"kind": "sandwich", "training": {"hidden": 1.0, "batch": 4}},
        )


def test_a_smaller_kernel_is_a_stock_layer() -> None:
    """Its padding is a tuple still, so that it prints and is traced like any other."""
    model = make("kernels")
    set_attribute(model.depthwise, "padding", 1)
    assert model.depthwise.padding == (1, 1)
    assert "padding=(1, 1)" in repr(model)
