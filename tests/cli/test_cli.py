"""The command line as users meet it: verbs, JSON, and one clear line with the right exit code for every mistake."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from support import as_if_running, image_folder, recipe, rewritten

from sparsesearch.config import load_config
from sparsesearch.models.family import TRACED
from sparsesearch.runs.results import RunResults
from sparsesearch.space.unit import KINDS

Make = Callable[[str], Path]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def recipe_file(family_dir: Make, tmp_path: Path) -> Callable[..., Path]:
    def write(**changes: Any) -> Path:
        path = tmp_path / "space.yaml"
        path.write_text(yaml.safe_dump(recipe(family_dir("llama"), **changes)))
        return path

    return write


def _check_journal(path: Path) -> None:
    """A trial for each measured candidate within the limits, whatever was there before."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    results = RunResults(path)
    study = optuna.load_study(
        study_name=path.name, storage=JournalStorage(JournalFileBackend(str(path / "optuna.journal")))
    )
    inside = [e for e in results.evaluations if e.status == "ok" and results.space.feasible(e.genome)]
    assert [trial.user_attrs["id"] for trial in study.trials] == [e.genome.id for e in inside]
    assert study.trials[-1].values == results.point(inside[-1])


def test_search_front_show_report_export_evaluate(run: Any, recipe_file: Any, tmp_path: Path) -> None:
    done = run("search", recipe_file(), "--results", tmp_path, "--name", "r", "--seed", 3, "--limit", "params<=95%")
    assert done.code == 0, done.err
    assert "Front of r" in done.out
    assert "report.html" in done.out
    assert "search (random)" in done.err
    path = tmp_path / "r"
    for name in ("report.html", "plotly.min.js", "front.png", "picks.png", "progress.png", "front.json", "run.yaml"):
        assert (path / name).stat().st_size > 0

    front = run("front", path, "--json").json
    assert front["limits"] == ["params<=95%"]
    first = front["candidates"][0]
    assert run("front", path, "--sort", "kl", "--where", "params<=90%").code == 0
    within = ("front", path, "--where", f"params<={first['costs']['params']}")
    assert len(run(*within, "--json").json["candidates"]) == 1
    shown, most = run(*within).out, first["costs"]["params"]
    beside = RunResults(path).baselines
    assert any(b.costs["params"] > most for b in beside)
    assert all((b.genome.id in shown) == (b.costs["params"] <= most) for b in beside)

    shown = run("show", path, first["id"][:6], "--json").json
    assert shown["genome"] == first["genome"]
    assert "layers.0.mlp.ffn_width" in run("show", path, "--pick", "min:kl").out

    assert run("report", path, "--offline", "--journal").code == 0
    _check_journal(path)
    assert (path / "report.html").stat().st_size > 3_000_000

    out = tmp_path / "model"
    exported = run("export", path, "--pick", "max-under:params=90%", "--out", out, "--json").json
    assert {"form", "out", "id", "params", "nonzeros", "bytes", "verified", "max_abs_logit_diff", "load"} <= set(
        exported
    )
    text = tmp_path / "text.txt"
    text.write_text("import os\n" * 200)
    from_export = run("evaluate", out, "--text", text, "--length", 16, "--json").json
    from_run = run("evaluate", f"{path}/{exported['id']}", "--text", text, "--length", 16, "--json").json
    assert from_export["perplexity"] == pytest.approx(from_run["perplexity"], rel=1e-5)
    assert {"perplexity", "tokens", "params", "nonzeros", "length"} == set(from_export)
    assert from_export["params"] == exported["params"]

    resumed = run("resume", path, "--evals", "+6", "--json").json
    assert resumed["evaluations"] >= front["evaluations"]


def test_dry_run_starts_nothing(run: Any, recipe_file: Any, tmp_path: Path) -> None:
    plan = run(
        "search", recipe_file(), "--results", tmp_path / "res", "--dry-run", "--set", "search.evals=7", "--json"
    ).json
    assert plan["config"]["search"]["evals"] == 7
    assert plan["units"] == {"ffn_width": 3, "kv_groups": 3}
    assert not (tmp_path / "res").exists()
    assert "genomes" in run("search", recipe_file(), "--dry-run").out


MISTAKES: list[tuple[dict[str, Any], list[str], int, str, str]] = [
    ({"limts": []}, [], 2, "SS101", "limts: unknown key. Did you mean 'limits'"),
    (
        {"units": [{"kind": "kv_groups", "levles": 3}]},
        [],
        2,
        "SS101",
        "units[0].levles: unknown key. Did you mean 'levels'",
    ),
    (
        {"units": [{"kind": "kv_group"}]},
        [],
        2,
        "SS102",
        "units[0].kind: 'kv_group' is no kind of unit. Did you mean 'kv_groups'",
    ),
    ({"units": []}, [], 2, "SS101", "units"),
    (
        {"units": [{"kind": "sparsity", "levels": [50]}]},
        [],
        2,
        "SS105",
        '50 is outside [0, 1]. For percent write "50%"',
    ),
    ({}, ["--limit", "params<=20%"], 2, "SS106", "cannot be met"),
    ({}, ["--limit", "prams<=20%"], 2, "SS102", "Did you mean 'params'"),
    ({}, ["--searcher", "nsga"], 2, "SS102", "Did you mean 'nsga"),
    ({}, ["--pruner", "wand"], 2, "SS102", "Did you mean 'wanda'"),
    ({}, ["--model", "/no/such"], 2, "SS201", "no such directory"),
    ({}, ["--calibration", "/no/such.txt"], 2, "SS204", "cannot read /no/such.txt"),
    ({}, ["--set", "search.evalz=3"], 2, "SS101", "search.evalz: unknown key. Did you mean 'evals'"),
    ({}, ["--set", "nonsense"], 2, "SS101", "not of the form key.path=value"),
    ({}, ["--set", "units.x.levels=3"], 2, "SS101", "cannot set units.x.levels"),
    ({}, ["--set", "units.9.levels=3"], 2, "SS101", "cannot set units.9.levels"),
    ({}, ["--set", "search.evals=[1"], 2, "SS101", "not valid YAML"),
    ({"model": "demo"}, ["--model", "demo"], 2, "SS101", "cannot set model.id"),
    ({"units": [{"kind": "sparsity", "levels": ["150%"]}]}, [], 2, "SS105", "150% is outside [0, 1]"),
    ({}, ["--executor", "slurm"], 2, "SS101", "executor.kind"),
    ({}, ["--evals", "0"], 2, "SS101", "option search.evals"),
    ({}, ["--seed", "-1"], 2, "SS101", "option search.seed"),
    ({}, ["--name", "../escaped"], 2, "SS126", "must be one directory name"),
    ({"units": [{"kind": "ffn_width", "align": 1000}]}, [], 2, "SS104", "leaves no level below"),
    ({}, ["--executor", "ray", "--workers", "999", "--dry-run"], 3, "SS301", "Nothing was started"),
    ({}, ["--set", "executor.gpus_per_worker=1"], 3, "SS301", "Nothing was started"),
]


@pytest.mark.parametrize(
    ("changes", "arguments", "code", "error", "words"), MISTAKES, ids=[m[4][:40] for m in MISTAKES]
)
def test_mistakes_get_one_line_before_anything_starts(
    run: Any,
    recipe_file: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    arguments: list[str],
    code: int,
    error: str,
    words: str,
) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    outcome = run("search", recipe_file(**changes), "--results", tmp_path / "res", *arguments)
    assert outcome.code == code
    assert outcome.out == ""
    assert outcome.err.startswith(error)
    assert words in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "res").exists()


def test_unknown_keys_name_their_line(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("version: 1\nunits:\n  - kind: ffn_width\n    alin: 8\n")
    assert f"{path}:4 units[0].alin: unknown key. Did you mean 'align'" in run("search", path).err


def test_broken_and_missing_recipes(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("units: [")
    assert run("search", path).err.startswith("SS100")
    assert "cannot read" in run("search", tmp_path / "none.yaml").err
    path.write_text("- 1\n")
    assert "a recipe is a mapping" in run("search", path).err


def test_errors_as_json(run: Any, tmp_path: Path) -> None:
    outcome = run("front", tmp_path, "--json")
    assert outcome.code == 2
    assert outcome.json["code"] == "SS600"
    assert set(outcome.json) == {"code", "message", "hint"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["front", "RUN", "--sort", "speed"], "SS102", "Allowed: kl, params"),
        (["front", "RUN", "--where", "params<9"], "SS105", "not of the form"),
        (["show", "RUN", "zzzz"], "SS501", "no candidate 'zzzz'"),
        (["show", "RUN", "--pick", "max-under:params=1%"], "SS501", "Smallest on the front is"),
        (["export", "RUN", "--pick", "nicest", "--out", "OUT"], "SS501", "not understood"),
        (["evaluate", "RUN/zzzz", "--text", "TEXT"], "SS501", "no candidate"),
        (["evaluate", "demo", "--text", "/no/text"], "SS204", "cannot read /no/text"),
        (["evaluate", "demo", "--text", "TEXT", "--length", "100000"], "SS204", "exceeds the model's 1024 positions"),
        (["evaluate", "demo", "--text", "TEXT", "--length", "100"], "SS204", "fewer than one window"),
        (["evaluate", "RUN", "--text", "TEXT"], "SS504", "is a run. Name a candidate"),
        (["export", "RUN", "abc", "--pick", "knee", "--out", "OUT"], "SS501", "Give one of them"),
        (["front", "RUN", "--where", "params<=3MiB"], "SS105", "'MiB' is no unit of params"),
        (["resume", "RUN", "--evals", "1"], "SS101", "evaluations already"),
        (["space", "init", "-o", "OUT/x.yaml"], "SS126", "No such file"),
        (["space", "init", "-o", "OUT", "--model", "/no/such"], "SS201", "no such directory"),
        (["resume", "RUN", "--evals", "many"], "SS101", "not a number"),
        (["resume", "OUT"], "SS600", "not a run directory"),
        (["list", "searcher"], "SS102", "Did you mean 'searchers'"),
        (["space", "init", "-o", "OUT", "--kinds", "widths"], "SS102", "Allowed: sparsity"),
    ],
)
def test_other_verbs_refuse_in_one_line(
    run: Any, small_run: RunResults, tmp_path: Path, arguments: list[str], code: str, words: str
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("short text")
    places = {"RUN": str(small_run.run.path), "OUT": str(tmp_path / "out"), "TEXT": str(text)}
    outcome = run(*(re.sub("^(RUN|OUT|TEXT)", lambda match: places[match[1]], a) for a in arguments))
    assert outcome.code == 2
    assert outcome.err.startswith(code)
    assert words in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_run_without_final_measurements_yet(run: Any, small_run: RunResults, tmp_path: Path) -> None:
    shutil.copytree(small_run.run.path, tmp_path / "run")
    archive = tmp_path / "run" / "archive.jsonl"
    archive.write_text(archive.read_text().split("\n")[0][:50])
    as_if_running(tmp_path / "run")
    assert "no final measurements yet" in run("front", tmp_path / "run").err
    assert run("report", tmp_path / "run").code == 0
    assert "No final measurements yet" in (tmp_path / "run" / "report.html").read_text()
    assert archive.read_text(), "a reader must not touch the archive"


def test_no_feasible_candidate_exits_with_4(run: Any, small_run: RunResults, tmp_path: Path) -> None:
    shutil.copytree(small_run.run.path, tmp_path / "run")
    rewritten(tmp_path / "run" / "space.json", lambda space: space.update(limits=["params<=1%"]))
    assert run("show", tmp_path / "run").code == 4


@pytest.mark.parametrize("what", ["searchers", "pruners", "families", "forms", "spaces"])
def test_lists(run: Any, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    entries = run("list", what, "--json").json
    assert entries
    assert all(text for text in entries.values())


def test_space_verbs(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert run("space", "init", "-o", path, "--kinds", "sparsity,kv_groups").code == 0
    assert run("space", "check", path, "--json").json["units"] == {"sparsity": 42, "kv_groups": 6}
    assert "kv_groups" in run("space", "show", path).out
    assert run("space", "init", "-o", path).err.startswith("SS500")


def test_space_init_writes_every_kind(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert run("space", "init", "-o", path, "--kinds", ",".join(KINDS)).code == 0
    assert [unit.kind for unit in load_config(path).units] == list(KINDS)


def test_spaces_are_listed_in_a_clone_alone(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("list", "spaces").err.startswith("SS100 list spaces: there is no search_spaces/*.yaml here. Run it in a")


def test_traced_families_are_listed(run: Any) -> None:
    assert set(TRACED) <= set(run("list", "families", "--json").json)


def test_wrong_options_exit_with_2_and_help_with_0(run: Any) -> None:
    assert run("search").code == 2
    assert run("front", "--nonsense").code == 2
    assert run("--help").code == 0
    assert run("search", "--help").code == 0


def test_another_searcher_does_not_inherit_the_recipes_options(run: Any, recipe_file: Any) -> None:
    options = {"searcher": "random", "options": {"batch": 3}}
    plan = run("search", recipe_file(search=options), "--searcher", "nsga2", "--dry-run", "--json").json
    assert plan["config"]["search"]["options"] == {}
    same = run("search", recipe_file(search=options), "--searcher", "random", "--dry-run", "--json").json
    assert same["config"]["search"]["options"] == {"batch": 3}


MANY = {"search": {"searcher": "random", "evals": 5000, "options": {"tokens": 32}}}
LONG = {
    "units": [{"kind": "sparsity", "levels": ["40%", "75%"]}],
    "search": {
        "searcher": "random",
        "evals": 4,
        "final": 2,
        "options": {"batch": 4, "tokens": 32, "sizes": 2},
        "rungs": [{"tokens": 2_000_000, "candidates": 1}],
    },
    "training": {"batch": 2},
    "executor": {"kind": "ray", "workers": 1},
}


@pytest.mark.parametrize(
    ("changes", "awaited", "sent"),
    [
        (MANY, "archive.jsonl", signal.SIGINT),
        # Ray puts a handler of its own in place of ours.
        pytest.param(
            MANY | {"executor": {"kind": "ray", "workers": 1}}, "archive.jsonl", signal.SIGTERM, marks=pytest.mark.ray
        ),
        pytest.param(LONG, "trials/*/checkpoint/state.json", signal.SIGINT, marks=pytest.mark.ray),
    ],
    ids=["measuring", "SIGTERM under Ray", "training under Tune"],
)
def test_ctrl_c_exits_with_130_and_can_be_resumed(
    recipe_file: Any, tmp_path: Path, changes: dict[str, Any], awaited: str, sent: signal.Signals
) -> None:
    code = "from sparsesearch.cli import main; main()"
    path = recipe_file(**changes)
    arguments = [sys.executable, "-c", code, "search", str(path), "--results", str(tmp_path), "--name", "r"]
    # A test run in the background would hand down an ignored SIGINT.
    default = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=default)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not any(f.stat().st_size for f in (tmp_path / "r").glob(awaited)):
        time.sleep(0.05)
    process.send_signal(sent)
    _, error = process.communicate(timeout=80)
    assert process.returncode == 130, error
    assert "Stopped. All measurements are saved; continue with 'sparsesearch resume" in error
    assert error.rstrip().endswith("Interrupted.")
    assert "Traceback" not in error
    assert len(RunResults(tmp_path / "r").evaluations) >= 1


def test_an_export_that_cannot_be_written(run: Any, small_run: RunResults) -> None:
    outcome = run("export", small_run.run.path, "--pick", "best", "--out", "/proc/no/such")
    assert outcome.code == 3
    assert outcome.err.startswith("SS312 cannot write /proc/no/such: No such file or directory.")
    assert "resume" not in outcome.err


def test_picks_go_by_the_names_that_tables_use(run: Any, small_run: RunResults) -> None:
    shown = run("front", small_run.run.path, "--json").json["picks"]
    for name in ("best", "knee", "smallest"):
        assert run("show", small_run.run.path, "--pick", name, "--json").json["id"] == shown[name]
    assert run("show", small_run.run.path, "--pick", "dense", "--json").json["kept"] == {}


def test_a_wish_to_stop_survives_code_that_swallows_it() -> None:
    code = """
import os, signal
from sparsesearch.runs import interrupts
interrupts.install()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    pass
try:
    interrupts.check()
except KeyboardInterrupt:
    print("remembered")
interrupts._asked = False
try:
    with interrupts.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        print("not yet")
except KeyboardInterrupt:
    print("now")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:3] == ["remembered", "not yet", "now"]


def test_doctor(run: Any) -> None:
    versions = run("doctor", "--json").json
    assert versions["torch"] != "missing"


# Recipes for models that have to be downloaded, and the tiny model that stands for each here.
OTHER_MODELS = {"moe_experts": "qwen3_moe", "encoder_widths": "bert-embedding", "vit_widths": "vit"}
ON_IMAGES = ("vit_widths", "cnn_channels", "cnn_unstructured", "cnn_ofa")
NETWORK_OF = {"cnn_ofa": "networks:kernels"}


@pytest.mark.parametrize("path", sorted((ROOT / "search_spaces").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_passes_a_dry_run(run: Any, path: Path, family_dir: Any, tmp_path: Path) -> None:
    options: list[Any] = []
    if path.stem in OTHER_MODELS:
        options = ["--model", family_dir(OTHER_MODELS[path.stem])]
    elif path.stem in ON_IMAGES:
        options = ["--model", NETWORK_OF.get(path.stem, "networks:padded")]
    if path.stem == "cnn_ofa":
        training = {
            "source": str(image_folder(tmp_path / "training", 64, seed=3)),
            "sequences": 64,
            "image": {"size": 16},
        }
        options += ["--set", f"data.training={json.dumps(training)}"]
    for role in ("calibration", "selection") if options else ():
        if path.stem in ON_IMAGES:
            options += [f"--{role}", image_folder(tmp_path / role, seed=len(role))]
            options += ["--set", f"data.{role}.image={{size: 16}}", "--set", f"data.{role}.sequences=6"]
        else:
            options += ["--set", f"data.{role}.length=64"]
    # Not where README's first command has left a run of the same name.
    outcome = run("search", path, "--dry-run", "--json", "--results", tmp_path / "results", *options)
    assert outcome.code == 0, outcome.err
    assert outcome.json["units"]


def test_reading_verbs_start_without_torch_transformers_or_ray(small_run: RunResults) -> None:
    code = (
        "import sys; sys.argv = ['sparsesearch', *sys.argv[1:]]\n"
        "from sparsesearch.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print({'torch', 'transformers', 'ray', 'plotly', 'matplotlib'} & set(sys.modules), file=sys.stderr)"
    )
    for arguments in (*([verb, str(small_run.run.path)] for verb in ("front", "show", "status")), ["--help"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert done.stderr.strip() == "set()", (arguments, done.stderr)


def test_a_gpu_that_no_worker_uses_is_named(
    run: Any, recipe_file: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("search", recipe_file(), "--results", tmp_path, "--dry-run")
    assert "has a GPU" not in run(*arguments).out
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda: SimpleNamespace(type="cuda"))
    assert "executor.gpus_per_worker=1" in run(*arguments).out
