"""Every file of a run and of its caches, damaged in every way: the same result, or one line that names the file."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import kinds_of, recipe, run_search

from sparsesearch import cli
from sparsesearch.config import RunConfig, load_config
from sparsesearch.data import Samples
from sparsesearch.engine import controller
from sparsesearch.engine.launch.prepare import prepare
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.errors import DamagedFile, EnvironmentProblem, InputError
from sparsesearch.files import read_json, read_lines, seal, unseal, write_json
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.tensors import is_intact, write_tensors

Make = Callable[[str], Path]
QUIET = Reporter(quiet=True)
# More by hand: SPARSESEARCH_DAMAGE=1000 pytest tests/engine/test_damage.py
SEEDS = range(int(os.environ.get("SPARSESEARCH_DAMAGE", "1")))


def flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 1, 32])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def truncate(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(1, path.stat().st_size)])


def empty(path: Path, chance: random.Random) -> None:
    path.write_bytes(b"")


def delete(path: Path, chance: random.Random) -> None:
    path.unlink()


def replace(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path, chance: random.Random) -> None:
    """What whoever opens it waits for, for ever."""
    path.unlink()
    os.mkfifo(path)


DAMAGES = [flip, truncate, empty, delete, replace, pipe]
RUN_FILES = [
    "run.json",
    "run.yaml",
    "space.json",
    "archive.jsonl",
    "ledger.jsonl",
    "test.json",
    "progress.json",
    "data/calibration/input_ids.npy",
    "data/selection/input_ids.npy",
    "data/test/digest.json",
]
CACHES = [
    "stores/*/index.json",
    "stores/*/units/*mlp.ffn_width.safetensors",
    "stores/*/blocks/000.json",
    "statistics/*/block-000.safetensors",
    "teachers/*/logp.npy",
    "teachers/*/index.npy",
    "teachers/*/tail.npy",
    "teachers/*/samples/input_ids.npy",
    "teachers/*/complete",
]


@pytest.fixture(scope="module")
def healthy(family_dir: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results directory with one finished run and its caches."""
    place = tmp_path_factory.mktemp("healthy")
    data = recipe("")["data"] | {"test": {"source": "stdlib:test", "sequences": 4, "length": 16, "take": "first"}}
    run_search(place / "run", family_dir("llama"), units=kinds_of(family_dir("llama"), heads=False), data=data)
    return place


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sparsesearch", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), *capsys.readouterr()

    return call


def check_line(code: int, err: str, name: str) -> None:
    """One line, with a code, that names the file; not the line for what nobody foresaw."""
    complaints = [line for line in err.splitlines() if re.match(r"SS\d{3} ", line)]
    assert code in (2, 3), (code, err)
    assert len(complaints) == 1, err
    assert name in complaints[0], err
    assert "Traceback" not in err


READERS = {
    "front": ("front", "RUN", "--json"),
    "show": ("show", "RUN", "--pick", "knee", "--json"),
    "status": ("status", "RUN", "--json"),
}
# What tells the time.
PASSING = ("last_activity", "hours", "evaluations_per_second")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", RUN_FILES)
def test_readers_give_the_same_or_name_the_file(
    healthy: Path, command: Callable[..., tuple[int, str, str]], tmp_path: Path, name: str, seed: int
) -> None:
    run = tmp_path / "run"
    shutil.copytree(healthy / "run", run)
    calls = {verb: [str(run) if a == "RUN" else a for a in call] for verb, call in READERS.items()}
    right = {verb: command(*call)[1] for verb, call in calls.items()}
    for damage in DAMAGES:
        shutil.rmtree(run)
        shutil.copytree(healthy / "run", run)
        damage(run / name, random.Random(f"{name} {damage.__name__} {seed}"))
        for verb, call in calls.items():
            code, out, err = command(*call)
            if code:
                check_line(code, err, Path(name).name)
                continue
            answer, expected = json.loads(out), json.loads(right[verb])
            if name == "progress.json":  # how a run ended is all that is known from there
                answer["state"] = expected["state"] = ""
            for key in PASSING:
                answer.pop(key, None), expected.pop(key, None)
            assert answer == expected, (verb, damage.__name__)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", RUN_FILES)
def test_resume_gives_the_same_or_names_the_file(healthy: Path, tmp_path: Path, name: str, seed: int) -> None:
    """Whole it is again, too, or refused as before it was damaged."""
    shutil.copytree(healthy, tmp_path, dirs_exist_ok=True)
    whole = (healthy / "run" / "archive.jsonl").read_bytes()
    chance = random.Random(f"{name} resume {seed}")
    chance.choice(DAMAGES)(tmp_path / "run" / name, chance)
    try:
        results = controller.resume(tmp_path / "run", {}, QUIET)
    except (EnvironmentProblem, InputError) as error:
        assert Path(name).name in str(error)
        return
    assert results.run.archive.read_bytes() == whole
    assert results.front_json() == RunResults(healthy / "run").front_json() | {"run": str(tmp_path / "run")}


WORKERS = {
    "export": ("export", "RUN", "--pick", "knee", "--out", "OUT", "--json"),
    "evaluate": ("evaluate", "RUN/ID", "--text", "TEXT", "--length", "16", "--json"),
    "recover": ("recover", "RUN", "--pick", "knee", "--tokens", "256", "--out", "OUT", "--json"),
    "refine": ("refine", "RUN", "--evals", "4", "--json"),
    "report": ("report", "RUN"),
    "doctor": ("doctor", "RUN", "--json"),
    "latency": ("latency", "RUN", "--json"),
}
# Of what they print: numbers that no clock makes.
LASTING = ("params", "nonzeros", "perplexity", "before", "after", "id", "hypervolume")


@pytest.fixture(scope="module")
def results_of_verbs() -> dict[str, dict[str, Any]]:
    return {}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", RUN_FILES)
def test_verbs_that_work_give_the_same_or_name_the_file(
    healthy: Path,
    command: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    quick_exports: None,
    results_of_verbs: dict[str, dict[str, Any]],
    name: str,
    seed: int,
) -> None:
    """One of them after one damage; all, with many seeds."""
    chance = random.Random(f"{name} works {seed}")
    verb, damage = chance.choice(list(WORKERS)), chance.choice(DAMAGES)
    identity = RunResults(healthy / "run").pick("knee").genome.id

    def done(place: Path) -> tuple[int, dict[str, Any], str]:
        (place / "text.txt").write_text("some words of a text. " * 100)
        names = {
            "RUN": place / "run",
            "OUT": place / "out",
            "RUN/ID": place / "run" / identity,
            "TEXT": place / "text.txt",
        }
        code, out, err = command(*[names.get(word, word) for word in WORKERS[verb]])
        report = json.loads(out) if out.startswith("{") else {}
        return code, {key: report[key] for key in LASTING if key in report}, err

    if verb not in results_of_verbs:
        shutil.copytree(healthy, tmp_path / "healthy")
        code, results_of_verbs[verb], err = done(tmp_path / "healthy")
        assert code == 0, err
    shutil.copytree(healthy, tmp_path / "damaged")
    damage(tmp_path / "damaged" / "run" / name, chance)
    code, answer, err = done(tmp_path / "damaged")
    if code == 0 or verb == "doctor":
        assert answer == results_of_verbs[verb], (verb, damage.__name__)
        assert "Traceback" not in err
    else:
        check_line(code, err, Path(name).name if "data/" not in name else str(Path(name).parent))
        assert not (tmp_path / "damaged" / "out").exists()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("pattern", CACHES)
def test_a_damaged_cache_is_built_again(healthy: Path, tmp_path: Path, pattern: str, seed: int) -> None:
    """Search in the same results directory, after damage: the same archive, and caches of the same bytes."""
    shutil.copytree(healthy, tmp_path, dirs_exist_ok=True)
    chance = random.Random(f"{pattern} {seed}")
    path = chance.choice(sorted((tmp_path / ".cache").glob(pattern)))
    before = path.read_bytes()
    chance.choice(DAMAGES)(path, chance)
    config = load_config(healthy / "run" / "run.yaml")
    again = controller.start(prepare(config), tmp_path / "again", QUIET)
    assert again.run.archive.read_bytes() == (healthy / "run" / "archive.jsonl").read_bytes()
    if "statistics" in pattern or "blocks" in pattern:  # not needed any more
        return
    assert path.read_bytes() == before


@pytest.mark.parametrize("pattern", [p for p in CACHES if "stores/*/units" in p or "index.json" in p])
def test_export_names_a_damaged_store(
    healthy: Path, command: Callable[..., tuple[int, str, str]], tmp_path: Path, pattern: str
) -> None:
    shutil.copytree(healthy, tmp_path, dirs_exist_ok=True)
    path = next((tmp_path / ".cache").glob(pattern))
    flip(path, random.Random(0))
    code, _, err = command("export", tmp_path / "run", "--out", tmp_path / "out")
    check_line(code, err, path.name)
    assert "resume" in err
    assert not (tmp_path / "out").exists()


def test_files_that_vanish_while_candidates_are_measured_end_the_run(
    healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's fault is no candidate's: nothing is marked as failed, and the run goes on to the same bytes."""
    shutil.copytree(healthy, tmp_path, dirs_exist_ok=True)
    archive = tmp_path / "run" / "archive.jsonl"
    whole = archive.read_bytes()
    archive.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    evaluate, calls = Worker.evaluate, iter(range(100))

    def vanishing(self: Worker, *call: Any) -> Any:
        if next(calls) == 2:
            for units in (tmp_path / ".cache").glob("stores/*/units"):
                shutil.rmtree(units)
            self.evaluator.supernet.composer.files._open.clear()
            self.evaluator.supernet.__dict__.pop("cache", None)
        return evaluate(self, *call)

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "evaluate", vanishing)
        with pytest.raises(EnvironmentProblem, match=r"SS306 .*safetensors is damaged: No such file"):
            controller.resume(tmp_path / "run", {}, QUIET)
    assert b'"failed"' not in archive.read_bytes()
    assert controller.resume(tmp_path / "run", {}, QUIET).run.archive.read_bytes() == whole


@pytest.mark.parametrize("left", [0, 3])
def test_an_archive_that_is_cut_while_a_search_runs_ends_it(
    healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """It would end well with some of the lines; resumed, all of them are there."""
    shutil.copytree(healthy / ".cache", tmp_path / ".cache")
    archive, whole = tmp_path / "run" / "archive.jsonl", (healthy / "run" / "archive.jsonl").read_bytes()
    config = load_config(healthy / "run" / "run.yaml")
    evaluate, calls = Worker.evaluate, iter(range(10_000))

    def cutting(self: Worker, *call: Any) -> Any:
        if next(calls) == 9:
            lines = archive.read_bytes().splitlines(keepends=True)[:left]
            archive.unlink()
            if lines:
                archive.write_bytes(b"".join(lines))
        return evaluate(self, *call)

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "evaluate", cutting)
        with pytest.raises(DamagedFile, match=r"SS601 .*archive.jsonl is damaged: it was cut or removed .*resume"):
            controller.start(prepare(config), tmp_path / "run", QUIET)
    assert controller.resume(tmp_path / "run", {}, QUIET).run.archive.read_bytes() == whole


def test_a_full_disk_leaves_no_hidden_states(healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(healthy / "run" / "run.yaml")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sparsesearch.calibration.statistics.write_tensors", full)
        with pytest.raises(OSError, match="No space left"):
            controller.start(prepare(config), tmp_path / "run", QUIET)
    assert not list(tmp_path.rglob("*.tmp"))
    again = controller.resume(tmp_path / "run", {}, QUIET)
    assert again.run.archive.read_bytes() == (healthy / "run" / "archive.jsonl").read_bytes()


@pytest.mark.parametrize("pattern", ["stores/*/units/*mlp.ffn_width.safetensors", "stores/*/blocks/000.json"])
def test_a_directory_in_place_of_a_cached_file_is_replaced(healthy: Path, tmp_path: Path, pattern: str) -> None:
    """Also while levels are built: an unfinished store has no index."""
    shutil.copytree(healthy, tmp_path, dirs_exist_ok=True)
    path = next((tmp_path / ".cache").glob(pattern))
    before = path.read_bytes()
    replace(path, random.Random(0))
    next((tmp_path / ".cache").glob("stores/*/index.json")).unlink()
    assert controller.resume(tmp_path / "run", {}, QUIET).front
    assert path.read_bytes() == before


def test_a_full_disk_ends_the_run_with_one_line(healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(healthy, tmp_path, dirs_exist_ok=True)
    archive = tmp_path / "run" / "archive.jsonl"
    whole = archive.read_bytes()
    archive.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))

    def full(self: Any, *_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "evaluate", full)
        with pytest.raises(OSError, match="No space left"):
            controller.resume(tmp_path / "run", {}, QUIET)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda handle: full(None))
        with pytest.raises(EnvironmentProblem, match=r"SS305 cannot write .*: no space left"):
            controller.resume(tmp_path / "run", {}, QUIET)
    assert controller.resume(tmp_path / "run", {}, QUIET).run.archive.read_bytes() == whole
    assert not list(tmp_path.rglob("*.tmp"))


class Disk:
    """What a power cut leaves: files as they were when they were synced last, else empty."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: dict[int, bytes] = {}
        sync = os.fsync

        def fsync(handle: int) -> None:
            sync(handle)
            path = Path(f"/proc/self/fd/{handle}").resolve()
            if path.is_file():
                self.synced[os.fstat(handle).st_ino] = path.read_bytes()

        monkeypatch.setattr("os.fsync", fsync)

    def cut(self, place: Path) -> None:
        for path in (p for p in place.rglob("*") if p.is_file()):
            path.write_bytes(self.synced.get(path.stat().st_ino, b""))


@pytest.mark.parametrize("after", [0, 5, 14, 10_000])
def test_a_power_cut_loses_what_was_not_synced_and_nothing_else(
    healthy: Path, family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    config = load_config(healthy / "run" / "run.yaml")
    evaluate, calls = Worker.evaluate, iter(range(10_000))

    def cut(self: Worker, *call: Any) -> Any:
        if next(calls) == after:
            raise KeyboardInterrupt
        return evaluate(self, *call)

    with monkeypatch.context() as patch:
        disk = Disk(patch)
        patch.setattr(Worker, "evaluate", cut)
        try:
            controller.start(prepare(config), tmp_path / "run", QUIET)
        except KeyboardInterrupt:
            assert after < 10_000
    disk.cut(tmp_path)
    for name in ("run.yaml", "run.json", "space.json", "data/selection/input_ids.npy"):
        assert (tmp_path / "run" / name).stat().st_size, name
    again = controller.resume(tmp_path / "run", {}, QUIET)
    assert again.run.archive.read_bytes() == (healthy / "run" / "archive.jsonl").read_bytes()


@pytest.mark.parametrize("lost", [["run.yaml"], ["run.json", "space.json"], ["run.yaml", "run.json", "space.json"]])
def test_lost_run_files_are_mended_from_recipe_and_archive(healthy: Path, tmp_path: Path, lost: list[str]) -> None:
    shutil.copytree(healthy, tmp_path, dirs_exist_ok=True)
    for name in lost:
        (tmp_path / "run" / name).write_bytes(b"")
    with pytest.raises(DamagedFile, match=r"SS601 .* is damaged.*--recipe"):
        RunResults(tmp_path / "run").space  # noqa: B018
    config = load_config(healthy / "run" / "run.yaml")
    results = controller.repair_run(tmp_path / "run", config, QUIET)
    assert results.front_json() == RunResults(healthy / "run").front_json() | {"run": str(tmp_path / "run")}


@pytest.mark.parametrize(
    "change",
    [
        {"units": [{"kind": "ffn_width", "levels": 2}]},
        {"data": {"calibration": {"source": "stdlib:calibration", "sequences": 3, "length": 16}}},
    ],
)
def test_an_archive_is_not_mended_with_another_recipe(healthy: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    shutil.copytree(healthy, tmp_path, dirs_exist_ok=True)
    (tmp_path / "run" / "run.yaml").unlink()
    tree = load_config(healthy / "run" / "run.yaml").model_dump()
    for key, value in change.items():
        tree[key] = tree[key] | value if isinstance(value, dict) else value
    with pytest.raises((InputError, DamagedFile), match=r"SS60[12] "):
        controller.repair_run(tmp_path / "run", RunConfig.model_validate(tree), QUIET)
    assert not (tmp_path / "run" / "run.yaml").exists()


def test_of_two_searches_of_one_name_the_second_is_refused(
    healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it looked before the first began, and locks after that has ended."""
    config = load_config(healthy / "run" / "run.yaml")
    make = RunDirectory.make

    def held(run: RunDirectory) -> None:
        monkeypatch.setattr(RunDirectory, "make", make)
        controller.start(prepare(config), run.path, QUIET)

    monkeypatch.setattr(RunDirectory, "make", held)
    with pytest.raises(InputError, match="SS303"):
        controller.start(prepare(config), tmp_path / "run", QUIET)
    assert RunResults(tmp_path / "run").front


def test_a_candidate_that_kills_its_process_is_kept_out(
    healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(healthy / "run" / "run.yaml")
    launch = prepare(config)
    evaluate = Worker.evaluate

    def deadly(self: Worker, genome: bytes, *call: Any) -> Any:
        if genome == victim:
            os._exit(9)
        return evaluate(self, genome, *call)

    victim = RunResults(healthy / "run").evaluations[5].genome.data
    monkeypatch.setattr(Worker, "evaluate", deadly)
    codes = []
    for _ in range(5):
        if (child := os.fork()) == 0:
            if (tmp_path / "run" / "run.yaml").exists():
                controller.resume(tmp_path / "run", {}, QUIET)
            else:
                controller.start(launch, tmp_path / "run", QUIET)
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    assert codes == [9, 9, 9, 0, 0]
    failed = [e for e in RunResults(tmp_path / "run").evaluations if e.status == "failed"]
    assert {e.genome.data for e in failed} == {victim}
    assert "died 3 times" in failed[0].error


@pytest.mark.parametrize("name", ["ledger.jsonl", "archive.jsonl"])
def test_lines_that_are_gone_are_noticed(
    healthy: Path, command: Callable[..., tuple[int, str, str]], tmp_path: Path, name: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(healthy / "run", run)
    lines = (run / name).read_bytes().splitlines(keepends=True)
    (run / name).write_bytes(b"".join(lines[:-1]))
    code, _, err = command("track", run, "--to", "tensorboard")
    check_line(code, err, name)
    assert f"{len(lines) - 1} of {len(lines)} lines are left" in err


def test_samples_are_compared_with_their_checksum_once(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, read = RunDirectory(healthy / "run"), Samples.load
    counted: list[Path] = []
    monkeypatch.setattr(Samples, "load", lambda path: counted.append(path) or read(path))  # type: ignore[func-returns-value]
    first = run.samples("selection")
    assert run.samples("selection") is first
    assert run.samples("test") is not first
    assert [path.name for path in counted] == ["selection", "test"]


def test_doctor_reads_a_run_in_full(
    healthy: Path, command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    shutil.copytree(healthy, tmp_path, dirs_exist_ok=True)
    code, out, _ = command("doctor", tmp_path / "run", "--json")
    assert code == 0
    assert len(json.loads(out)) > 6
    flip(next((tmp_path / ".cache").glob("statistics/*/block-001.safetensors")), random.Random(0))
    code, out, err = command("doctor", tmp_path / "run")
    assert code == 3
    assert "block-001.safetensors is damaged" in out
    assert "1 of" in err


def test_whole_files_are_told_from_others(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.arange(6).bfloat16(), "b": torch.tensor(1.5)}, {"note": "x"})
    assert is_intact(path)
    for damage in DAMAGES:
        write_tensors(path, {"a": torch.arange(6).bfloat16(), "b": torch.tensor(1.5)}, {"note": "x"})
        damage(path, random.Random(3))
        assert not is_intact(path)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    write_json(tmp_path / "a.json", {"x": (1, 2), "y": {1: 0.1}})
    assert read_json(tmp_path / "a.json") == {"x": [1, 2], "y": {"1": 0.1}}


def test_every_flipped_bit_of_a_sealed_line_is_noticed() -> None:
    line = seal('{"a":1,"b":[0.25,null]}')
    assert unseal(line) == ({"a": 1, "b": [0.25, None]}, True)
    for place in range(len(line)):
        for bit in range(7):
            other = line[:place] + chr(ord(line[place]) ^ 1 << bit) + line[place + 1 :]
            try:
                data, sealed = unseal(other)
            except ValueError:
                continue
            assert not sealed, other  # which only the first line of a file may be, with no unknown field
            assert set(data) != {"a", "b"}


def test_lines_after_a_sealed_one_are_sealed(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text('{"old":1}\n' + seal('{"a":1}') + "\n" + '{"torn"')
    assert [data for data, _ in read_lines(path)] == [{"old": 1}, {"a": 1}]
    path.write_text(seal('{"a":1}') + '\n{"a":2}\n')
    with pytest.raises(DamagedFile, match=r"SS601 .*lines:2 is damaged"):
        read_lines(path)
