"""Every benchmark script runs for a moment through its command line and writes what its docstring promises."""

from __future__ import annotations

import contextlib
import io
import json
import math
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from support import SIZES
from transformers import LlamaConfig, LlamaForCausalLM

from sparsesearch import cli
from sparsesearch.config import load_config
from sparsesearch.demo.corpus import documents
from sparsesearch.models import load_tokenizer
from sparsesearch.models.load import DEMO

ROOT = Path(__file__).parents[1] / "results" / "benchmarks"
RESNETS = ROOT / "any_network"  # where the factory is
WIDTHS = ROOT / "search_efficiency" / "widths.yaml"
# Keys that make a recipe of the folder small enough to run for a moment.
SMALL = {
    "model.compute_dtype": "auto",
    "executor.kind": "local",
    "data.calibration.sequences": 8,
    "data.calibration.length": 32,
    "data.selection.sequences": 8,
    "data.selection.length": 32,
    "training.learning_rate": 3e-4,
    "training.batch": 4,
}


def run_main(path: Path | None, *arguments: object, cwd: Path | None = None) -> str:
    """Run a script as `python PATH ARGUMENTS`, or `sparsesearch ARGUMENTS`, in this process; returns its stdout."""
    modules, out = set(sys.modules), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(sys, "argv", [str(path or "sparsesearch"), *map(str, arguments)])
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(torch, "set_num_threads", lambda _: None)  # one thread, as in all tests
        patch.chdir(cwd or ROOT)
        try:
            if path is None:
                cli.main()
            else:
                sys.path.insert(0, str(path.parent))
                runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            assert not end.code, f"exit code {end.code}"
        finally:
            for name in set(sys.modules) - modules:  # helpers of one folder have names that another one uses too
                file = getattr(sys.modules[name], "__file__", None)
                if file is not None and ROOT in Path(file).parents:
                    del sys.modules[name]
    return out.getvalue()


def script(name: str, *arguments: object, cwd: Path | None = None) -> str:
    return run_main(ROOT / name, *arguments, cwd=cwd)


def sparsesearch(*arguments: object) -> str:
    return run_main(None, *arguments)


def finite(value: Any) -> bool:
    """Whether a JSON value has no number that is not finite."""
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def lines_of(text: str) -> list[dict[str, Any]]:
    """JSON lines, all numbers finite."""
    rows = [json.loads(line) for line in text.splitlines()]
    assert rows
    assert finite(rows), rows
    return rows


def rows_of(path: Path, printed: str) -> list[dict[str, Any]]:
    """The rows of a JSON file that a script wrote, which are what it printed."""
    rows: list[dict[str, Any]] = json.loads(path.read_text())
    assert rows
    assert finite(rows), rows
    assert rows == lines_of(printed)
    return rows


def table_of(text: str) -> list[list[str]]:
    """The cells of the Markdown tables in a text, each row as wide as the head of its table."""
    tables: list[list[str]] = []
    head = 0
    for line in text.splitlines():
        if not line.startswith("|"):
            head = 0
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        head = head or len(cells)
        tables.append(cells)
    assert len(tables) > 2, text
    assert "nan" not in text
    return tables


# Inputs


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture(scope="module")
def llama(work: Path) -> Path:
    """A tiny language model that takes windows of 256 tokens; most of its parameters are in its blocks."""
    sizes = SIZES | {"hidden_size": 64, "intermediate_size": 256, "max_position_embeddings": 512}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**sizes, initializer_range=0.1, tie_word_embeddings=True))
    model.save_pretrained(work / "llama")
    load_tokenizer(DEMO).save_pretrained(work / "llama")
    return work / "llama"


@pytest.fixture(scope="module")
def texts(work: Path) -> Path:
    """The text files that READMEs name, of some 6,000 tokens each, and 1,000 to test on."""
    path, train = work / "texts", documents("train")
    path.mkdir()

    def write(name: str, source: Iterator[str], length: int) -> None:
        text = ""
        while len(text) < length:
            text += next(source)
        (path / name).write_text(text[:length] + "\n")

    write("calib.txt", documents("calibration"), 24_000)
    write("valid.txt", documents("selection"), 20_000)
    write("wikitext2-test.txt", documents("test"), 4_000)
    write("train.txt", train, 24_000)
    write("training.txt", train, 24_000)
    return path


@pytest.fixture(scope="module")
def networks(work: Path) -> Path:
    """Weights of a small CIFAR-10 ResNet."""
    path = work / "networks"
    path.mkdir()
    namespace = runpy.run_path(str(ROOT / "any_network" / "resnet_cifar.py"))
    torch.manual_seed(0)
    save_file(namespace["resnet8"]().state_dict(), path / "resnet8-cifar10.safetensors")
    return path


@pytest.fixture(scope="module")
def images(work: Path) -> Path:
    """Random images like CIFAR-10's: train.parquet and test.parquet, and the roles that recovery/images.py makes."""
    path, rng = work / "images", np.random.default_rng(0)
    path.mkdir()
    for name, count in (("train", 96), ("test", 32)):
        data = []
        for pixels in rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            data.append({"bytes": file.getvalue(), "path": None})
        table = arrow.table({"image": data, "label": [i % 10 for i in range(count)]})
        parquet.write_table(table, path / f"{name}.parquet")
    script("recovery/images.py", path / "train.parquet", path, "--counts", 24, 24, 48)
    return path


# any_network


@pytest.fixture(scope="module")
def cnn(work: Path, networks: Path, images: Path) -> Path:
    """The runs of cnn.py, cnn.jsonl among them."""
    sizes = ("--calibration", 24, "--selection", 16, "--test-images", 32, "--executor", "local")
    places = ("--models", networks, "--images", images, "--runs", work / "cnn")
    for part, target in (("channels", 60), ("sparsity", 80)):
        setup = ("--depths", 8, "--seeds", 0, "--targets", target, "--evals", 6)
        script("any_network/cnn.py", part, *setup, *sizes, *places)
    return work / "cnn"


def test_cnn_compares_a_search_with_rules(cnn: Path) -> None:
    channels, sparsity = lines_of((cnn / "cnn.jsonl").read_text())
    assert {"search", "uniform"} <= channels["found"].keys()
    assert {"search", "uniform", "erk", "lamp", "global_magnitude"} == sparsity["found"].keys()
    assert channels["found"]["search"]["macs"] <= 0.6 * channels["dense"]["macs"]
    assert all(0 <= figures["accuracy"] <= 1 for row in (channels, sparsity) for figures in row["found"].values())


def test_batch_normalisation_is_measured_in_three_ways(cnn: Path, images: Path) -> None:
    run = cnn / "resnet8-channels-obs-60-s0"
    head, _, *rows = table_of(script("any_network/batchnorm.py", "--run", run, "--images", images, "--test-images", 16))
    assert len(head) == 8
    assert [row[0] for row in rows] == ["100 %", "75 %", "60 %", "50 %"]


@pytest.fixture(scope="module")
def moe(work: Path, texts: Path) -> Path:
    sizes = (
        "--steps",
        1,
        "--batch",
        2,
        "--seeds",
        0,
        "--kept",
        5,
        "--evals",
        12,
        "--sequences",
        4,
        "--windows",
        4,
        "--executor",
        "local",
    )
    script("any_network/moe.py", "--text", texts, "--runs", work / "moe", *sizes)
    return work / "moe" / "moe.jsonl"


def test_experts_are_searched_and_removed_evenly(moe: Path) -> None:
    dense, *rows = lines_of(moe.read_text())
    assert dense["kept"] == 8
    assert dense["uniform"]["kl"] == pytest.approx(0, abs=1e-6)
    assert rows, "some number of experts a layer is on the front"
    assert all({"kl", "perplexity"} == row[rule].keys() for row in rows for rule in ("search", "uniform"))


@pytest.fixture(scope="module")
def pruners(work: Path, llama: Path, texts: Path) -> Path:
    places = ("--model", llama, "--text", texts, "--runs", work / "pruners", "--executor", "local")
    sizes = ("--sequences", 8, "--windows", 4)
    any_ = ("--pruners", "wanda", "--sparsities", 50, "--generations", 1)
    script("any_network/pruners.py", "any", *any_, *places, *sizes)
    script("any_network/pruners.py", "2:4", "--pruners", "magnitude", *places, *sizes)
    return work / "pruners" / "pruners.jsonl"


def test_pruners_are_measured_under_allocations(pruners: Path) -> None:
    unstructured, pattern = lines_of(pruners.read_text())
    rules = {"uniform", "erk", "lamp", "owl", "block_influence", "alpha_pruning"}
    assert unstructured["found"].keys() == rules | {"search"}
    assert pattern["found"].keys() == {"uniform"}


def test_tables_of_networks(cnn: Path, moe: Path, pruners: Path) -> None:
    text = script("any_network/table.py", cnn / "cnn.jsonl", moe, pruners)
    cells = table_of(text)
    assert ["", "at most", "search", "uniform", *cells[0][4:]] == cells[0]
    assert "pattern: 2:4" in text
    assert any(row[0] == "experts a layer" for row in cells)


@pytest.mark.usefixtures("quick_exports")
def test_conformance_is_a_table() -> None:
    _, _, family, traced = table_of(script("any_network/conformance.py", "llama", "padded"))
    for row in (family, traced):
        assert row[-1] == "yes", "costs equal counting"
        assert all(float(cell) < 1e-3 for cell in row[2:5])


# main_job


@pytest.fixture(scope="module")
def main_job(work: Path, llama: Path, texts: Path) -> Path:
    """The runs of run.py, with its JSON lines."""
    places = ("--model", llama, "--text", texts, "--runs", work / "main", "--executor", "local", "--seeds", 0)
    sizes = ("--calibration", 8, "--selection", 2, "--windows", 2, "--kl-windows", 2)
    script("main_job/run.py", "sparsity", "--sparsities", 50, "--generations", 1, *sizes, *places)
    for part in ("widths", "mixed"):
        script("main_job/run.py", part, "--evals", 24, "--targets", 70, 60, *sizes, *places)
    return work / "main"


def test_the_main_job_is_compared_with_uniform(main_job: Path) -> None:
    for part, cost in (("sparsity", "nonzeros"), ("widths", "params"), ("mixed", "nonzeros")):
        for row in lines_of((main_job / f"{part}.jsonl").read_text()):
            assert {"kl_valid", "ppl_valid", "ppl_wikitext2-test"} <= row["found"].keys()
            assert row["uniform"]
            assert all(u["costs"][cost] <= row["costs"][cost] for u in row["uniform"].values())


def test_table_of_the_main_job(main_job: Path) -> None:
    text = script("main_job/table.py", main_job)
    assert [line for line in text.splitlines() if line.startswith("###")] == ["### sparsity", "### widths", "### mixed"]
    assert len(table_of(text)) >= 12


@pytest.mark.usefixtures("quick_exports")
def test_an_exported_candidate_is_timed(main_job: Path, llama: Path, work: Path) -> None:
    places = (main_job / "widths-s0", "--model", llama, "--out", work / "timed")
    _, _, row = table_of(script("main_job/export_speed.py", *places, "--under", "60%"))
    assert "logit difference" in row[-1]


def test_rules_of_levels_are_compared(llama: Path, texts: Path, work: Path) -> None:
    places = ("--model", llama, "--text", texts, "--runs", work / "rules")
    rows = table_of(script("main_job/rules.py", *places, "--calibration", 4, "--windows", 2))[2:]
    assert len(rows) == 4
    assert all(math.isfinite(float(cell)) for row in rows for cell in row[1:])


@pytest.mark.ray
def test_a_killed_search_ends_as_a_local_one(llama: Path, texts: Path, work: Path) -> None:
    places = ("--model", llama, "--text", texts, "--runs", work / "same")
    sizes = ("--evals", 40, "--calibration", 8, "--selection", 2)
    local, killed = script("main_job/same.py", *places, *sizes, "--ways", "local", "killed").splitlines()
    assert local.split("|")[2] == killed.split("|")[2]


# bilevel, recovery and supernet


def sources(texts: Path) -> tuple[object, ...]:
    """Texts to calibrate on and to choose by, as many scripts take them."""
    return ("--calibration", texts / "calib.txt", "--selection", texts / "valid.txt")


def arguments_of_arms(texts: Path) -> tuple[object, ...]:
    """Texts that arms.py and fronts.py both take."""
    training = ("--training", texts / "training.txt", "--sequences", 16, "--length", 32)
    return (*sources(texts), *training, "--test", texts / "wikitext2-test.txt", "--test-sequences", 2)


@pytest.fixture(scope="module")
def arms(work: Path, llama: Path, texts: Path) -> Path:
    """What arms.py wrote: an arm that recovers what is left, one that learns, and one that is seeded with the first."""
    setup = {
        "found": {"search.searcher": "nsga2", "search.tokens": 2000, "search.options": {"tokens": 64}, "recover": 256},
        "gates": {"search.searcher": "gates", "search.tokens": 2000, "recover": "rest"},
        "seeded": {"search.searcher": "random", "search.tokens": 1000, "seeded": "found", "recover": 0},
    }
    common = SMALL | {"limits": ["params<=90%"]}
    places = ("--recipe", WIDTHS, "--model", llama, "--results", work / "arms", "--out", work / "arms.json")
    options = ("--set", json.dumps(common), "--arms", json.dumps(setup))
    printed = script("recovery/arms.py", *places, *arguments_of_arms(texts), *options)
    rows = rows_of(work / "arms.json", printed)
    assert [row["arm"] for row in rows] == list(setup)
    return work / "arms.json"


def test_arms_are_measured_before_and_after_recovery(arms: Path) -> None:
    evolved, gates, seeded = json.loads(arms.read_text())
    assert all({"genome", "compute", "before", "weights", "kl", "perplexity"} <= row.keys() for row in (evolved, gates))
    assert {"before, learned", "before, refitted"} & gates.keys()
    assert seeded["kl"] == pytest.approx(seeded["before"], abs=1e-4), "it has no training"


def test_tables_and_pictures_of_arms(arms: Path) -> None:
    head, _, *rows = table_of(script("bilevel/table.py", arms))
    assert head[:2] == ["arm", "KL, store"]
    assert [row[0] for row in rows] == ["found", "gates", "seeded"]
    assert arms.with_suffix(".png").stat().st_size
    assert len(table_of(script("recovery/table.py", arms))) == 5


def test_held_memory_is_compared_with_the_stated(work: Path, llama: Path, texts: Path) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peaks of memory are Linux's")
    training = {"source": str(texts / "training.txt"), "sequences": 16, "length": 32}
    keys = SMALL | {"limits": ["params<=90%"], "data.training": training}
    places = ("--recipe", WIDTHS, "--model", llama, "--results", work / "memory", "--out", work / "memory.json")
    script("bilevel/memory.py", *places, *sources(texts), "--searchers", "gates", "--set", json.dumps(keys))
    (row,) = json.loads((work / "memory.json").read_text())
    assert row["searcher"] == "gates"
    assert "GB" in row["stated"]
    assert "GB" in row["held"]


@pytest.fixture(scope="module")
def curves(work: Path, main_job: Path, texts: Path) -> Path:
    setup = ("--methods", "full,perp", "--tokens", "0,512", "--rates", "full=3e-4,dense=3e-4")
    data = ("--training", texts / "training.txt", "--sequences", 4, "--set", '{"training.batch": 2}')
    test = ("--test", texts / "wikitext2-test.txt", "--test-sequences", 2, "--out", work / "curves.json")
    printed = script("recovery/curves.py", "--run", main_job / "widths-s0", *setup, *data, *test)
    rows_of(work / "curves.json", printed)
    return work / "curves.json"


def test_curves_have_a_point_for_each_method_and_tokens(curves: Path) -> None:
    rows = json.loads(curves.read_text())
    assert [(row["method"], row["tokens"]) for row in rows] == [
        (method, tokens) for method in ("full", "perp", "dense, full") for tokens in (0, 512)
    ]
    assert {"kl", "perplexity"} < rows[0].keys()


def test_curves_of_images(cnn: Path, images: Path, work: Path) -> None:
    run = cnn / "resnet8-channels-obs-60-s0"
    image = {"size": 32, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    # Selection images of the run are in the second half of train.parquet.
    training = {"source": str(images / "calibration.parquet"), "sequences": 24, "image": image}
    keys = {"training.batch": 8, "data.training": training}
    test = ("--test", images / "test.parquet", "--test-sequences", 16, "--out", work / "image-curves.json")
    setup = ("--methods", "full", "--tokens", "0,16", "--set", json.dumps(keys))
    printed = script("recovery/curves.py", "--run", run, *setup, *test, cwd=RESNETS)
    assert all(0 <= row["accuracy"] <= 1 for row in rows_of(work / "image-curves.json", printed))


def test_table_and_picture_of_curves(curves: Path) -> None:
    assert table_of(script("recovery/table.py", curves))[0] == ["kl / perplexity", "0", "512"]
    assert curves.with_suffix(".png").stat().st_size


def test_magnitude_baselines_keep_as_many_weights(work: Path, main_job: Path, texts: Path) -> None:
    data = ("--training", texts / "training.txt", "--sequences", 4, "--set", '{"learning_rate": 3e-4, "batch": 2}')
    test = ("--test", texts / "wikitext2-test.txt", "--test-sequences", 2, "--out", work / "magnitude.json")
    run = main_job / "sparsity-50-g1-s0"
    rows = rows_of(
        work / "magnitude.json", script("recovery/baselines.py", "--run", run, "--tokens", 5120, *data, *test)
    )
    assert len(rows) == 3
    assert len({row["weights"] for row in rows}) == 1
    cells = table_of(script("recovery/table.py", work / "magnitude.json"))
    assert [row[0] for row in cells[2:]] == [row["method"] for row in rows]


@pytest.fixture(scope="module")
def fronts(work: Path, llama: Path, texts: Path) -> Path:
    """The runs of fronts.py, with its rows in fronts.json."""
    out = work / "fronts" / "fronts.json"
    out.parent.mkdir()
    setup = {"stitched": {}, "sandwich": {"supernet": {"kind": "sandwich", "tokens": 2048}}}
    search = {"search.searcher": "nsga2", "search.tokens": 3000, "search.options": {"tokens": 64}}
    places = ("--recipe", WIDTHS, "--model", llama, "--results", out.parent, "--out", out)
    options = ("--sizes", "80,60", "--recover", 128, "--set", json.dumps(SMALL | search), "--arms", json.dumps(setup))
    rows_of(out, script("recovery/fronts.py", *places, *arguments_of_arms(texts), *options))
    return out


def test_fronts_are_measured_at_equal_compute(fronts: Path, work: Path) -> None:
    rows = json.loads(fronts.read_text())
    assert [(row["arm"], row["size"]) for row in rows] == [
        (arm, size) for arm in ("stitched", "sandwich") for size in (80, 60)
    ]
    for metric in ("kl", "perplexity"):
        assert all({metric, f"{metric}, recovered", f"{metric}, equal compute"} <= row.keys() for row in rows)
    script("supernet/picture.py", "--fronts", fronts, "--out", work / "fronts.png")
    assert (work / "fronts.png").stat().st_size


def test_sizes_and_hypervolumes_of_fronts(fronts: Path, work: Path) -> None:
    runs = (fronts.parent / "stitched-s0", fronts.parent / "sandwich-s0")
    printed = script("bilevel/sizes.py", "--runs", *runs, "--sizes", "80,60", "--out", work / "sizes.json")
    rows = rows_of(work / "sizes.json", printed)
    assert [list(row) for row in rows] == [["run", "kl at 80%", "kl at 60%", "hypervolume"]] * 2
    assert len(table_of(script("bilevel/table.py", work / "sizes.json"))) == 4


def test_ranks_agree_with_themselves(fronts: Path, work: Path) -> None:
    runs = (fronts.parent / "stitched-s0", fronts.parent / "sandwich-s0")
    setup = ("--size", 70, "--candidates", 4, "--tokens", 128, "--out", work / "ranks.json")
    printed = lines_of(script("supernet/ranks.py", "--runs", *runs, "--alone", runs[0], *setup))
    rows = json.loads((work / "ranks.json").read_text())
    assert [row["supernet"] for row in rows] == [row["supernet"] for row in printed] == ["stitched-s0", "sandwich-s0"]
    assert all(len(row["before"]) == len(row["after"]) == 4 for row in rows)
    assert all(-1 <= row["tau"] <= 1 and -1 <= row["rho"] <= 1 for row in rows)


def test_rounds_follow_one_another(llama: Path, texts: Path, work: Path) -> None:
    test = ("--test", texts / "wikitext2-test.txt", "--test-sequences", 2, "--out", work / "rounds.json")
    places = ("--recipe", WIDTHS, "--model", llama, "--results", work / "rounds", "--set", json.dumps(SMALL))
    setup = ("--limit", "params<=80%", "--tokens", 3000, "--rounds", 2)
    rows = rows_of(work / "rounds.json", script("supernet/rounds.py", *places, *sources(texts), *test, *setup))
    assert [row["search"] for row in rows] == ["round 1", "round 2"] * 3 + ["at once"]


def test_networks_are_trained_from_scratch(cnn: Path, images: Path, work: Path) -> None:
    data = ("--training", images / "training.parquet", "--sequences", 32, "--test", images / "test.parquet")
    setup = ("--sizes", "60", "--images", 32, "--batch", 16, "--test-sequences", 16, "--out", work / "scratch.json")
    run = cnn / "resnet8-channels-obs-60-s0"
    (row,) = rows_of(work / "scratch.json", script("supernet/scratch.py", "--run", run, *data, *setup, cwd=RESNETS))
    assert 0 <= row["accuracy"] <= 1


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_training_of_supernets_is_timed(llama: Path, texts: Path, work: Path) -> None:
    training = ("--training", texts / "training.txt", "--sequences", 4, "--tokens", 2048)
    places = ("--recipe", WIDTHS, "--model", llama, "--results", work / "scaling", "--out", work / "scaling.json")
    keys = {key: value for key, value in SMALL.items() if key.startswith("data")}
    setup = ("--ways", "block_local=2", "--set", json.dumps(keys))
    (row,) = rows_of(work / "scaling.json", script("supernet/scaling.py", *places, *sources(texts), *training, *setup))
    assert row["workers"] == 2
    assert row["peak MB a worker"] > 0


# search_efficiency


def test_the_controller_is_timed() -> None:
    rows = lines_of(script("search_efficiency/controller.py", "--units", 12, "--evals", 60))
    assert [row["searcher"] for row in rows] == ["random", "random", "nsga2", "nsga2", "evolution"]
    assert [bool(row["limits"]) for row in rows] == [False, True, False, True, True]
    assert all(row["per_second"] > 0 for row in rows)


def test_sweeps_are_compared_with_another_checkout(tmp_path: Path) -> None:
    sizes = ("--outputs", 16, "--inputs", 64, "--repeats", 1, "--out", tmp_path)
    rows = lines_of(script("scale/sweeps.py", *sizes))
    assert [row["method"] for row in rows] == ["obs", "sparsegpt", "sparsegpt, 3 of the same inputs"]
    assert all(row["same"] and row["largest relative difference"] == 0 for row in rows)
    assert json.loads((tmp_path / "sweeps.json").read_text())["rows"] == rows


def test_a_candidate_is_compared_with_a_forward_pass(main_job: Path) -> None:
    setup = ("--run", main_job / "widths-s0", "--windows", 2, "--repeats", 2)
    rows = lines_of(script("search_efficiency/candidate.py", *setup))
    assert [row["changed"] for row in rows][:3] == [1, 2, 4]
    assert {"whole", "from its first change", "swap", "forward", "kl"} < rows[0].keys()


def test_memory_of_a_worker_is_followed(main_job: Path) -> None:
    rows = lines_of(script("search_efficiency/memory.py", "--run", main_job / "widths-s0", "--candidates", 20))
    assert [row["candidates"] for row in rows] == list(range(2, 22, 2))
    assert rows[0]["of_first"] == 1


def small_recipe(path: Path, model: Path, texts: Path, **changes: Any) -> Path:
    """widths.yaml with little data, as a file."""
    config = load_config(WIDTHS, {**SMALL, "model.id": str(model), **changes})
    tree = config.model_dump(mode="json")
    for role, name in (("calibration", "calib.txt"), ("selection", "valid.txt")):
        tree["data"][role]["source"] = str(texts / name)
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_two_workers_are_compared_with_one(llama: Path, texts: Path, work: Path) -> None:
    recipe = small_recipe(work / "workers.yaml", llama, texts, **{"executor.kind": "ray", "limits": ["params<=80%"]})
    setup = ("--model", llama, "--results", work / "workers", "--searchers", "nsga2", "--tokens", 4000, "--repeats", 1)
    _, _, row = table_of(script("search_efficiency/workers.py", "--recipe", recipe, *sources(texts), *setup))
    assert row[0] == "nsga2"
    assert all(float(cell.split()[0]) > 0 for cell in row[1:])


@pytest.fixture(scope="module")
def comparisons(llama: Path, texts: Path, work: Path) -> Path:
    """A comparison at one size of runs for all sizes, and one of runs for this size."""
    recipe = small_recipe(work / "compare.yaml", llama, texts, objectives=["kl", "nonzeros"])
    common = ("compare", recipe, "--tokens", 2000, "--seeds", 0, "--results", work / "compared")
    sparsesearch(*common, "--searchers", "nsga2", "--sizes", "80%", "--name", "whole")
    sparsesearch(*common, "--searchers", "one=nsga2", "--limit", "nonzeros<=80%", "--name", "single")
    return work / "compared"


def test_one_run_for_all_sizes_is_compared_with_a_run_a_size(comparisons: Path) -> None:
    places = ("--whole", comparisons / "whole", "--singles", comparisons / "single")
    head, _, *rows = table_of(script("search_efficiency/front.py", *places))
    assert head == ["searcher", "nonzeros<=80%", "hypervolume"]
    assert [row[0] for row in rows] == ["nsga2", "one, a run a size"]


def test_table_of_comparisons(comparisons: Path) -> None:
    text = script("search_efficiency/table.py", *(comparisons / name / "compare.json" for name in ("whole", "single")))
    assert [line.split("|")[3].strip() for line in text.splitlines()] == ["nsga2", "one"]
    assert "M " in text


# proxies, export and latency


def test_table_of_audits(llama: Path, texts: Path, work: Path) -> None:
    recipe = small_recipe(work / "audit.yaml", llama, texts)
    setup = ("--samples", 8, "--train", 128, "--proxies", "snip,grad_norm", "--name", "widths")
    sparsesearch("audit", recipe, *setup, "--results", work / "audits")
    head, _, *rows = table_of(script("proxies/table.py", work / "audits" / "widths" / "audit.json"))
    assert head == ["", "audit, at once", "audit, trained"]
    assert rows[0][0] == "the quality before training"
    assert {row[0] for row in rows[1:]} >= {"snip", "grad_norm", "params (control)", "random (control)"}


@pytest.mark.usefixtures("quick_exports")
def test_forms_of_an_export_are_timed(main_job: Path, work: Path) -> None:
    out = work / "forms" / "llama.json"
    setup = (
        "--pick",
        "max-under:params=60%",
        "--batch",
        2,
        "--forms",
        "zeros",
        "uneven",
        "nemotron_nas",
        "torch_export",
    )
    script("export/forms.py", "--run", main_job / "widths-s0", *setup, "--out", out)
    rows = {row["form"]: row for row in json.loads(out.read_text())["rows"]}
    assert list(rows) == ["zeros", "uneven", "nemotron_nas", "torch_export"]
    assert "refused" in rows["nemotron_nas"]
    assert all(row["verified"] and finite(row) for row in rows.values() if "refused" not in row)
    text = script("export/table.py", out)
    assert [row[0] for row in table_of(text)[2:]] == ["llama, max-under:params=60%"]
    assert "- llama: SS502 " in text


@pytest.mark.usefixtures("quick_exports")
def test_forms_of_families_are_a_table() -> None:
    head, _, row = table_of(script("export/families.py", "llama", "--forms", "uniform", "padded", "uneven"))
    assert head == ["family", "uniform", "padded", "uneven"]
    assert row[0] == "llama"
    assert all(cell == "no" or float(cell) < 1e-3 for cell in row[1:])
    assert row[3] != "no"


def test_predicted_latency_is_compared_with_the_measured(llama: Path, texts: Path, work: Path) -> None:
    keys = {key: value for key, value in SMALL.items() if not key.startswith("training")}
    data = {"data.calibration.source": texts / "calib.txt", "data.selection.source": texts / "valid.txt"}
    request = {"latency": "{prompt: 16, generated: 2, dtype: float32}", "model.id": llama}
    options = [f"--set={key}={value}" for key, value in {**keys, **data, **request}.items()]
    out = work / "latency.json"
    printed = script("latency/predicted.py", "--recipe", WIDTHS, *options, "--candidates", 3, "--out", out)
    (summary,), rows = lines_of(printed), json.loads(out.read_text())["rows"]
    assert {"pearson", "spearman", "mean error", "worst error of memory"} < summary.keys()
    assert len(rows) == 4
    assert finite(rows)


def test_networks_to_time_are_written(llama: Path, work: Path) -> None:
    script("latency/networks.py", work / "timed-networks", llama)
    assert {path.name for path in (work / "timed-networks").iterdir()} == {"vit-tiny", "bert-tiny"}
    assert (work / "timed-networks" / "bert-tiny" / "tokenizer.json").exists()


# peers


IMAGE_SIZES = ("--network", "resnet8", "--percents", 60, "--calibration-images", 24, "--test-images", 32)


def test_images_of_ours_and_torch_pruning(networks: Path, images: Path, work: Path) -> None:
    places = ("--weights", networks / "resnet8-cifar10.safetensors", "--images", images, *IMAGE_SIZES)
    search = ("--searcher", "nsga2", "--evals", 4, "--options", '{"tokens": 8}', "--selection-images", 16)
    ours, peer = work / "ours-images.json", work / "torch-pruning-images.json"
    script("peers/ours_images.py", *places, *search, "--runs", work / "peers-images", "--out", ours)
    cuts = ("--importances", "l2", "taylor", "--ways", "uniform", "global")
    script("peers/torch_pruning_images.py", *places, *cuts, "--out", peer)
    for path, count in ((ours, 2), (peer, 4)):
        rows = json.loads(path.read_text())["rows"]
        assert len(rows) == count
        assert finite(rows)
        assert all(row["macs"] <= 0.6 for row in rows)
    assert len(table_of(script("peers/table.py", ours, peer))) == 2 + 2 + 2 + 4


def test_texts_of_ours_and_torch_pruning(llama: Path, texts: Path, work: Path) -> None:
    ours, peer = work / "ours-text.json", work / "torch-pruning-text.json"
    places = ("--model", llama, "--text", texts, "--percents", 75)
    budget = ("--searcher", "nsga2", "--tokens", 20_000, "--calibration", 8, "--selection", 4)
    runs = ("--runs", work / "peers-text", "--work", work / "teacher-ours", "--out", ours)
    script("peers/ours_text.py", *places, *budget, *runs)
    cuts = ("--importances", "l2", "taylor", "--ways", "uniform", "--sequences", 8)
    script("peers/torch_pruning_text.py", *places, *cuts, "--work", work / "teacher-theirs", "--out", peer)
    for path in (ours, peer):
        report = json.loads(path.read_text())
        assert len(report["rows"]) == 2
        assert finite(report)
        assert all({"kl", "perplexity", "params"} <= row.keys() for row in report["rows"])
    assert len(table_of(script("peers/table.py", ours, peer))) == 2 * 4


def test_fastnas_is_measured(networks: Path, images: Path, work: Path) -> None:
    pytest.importorskip("modelopt")
    places = ("--weights", networks / "resnet8-cifar10.safetensors", "--images", images, *IMAGE_SIZES)
    setup = ("--selection", 16, "--calibration", 16, "--work", work / "fastnas", "--out", work / "fastnas.json")
    script("peers/fastnas.py", *places, *setup)
    assert json.loads((work / "fastnas.json").read_text())["rows"]


def test_whittle_is_measured(llama: Path, texts: Path, work: Path) -> None:
    for package in ("whittle", "litgpt", "syne_tune"):
        pytest.importorskip(package)
    places = ("--model", llama, "--text", texts, "--work", work / "whittle", "--out", work / "whittle.json")
    script("peers/whittle_search.py", *places, "--evals", 4, "--searches", "random_search", "--neurons", "as trained")
    assert json.loads((work / "whittle.json").read_text())["rows"]


# What is committed


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.arms.json")), ids=lambda path: path.name)
def test_committed_arms_change_keys_that_recipes_have(path: Path) -> None:
    recipe = ROOT / "proxies" / "channels.yaml" if path.name.startswith("resnet") else WIDTHS
    beside = {"recover", "recovery", "pick", "seeded"}
    for arm in json.loads(path.read_text()).values():
        load_config(recipe, {key: value for key, value in arm.items() if key not in beside})
        load_config(recipe, arm.get("recovery", {}))


def test_tables_of_committed_results() -> None:
    assert len(table_of(script("export/table.py"))) > 8
    assert len(table_of(script("main_job/table.py", ROOT / "main_job"))) > 20
    assert len(table_of(script("peers/table.py", *sorted((ROOT / "peers" / "measured").glob("*.json"))))) > 40
    assert len(table_of(script("proxies/table.py", *sorted((ROOT / "proxies" / "audits").glob("*.json"))))) > 10
    jsonl = [ROOT / "any_network" / f"{name}.jsonl" for name in ("cnn", "moe", "pruners")]
    assert len(table_of(script("any_network/table.py", *jsonl))) > 30
    compared = sorted((ROOT / "search_efficiency" / "compared").glob("*.json"))
    assert script("search_efficiency/table.py", *compared).count("\n") >= len(compared)


def test_every_script_is_run_here() -> None:
    helpers = {"any_network/common.py", "any_network/resnet_cifar.py", "peers/measures.py", "recovery/measured.py"}
    scripts = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py")}
    text = Path(__file__).read_text()
    assert {name for name in scripts - helpers if f'"{name}"' not in text} == set()
