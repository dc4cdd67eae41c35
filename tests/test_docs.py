"""The documentation keeps its promises: Python runs, commands parse, links lead somewhere, names exist."""

from __future__ import annotations

import contextlib
import re
import runpy
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import launched, run_search
from transformers import Starcoder2Config, Starcoder2ForCausalLM
from typer.main import get_command

import sparsesearch as ss
from sparsesearch.allocation import ALLOCATIONS
from sparsesearch.bilevel import LEARNERS
from sparsesearch.cli import app
from sparsesearch.config import validate
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.engine.reopen import open_run
from sparsesearch.errors import InputError
from sparsesearch.export import FORMS, export
from sparsesearch.models import FAMILIES, load_tokenizer
from sparsesearch.models.load import DEMO
from sparsesearch.plugins import load_plugins
from sparsesearch.proxies import PROXIES
from sparsesearch.pruning import EXPERTS, STRUCTURED, UNSTRUCTURED
from sparsesearch.searchers.registry import SEARCHERS
from sparsesearch.space.cost import COSTS
from sparsesearch.space.unit import KINDS
from sparsesearch.testing.learners import check_learner
from sparsesearch.testing.proxies import check_proxy

ROOT = Path(__file__).parents[1]
ROOMS = ROOT / "sparsesearch"
LARGEST_README, MOST_LINES = 11_264, 200
# Folders whose pages are documentation; `results` also holds runs, and their exports have pages of their own.
FOLDERS = (".github", "sparsesearch", "search_spaces", "tests", "results/benchmarks")
PAGES = [ROOT / "README.md", ROOT / "results" / "README.md"]
PAGES += sorted(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))
WALKTHROUGHS = sorted((ROOT / "search_spaces" / "walkthroughs").glob("*.py"))

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(page: str) -> str:
    """The text of a page by its path from the root."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page: Path, language: str) -> list[str]:
    return [code for name, code in FENCE.findall(page.read_text(encoding="utf-8")) if name == language]


def python_pages() -> list[Path]:
    return [page for page in PAGES if blocks_of(page, "python")]


# Front page


def test_the_front_page_is_short() -> None:
    readme = (ROOT / "README.md").read_bytes()
    assert len(readme) <= LARGEST_README
    assert readme.count(b"\n") <= MOST_LINES


def test_ci_runs_exactly_the_readmes_test_command() -> None:
    lines = text_of("README.md").splitlines()
    command = next(line.strip() for line in lines if line.strip().endswith(".venv/bin/pytest"))
    assert command in text_of(".ci/run").splitlines()


def test_top_level_holds_nothing_else() -> None:
    allowed = {"pyproject.toml", "README.md", "LICENSE", "sparsesearch", "search_spaces", "tests", "results"}
    tracked = {p.name for p in ROOT.iterdir() if not p.name.startswith(".") and not p.name.endswith(".egg-info")}
    assert tracked - {"build"} <= allowed


# Commands


def commands_of(page: Path) -> list[list[str]]:
    """Arguments of every sparsesearch command in the fenced and indented code of a page."""
    text = page.read_text(encoding="utf-8")
    fenced = [code for language, code in FENCE.findall(text) if language in ("", "bash", "console")]
    indented = re.findall(r"(?:^ {4}.*\n)+", FENCE.sub("", text), re.MULTILINE)
    lines = [line.strip() for code in (*fenced, *indented) for line in code.replace("\\\n", " ").splitlines()]
    parts = [part for line in lines if "sparsesearch " in line for part in line.split(" && ")]
    commands = [part for part in parts if re.match(r"(\S*/)?sparsesearch ", part.strip())]
    # Without a redirection of the shell.
    words = [shlex.split(command, comments=True)[1:] for command in commands]
    return [arguments[: arguments.index(">")] if ">" in arguments else arguments for arguments in words]


def parse(arguments: list[str]) -> None:
    """Parse a command as the command line does; raises what that raises. One with `...` only names real options."""
    command: Any = get_command(app)
    context = None
    while hasattr(command, "commands"):
        assert arguments and arguments[0] in command.commands, f"no such verb: {arguments[:1]}"
        name, *arguments = arguments
        command = command.commands[name]
    if "..." in arguments:
        known = {option for parameter in command.params for option in parameter.opts}
        assert {a.partition("=")[0] for a in arguments if a.startswith("--")} <= known
    else:
        context = command.make_context(command.name, arguments)
    assert context is None or context.params


COMMANDS = [(page, arguments) for page in PAGES for arguments in commands_of(page)]


@pytest.mark.parametrize(
    ("page", "arguments"), COMMANDS, ids=[f"{name_of(page)}: {' '.join(a)[:60]}" for page, a in COMMANDS]
)
def test_commands_parse(page: Path, arguments: list[str]) -> None:
    parse(list(arguments))


def test_wrong_commands_do_not_parse() -> None:
    for wrong in ("serach x.yaml", "search x.yaml --nope", "recover RUN --tokens many", "space x", "search ... --nope"):
        with pytest.raises(Exception):  # noqa: B017 (click's types differ between versions)
            parse(wrong.split())


def test_every_verb_is_documented_with_a_command() -> None:
    assert {arguments[0] for page, arguments in COMMANDS if "benchmarks" not in page.parts} >= set(
        get_command(app).commands  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_verbs_and_recipes_in_sentences_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    verbs = set(re.findall(r"`sparsesearch ([a-z]+)", text))
    assert verbs <= set(get_command(app).commands)  # type: ignore[attr-defined]
    for recipe in re.findall(r"search_spaces/(\w+\.yaml)|`((?:llm|cnn|moe|encoder|vit)_\w+\.yaml)`", text):
        assert (ROOT / "search_spaces" / (recipe[0] or recipe[1])).exists()


# Links


def slugs_of(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text(encoding="utf-8")))
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link}"
        assert not anchor or anchor in slugs_of(target), f"{name_of(page)}: no heading for {link}"


# Recipes


RECIPES = [(page, code) for page in PAGES for code in blocks_of(page, "yaml")]


@pytest.mark.parametrize(("page", "code"), RECIPES, ids=[f"{name_of(p)}: {c.split()[0]}" for p, c in RECIPES])
def test_recipes_are_valid(page: Path, code: str) -> None:
    validate({"units": [{"kind": "sparsity"}]} | yaml.safe_load(code), name_of(page))


def test_the_recipe_shown_in_full_is_complete() -> None:
    (code,) = [c for c in blocks_of(ROOMS / "config" / "README.md", "yaml") if c.startswith("version:")]
    assert validate(yaml.safe_load(code), "README").objectives == ["kl", "params"]


def test_the_recipe_of_training_has_rungs() -> None:
    (code,) = blocks_of(ROOMS / "training" / "README.md", "yaml")
    config = validate({"units": [{"kind": "sparsity"}]} | yaml.safe_load(code), "README")
    assert [rung.candidates for rung in config.search.rungs] == [8, 2]


# Python


@pytest.fixture
def registries() -> Iterator[None]:
    """As they were, whatever a snippet registers."""
    with contextlib.ExitStack() as stack:
        for registry in (SEARCHERS, LEARNERS, STRUCTURED, UNSTRUCTURED, FAMILIES, PROXIES):
            stack.enter_context(registry.restored())
        yield


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the quickstart's recipe on little text, and its run in `results`."""
    place = tmp_path_factory.mktemp("quickstart")
    tree = yaml.safe_load((ROOT / "search_spaces" / "quickstart.yaml").read_text())
    for data in tree["data"].values():
        data |= {"sequences": 4, "length": 16, "take": "first"}
    tree["executor"] = {"kind": "local"}
    tree["search"] |= {"evals": 40, "final": 8, "options": {"tokens": 32, "probe_tokens": 16}}
    (place / "search_spaces").mkdir()
    (place / "search_spaces" / "quickstart.yaml").write_text(yaml.safe_dump(tree))
    ss.search(place / "search_spaces" / "quickstart.yaml", results=place / "results", quiet=True)
    return place


@pytest.mark.usefixtures("registries", "quick_exports")
@pytest.mark.parametrize("page", python_pages(), ids=name_of)
def test_python_runs(page: Path, quickstart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page, in order, in one namespace, beside a run of the quickstart."""
    place = shutil.copytree(quickstart, tmp_path / "place")
    monkeypatch.chdir(place)
    namespace: dict[str, Any] = {"__name__": "snippet"}
    for number, code in enumerate(blocks_of(page, "python")):
        exec(compile(code, f"{name_of(page)}[{number}]", "exec"), namespace)


@pytest.mark.usefixtures("registries", "quick_exports")
@pytest.mark.parametrize("path", WALKTHROUGHS, ids=lambda path: path.stem)
def test_walkthroughs_run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert path.read_text(encoding="utf-8").startswith("# %% [markdown]\n")
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()
    assert list(tmp_path.glob("walkthrough-*")), "results go to a directory of their own"


# Parts of one's own


def plugin(tmp_path: Path, page: Path, start: str) -> str:
    """The snippet of a page that starts like this, as a file of the user's own."""
    (code,) = [code for code in blocks_of(page, "python") if code.startswith(start)]
    path = tmp_path / "mine.py"
    path.write_text(code)
    return str(path)


SMALL = [{"kind": "ffn_width", "levels": 3}, {"kind": "kv_groups"}]


@pytest.mark.usefixtures("registries")
def test_the_proxy_shown_passes_conformance(tmp_path: Path) -> None:
    load_plugins([plugin(tmp_path, ROOMS / "proxies" / "README.md", "from sparsesearch.proxies import")])
    check_proxy("zeroed", tmp_path)


@pytest.mark.usefixtures("registries")
def test_the_learner_shown_passes_conformance(tmp_path: Path) -> None:
    load_plugins([plugin(tmp_path, ROOMS / "bilevel" / "README.md", "import torch")])
    check_learner("sigmoid", tmp_path / "work")


@pytest.mark.usefixtures("registries")
def test_the_searcher_shown_searches(tmp_path: Path) -> None:
    file = plugin(tmp_path, ROOMS / "searchers" / "README.md", "from sparsesearch.searchers import")
    search = {"searcher": "climber", "evals": 24}
    results = run_search(tmp_path / "run", "demo", units=SMALL, plugins=[file], search=search, limits=["params<=80%"])
    assert {"child", "dense"} <= {e.origin for e in results.evaluations}
    assert results.front


@pytest.mark.usefixtures("registries")
def test_the_pruners_shown_prune(tmp_path: Path) -> None:
    page = ROOMS / "pruning" / "README.md"
    path = tmp_path / "mine.py"
    path.write_text("\n\n".join(blocks_of(page, "python")))
    units = [*SMALL, {"kind": "sparsity", "target": "*.mlp.*", "levels": ["50%"]}]
    pruners = {"width": "energy", "sparsity": "scaled"}
    results = run_search(tmp_path / "run", "demo", units=units, plugins=[str(path)], pruners=pruners)
    assert results.front


@pytest.mark.usefixtures("registries")
def test_the_family_shown_is_pruned_exported_and_reloaded(tmp_path: Path) -> None:
    file = plugin(tmp_path, ROOMS / "models" / "README.md", "from sparsesearch.models import")
    load_plugins([file])  # the recipe that a test begins with asks what the model is for
    config = Starcoder2Config(
        vocab_size=2048,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    Starcoder2ForCausalLM(config).save_pretrained(tmp_path / "model")
    load_tokenizer(DEMO).save_pretrained(tmp_path / "model")
    units = [*SMALL, {"kind": "drop_attention"}, {"kind": "drop_ffn"}]
    results = run_search(tmp_path / "run", tmp_path / "model", units=units, plugins=[file])
    report = export(open_run(results, TRUSTED), results.pick("smallest"), tmp_path / "out")
    assert report["max_abs_logit_diff"] < 1e-4


def test_a_plugin_that_cannot_be_imported_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_that_name")
    for name in ("nowhere.py", "nothing_of_that_name", str(tmp_path / "broken.py")):
        with pytest.raises(InputError, match=r"SS125 plugins: .* cannot be imported"):
            launched("demo", plugins=[name])


# Names


def rows_of(page: str) -> str:
    return "\n".join(line for line in text_of(page).splitlines() if line.startswith("| "))


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("sparsesearch/searchers/README.md", [n for n in SEARCHERS if ":" not in n]),
        ("sparsesearch/searchers/README.md", [f"{n.partition(':')[0]}:NAME" for n in SEARCHERS if ":" in n]),
        ("sparsesearch/searchers/README.md", list(ALLOCATIONS)),
        ("sparsesearch/export/README.md", list(FORMS)),
        ("sparsesearch/pruning/README.md", [*UNSTRUCTURED, *STRUCTURED, *EXPERTS]),
        ("sparsesearch/proxies/README.md", list(PROXIES)),
        ("sparsesearch/config/README.md", [*KINDS, *COSTS]),
    ],
    ids=["searchers", "families of searchers", "allocations", "forms", "pruners", "proxies", "kinds and costs"],
)
def test_every_name_stands_in_a_table(page: str, names: list[str]) -> None:
    rows = rows_of(page)
    assert [name for name in names if f"`{name}`" not in rows] == []


def test_families_named_are_there() -> None:
    named = rows_of("sparsesearch/models/README.md").lower().replace(" ", "").replace("-", "")
    for name in FAMILIES:
        alias = {"gemma3_text": "gemma2and3", "deepseek_v3": "deepseekv2andv3", "debertav2": "debertav2"}.get(name)
        stem = name.rstrip("0123456789").split("_")[0].split("-")[0]
        assert (alias or stem) in named, name
