"""Every form on every kind of model that it is for, each form's own limits, and what goes with an export."""

from __future__ import annotations

import json
import logging
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from networks import make
from safetensors.torch import load_file, save_file
from support import SIZES, kinds_of, launched, run_search
from torch.nn import functional

import sparsesearch as ss
from sparsesearch.api import Run
from sparsesearch.config.units import NEMOTRON_NAS_WIDTH
from sparsesearch.engine import reopen
from sparsesearch.engine.launch.access import Access
from sparsesearch.engine.reopen import open_run
from sparsesearch.errors import EnvironmentProblem, InputError, SparseSearchError
from sparsesearch.export import FORMS, export, hub, verification, verify_in_process, write
from sparsesearch.export.forms import pattern_check as pattern
from sparsesearch.export.forms.graphs import TRANSFORMERS
from sparsesearch.export.forms.modeling_decilm import WIDTH_MULTIPLE, intermediate_size
from sparsesearch.export.forms.registry import gguf_source
from sparsesearch.models import describe, load_model, load_tokenizer, surgery
from sparsesearch.models.load import DEMO
from sparsesearch.models.surgery import NoAttention
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Genome
from sparsesearch.testing import check_form

Make = Callable[[str], Path]
Runs = Callable[[str], tuple[RunResults, Any]]

# The forms, and the kinds of models that each is tried on; a new form is one line here.
CONFORMANCE: dict[str, tuple[str, ...]] = {
    "zeros": ("llama", "cnn"),
    "uniform": ("llama",),
    "padded": ("llama", "gpt2", "qwen3_moe", "vit"),
    "uneven": ("llama", "cnn"),
    "nemotron_nas": ("wide",),
    "onnx": ("cnn", "bert"),
    "torch_export": ("cnn", "llama"),
}
# Level by block of each kind of unit; uneven, but where a form asks for less.
UNEVEN = {
    "sparsity": (1, 2, 0),
    "ffn_width": (1, 2, 1),
    "kv_groups": (2, 0, 2),
    "expert_width": (2, 1),
    "experts": (1, 1),
    "drop_attention": (0, 1, 0),
    "channels": (1, 2),
}
EVEN = {"ffn_width": (1, 1, 1), "drop_attention": (0, 1, 0), "drop_ffn": (0, 1, 0)}


def candidate(results: RunResults, **kept: Any) -> Evaluation:
    """A candidate with a level of each kind of unit in each block."""
    levels = [
        min(kept[u.kind][u.block], len(u.levels) - 1) if u.kind in kept and u.block < len(kept[u.kind]) else 0
        for u in results.space.units
    ]
    genome = Genome.of(levels)
    return Evaluation(genome, 1, 0, "test", "ok", 1.0, results.space.costs.named(genome.levels))


def short_bert(path: Path) -> Path:
    """One layer: converting it is what takes time."""
    torch.manual_seed(0)
    sizes = {name: size for name, size in SIZES.items() if name != "num_key_value_heads"} | {"num_hidden_layers": 1}
    transformers.BertForMaskedLM(transformers.BertConfig(**sizes, initializer_range=0.2)).save_pretrained(path)
    load_tokenizer(DEMO).save_pretrained(path)
    return path


def wide_llama(path: Path) -> Path:
    """A Llama whose FFN is as wide as vLLM's DeciLM can say, with biases and untied embeddings."""
    torch.manual_seed(0)
    sizes = SIZES | {"hidden_size": 64, "intermediate_size": 3 * NEMOTRON_NAS_WIDTH}
    config = transformers.LlamaConfig(
        **sizes, attention_bias=True, mlp_bias=True, initializer_range=0.2, rope_theta=5e5
    )
    transformers.LlamaForCausalLM(config).save_pretrained(path)
    load_tokenizer(DEMO).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def runs(family_dir: Make, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A finished run on a kind of model, and the module where it was given from Python."""
    made: dict[str, tuple[RunResults, Any]] = {}

    def run(kind: str) -> tuple[RunResults, Any]:
        if kind not in made:
            place = tmp_path_factory.mktemp(kind)
            if kind == "cnn":
                module, x = make("padded"), torch.randn(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))
                recipe = {
                    "units": [{"kind": "channels", "levels": 3}, {"kind": "sparsity", "levels": ["50%"]}],
                    "objectives": ["kl", "nonzeros"],
                    "search": {"searcher": "random", "evals": 4, "final": 2},
                    "executor": {"kind": "local"},
                }
                data = {"calibration": x[:6], "selection": x[6:]}
                search_run = ss.search(module, recipe, data=data, results=place, quiet=True)
                made[kind] = (search_run.results, module)
            else:
                makers = {"wide": wide_llama, "bert": short_bert}
                model = makers[kind](place / "model") if kind in makers else family_dir(kind)
                units = [{"kind": "ffn_width", "levels": [0.6, 0.3], "align": "nemotron_nas"}]
                units += [{"kind": "drop_attention"}, {"kind": "drop_ffn"}, {"kind": "kv_groups"}]
                units = units if kind == "wide" else kinds_of(model, heads=False)
                made[kind] = (run_search(place / "run", model, units=units), None)
        return made[kind]

    return run


def _skip_old(form: str) -> None:
    if form == "onnx" and TRANSFORMERS < (5, 24):
        pytest.skip("form onnx needs transformers 5.24")


def test_every_form_is_tried() -> None:
    assert set(CONFORMANCE) == set(FORMS)


@pytest.mark.parametrize(("form", "kind"), [(form, kind) for form, kinds in CONFORMANCE.items() for kind in kinds])
@pytest.mark.usefixtures("quick_exports")
def test_conformance(form: str, kind: str, runs: Runs, tmp_path: Path) -> None:
    """Verified the ways it promises; what `ss.load` gives has the candidate's outputs for another number of samples."""
    _skip_old(form)
    results, module = runs(kind)
    levels = (
        EVEN if form == "uniform" else UNEVEN | ({"kv_groups": (0, 0, 0)} if kind in ("wide", "vit", "gpt2") else {})
    )
    chosen = candidate(results, **levels)
    report = check_form(form, tmp_path, results, chosen, Access(module))
    assert report["max_abs_logit_diff"] < 1e-4
    assert report["bytes"] > 0
    full_shapes = form in ("zeros", "padded")
    assert full_shapes or report["params"] == chosen.costs["params"]
    card = (tmp_path / "export" / "README.md").read_text()
    assert "![" in card and (tmp_path / "export" / "front.png").read_bytes()[:4] == b"\x89PNG"
    units = zip(results.space.units, chosen.genome.levels, strict=True)
    assert ("no attention (" in card) == any(level for unit, level in units if unit.kind == "drop_attention")


@pytest.mark.usefixtures("quick_exports")
def test_the_check_makes_a_run_and_finds_a_candidate(tmp_path: Path) -> None:
    assert check_form("uneven", tmp_path)["form"] == "uneven"


# padded


@pytest.mark.usefixtures("quick_exports")
def test_padding_is_to_the_widest_layer_and_says_what_is_left(runs: Runs, tmp_path: Path) -> None:
    results, _ = runs("llama")
    chosen = candidate(results, ffn_width=(1, 0, 2), kv_groups=(1, 2, 3), drop_attention=(1, 1, 0), drop_ffn=(0, 1, 0))
    report = export(open_run(results), chosen, tmp_path / "out", "padded")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    # Block 1 is gone; attention is left in block 2 alone, and that has one KV group.
    sizes = [config[name] for name in ("num_hidden_layers", "intermediate_size", "num_key_value_heads")]
    assert sizes == [2, 36, 1]
    dense = results.space.dense_costs["params"]
    assert chosen.costs["params"] < report["params"] < dense
    share = (dense - report["params"]) / (dense - chosen.costs["params"])
    assert f"{share:.0%} of what the candidate saves is left" in report["notes"][0]
    zero = load_file(tmp_path / "out" / "model.safetensors")["model.layers.0.self_attn.o_proj.weight"]
    assert not zero.any()


@pytest.mark.parametrize(
    ("kind", "levels", "words"),
    [
        ("qwen3_moe", {"experts": (1, 2)}, "the router would choose the zeros"),
        ("gpt2", {"kv_groups": (1, 2, 1)}, "no stock configuration of gpt2 can express fewer kv_groups"),
        ("cnn", {"channels": (1, 2)}, "a module of your own has no stock configuration"),
    ],
)
def test_what_cannot_be_padded(kind: str, levels: dict[str, Any], words: str, runs: Runs, tmp_path: Path) -> None:
    results, module = runs(kind)
    with pytest.raises(InputError, match=words) as caught:
        export(open_run(results, Access(module)), candidate(results, **levels), tmp_path / "out", "padded")
    assert caught.value.code == "SS502"
    assert "Forms it can take:" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


# nemotron_nas


class Attributes:
    """JSON as vLLM's code sees a configuration: attributes all the way down."""

    def __init__(self, tree: dict[str, Any]) -> None:
        for key, value in tree.items():
            setattr(self, key, Attributes(value) if isinstance(value, dict) else value)


def as_vllm_reads_it(directory: Path, tokens: torch.Tensor) -> torch.Tensor:
    """Logits from the files alone by the rules of vLLM's nemotron_nas.py: fused linears, a residual that is passed on,
    sizes from the block configurations, and an error for every tensor that has no place or another shape.
    """
    config = json.loads((directory / "config.json").read_text())
    state = load_file(directory / "model.safetensors")
    hidden, heads, size = config["hidden_size"], config["num_attention_heads"], config["head_dim"]

    def take(name: str, *shape: int) -> torch.Tensor:
        tensor = state.pop(name)
        assert tuple(tensor.shape) == shape, name
        return tensor

    def linear(x: torch.Tensor, names: list[str], rows: list[int], columns: int) -> torch.Tensor:
        weight = torch.cat([take(f"{n}.weight", r, columns) for n, r in zip(names, rows, strict=True)])
        biased = config["mlp_bias"] if ".mlp." in names[0] else config["attention_bias"]
        bias = torch.cat([take(f"{n}.bias", r) for n, r in zip(names, rows, strict=True)]) if biased else None
        return functional.linear(x, weight, bias)

    def norm(x: torch.Tensor, residual: torch.Tensor | None, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        x = x if residual is None else x + residual
        return functional.rms_norm(x, (hidden,), take(f"{name}.weight", hidden), config["rms_norm_eps"]), x

    embedding = take("model.embed_tokens.weight", config["vocab_size"], hidden)
    x, residual = embedding[tokens], None
    length = tokens.shape[1]
    steps = config["rope_parameters"]["rope_theta"] ** (torch.arange(0, size, 2) / -size)
    angles = torch.outer(torch.arange(length), steps).repeat(1, 2)

    def rotate(y: torch.Tensor) -> torch.Tensor:
        first, second = y.chunk(2, -1)
        return y * angles.cos() + torch.cat([-second, first], -1) * angles.sin()

    def split(y: torch.Tensor) -> torch.Tensor:
        return y.unflatten(-1, (-1, size)).transpose(1, 2)

    for index, tree in enumerate(config["block_configs"]):
        block, layer = Attributes(tree), f"model.layers.{index}"
        if not block.attention.no_op:
            x, residual = norm(x, residual, f"{layer}.input_layernorm")
            groups = heads // block.attention.n_heads_in_group
            names = [f"{layer}.self_attn.{n}_proj" for n in "qkv"]
            rows = [heads * size, groups * size, groups * size]
            q, k, v = map(split, linear(x, names, rows, hidden).split(rows, -1))
            y = functional.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True, enable_gqa=True)
            y = y.transpose(1, 2).flatten(2)
            x = linear(y, [f"{layer}.self_attn.o_proj"], [hidden], heads * size)
        if not block.ffn.no_op:
            assert residual is not None  # vLLM's fused norm adds it
            x, residual = norm(x, residual, f"{layer}.post_attention_layernorm")
            width = -(-int(2 * block.ffn.ffn_mult * hidden / 3) // 256) * 256
            gate, up = linear(x, [f"{layer}.mlp.gate_proj", f"{layer}.mlp.up_proj"], [width, width], hidden).chunk(
                2, -1
            )
            x = linear(functional.silu(gate) * up, [f"{layer}.mlp.down_proj"], [hidden], width)
    x, _ = norm(x, residual, "model.norm")
    head = embedding if config["tie_word_embeddings"] else take("lm_head.weight", config["vocab_size"], hidden)
    assert not state, f"left over: {list(state)}"
    return functional.linear(x, head)


@pytest.mark.usefixtures("quick_exports")
def test_block_configurations_are_read_as_vllm_reads_them(runs: Runs, tmp_path: Path) -> None:
    results, _ = runs("wide")
    widths = {u.levels for u in results.space.units if u.kind == "ffn_width"}
    assert widths == {(3 * 256, 2 * 256, 256)}  # 0.6 and 0.3 of 768 snap to what the formula can say
    # Block 1 is gone, block 0 keeps its attention, block 2 has none. Half of the KV groups everywhere can be said.
    chosen = candidate(results, ffn_width=(1, 0, 2), kv_groups=(2, 0, 0), drop_attention=(0, 1, 1), drop_ffn=(0, 1, 0))
    report = export(open_run(results), chosen, tmp_path / "out", "nemotron_nas")
    assert "vLLM itself was not run" in report["notes"][0]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("nemotron-nas", ["DeciLMForCausalLM"])
    assert (config["num_attention_heads"], config["rope_theta"], config["rope_scaling"]) == (4, 5e5, None)
    attention, ffn = (config["block_configs"][1][part] for part in ("attention", "ffn"))
    assert attention == {"no_op": True, "replace_with_linear": False, "n_heads_in_group": None}
    assert intermediate_size(ffn["ffn_mult"], 64) == 256
    tokens = torch.randint(0, 2048, (2, 9), generator=torch.Generator().manual_seed(0))
    logits = ss.load(tmp_path / "out")(input_ids=tokens).logits
    torch.testing.assert_close(as_vllm_reads_it(tmp_path / "out", tokens), logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "levels", "words"),
    [
        ("wide", {"drop_attention": (1, 0, 0)}, "block 0 comes first and has no attention"),
        ("wide", {"kv_groups": (1, 0, 0)}, "keep 6, 8 query heads, but nemotron_nas has one number for all"),
        ("llama", {"ffn_width": (0, 1, 0)}, "block 0 has an FFN width of 48, but nemotron_nas needs multiples of 256"),
        ("bert", {"ffn_width": (1,)}, "for causal language models of model_type llama"),
    ],
)
def test_what_block_configurations_cannot_say(
    kind: str, levels: dict[str, Any], words: str, runs: Runs, tmp_path: Path
) -> None:
    results, _ = runs(kind)
    with pytest.raises(InputError, match=words):
        export(open_run(results), candidate(results, **levels), tmp_path / "out", "nemotron_nas")
    assert list(tmp_path.iterdir()) == []


def test_any_width_that_the_formula_gives_can_be_said() -> None:
    assert WIDTH_MULTIPLE == NEMOTRON_NAS_WIDTH
    for hidden in (32, 576, 4096, 8192, 5120):
        for width in range(256, 40 * 256, 256):
            assert intermediate_size(1.5 * width / hidden, hidden) == width


@pytest.mark.parametrize(
    ("family", "kind", "words"),
    [
        ("llama", "kv_groups", "align: nemotron_nas is for kind ffn_width"),
        ("llama", "ffn_width", "multiples of 256, and the dense model.layers.0.mlp has 48"),
        ("qwen3", "ffn_width", "needs model_type llama, not qwen3"),
    ],
)
def test_align_that_makes_no_sense_is_refused(family: str, kind: str, words: str, family_dir: Make) -> None:
    with pytest.raises(Exception, match=words):
        launched(family_dir(family), units=[{"kind": kind, "align": "nemotron_nas"}])


# graphs


@pytest.mark.usefixtures("quick_exports")
def test_what_cannot_be_traced_leaves_nothing(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("data-dependent shape\nand more")

    monkeypatch.setattr(torch.export, "export", refuse)
    results, module = runs("cnn")
    with pytest.raises(SparseSearchError, match=r"SS507 .* form torch_export: RuntimeError: data-dependent shape"):
        export(open_run(results, Access(module)), candidate(results), tmp_path / "out", "torch_export")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_one_line_before_any_work(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import util

    monkeypatch.setattr(util, "find_spec", lambda name: None)
    monkeypatch.setattr(reopen, "open_run", None)
    results, _ = runs("llama")
    with pytest.raises(SparseSearchError, match=r"SS307 form onnx needs .*onnxruntime.*sparsesearch\[onnx\]"):
        Run(results).export(results.pick("knee"), tmp_path / "out", "onnx")


@pytest.mark.parametrize("form", ["onnx", "torch_export", "uneven", "zeros"])
@pytest.mark.usefixtures("quick_exports")
def test_an_export_onto_a_full_disk_is_one_line(
    form: str, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of at most 4 KB, which the system refuses as it does where a disk or a quota is full."""
    _skip_old(form)
    results, module = runs("cnn" if form in ("onnx", "torch_export") else "llama")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(EnvironmentProblem, match=r"SS3(05|12) cannot write .*out: "):
            export(open_run(results, Access(module)), candidate(results), tmp_path / "out", form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


# auto, gguf


def test_auto_says_why(runs: Runs) -> None:
    results, _ = runs("llama")
    supernet = open_run(results).supernet

    def chosen(**levels: Any) -> tuple[str, str]:
        return write.choose("auto", supernet, candidate(results, **levels).genome)

    assert chosen(sparsity=(1, 1, 1))[0] == "zeros"
    assert chosen(**EVEN)[0] == "uniform"
    form, why = chosen(**UNEVEN)
    assert (form, why) == (
        "uneven",
        "not uniform, because layers of this candidate differ in kv_groups, which no stock configuration can express; "
        "it could also be padded",
    )


@pytest.mark.parametrize(
    ("kind", "levels", "form"),
    [
        ("llama", {"sparsity": (1, 1, 1)}, "zeros"),
        ("llama", EVEN, "uniform"),
        ("llama", {"ffn_width": (1, 2, 1)}, "padded"),
        ("qwen3_moe", {"experts": (1, 2)}, ""),
        ("vit", {"ffn_width": (1, 2, 1)}, ""),
        ("wide", {"ffn_width": (1, 2, 1)}, "nemotron_nas"),
        # llama.cpp loses the attention of a layer without FFN.
        ("wide", {"ffn_width": (1, 2, 1), "drop_ffn": (0, 1, 0)}, "padded"),
    ],
)
def test_gguf_names_the_form_that_its_converter_takes(
    kind: str, levels: dict[str, Any], form: str, runs: Runs, tmp_path: Path
) -> None:
    results, _ = runs(kind)
    supernet = open_run(results).supernet
    chosen = candidate(results, **levels)
    with pytest.raises(InputError, match=f"takes form {form} " if form else "takes no form") as caught:
        export(open_run(results), chosen, tmp_path / "out", "gguf")
    assert not form or "convert_hf_to_gguf.py DIR" in caught.value.hint
    assert gguf_source(supernet, chosen.genome)[1] == form


# N:M


@pytest.mark.usefixtures("quick_exports")
def test_two_of_four_is_checked_and_reported(family_dir: Make, tmp_path: Path) -> None:
    results = run_search(
        tmp_path / "run",
        family_dir("llama"),
        units=[{"kind": "sparsity", "levels": ["50%"]}, {"kind": "ffn_width", "levels": [0.5]}],
        pruners={"sparsity": "magnitude", "pattern": "2:4"},
    )
    report = export(open_run(results), candidate(results, sparsity=(1, 1, 0)), tmp_path / "out")
    assert report["pattern"] == {"pattern": "2:4", "matrices": 14, "holds": 14, "broken": []}
    assert "vLLM no longer runs 2:4" in report["notes"][-1]
    manifest = json.loads((tmp_path / "out" / "sparsesearch.json").read_text())
    assert manifest["pattern"] == report["pattern"]
    # Inside a cut, groups of four no longer lie side by side, and that is said.
    report = export(open_run(results), candidate(results, sparsity=(1, 0, 0), ffn_width=(1, 0, 0)), tmp_path / "cut")
    assert report["pattern"]["broken"] == ["model.layers.0.mlp.down_proj.weight"]
    assert "holds in 6 of 7 pruned matrices (not in model.layers.0.mlp.down_proj" in report["notes"][-1]


def test_what_holds_a_pattern() -> None:
    weight = torch.tensor([[[1.0, 0, 2, 0, 0, 0, 0, 3], [0, 0, 0, 0, 1, 1, 0, 0]]])
    assert pattern.holds(weight, 2, 4)
    assert not pattern.holds(weight, 1, 4)
    assert not pattern.holds(weight[..., :6], 2, 4)
    weight[0, 0, 1] = 5.0
    assert not pattern.holds(weight, 2, 4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_two_of_four_goes_through_torchs_own_format() -> None:
    weight = torch.randn(1, 64, 128)
    weight.view(1, 64, 32, 4)[..., ::2] = 0
    assert pattern.round_trip({"w": weight, "odd": weight[:, :63]}) == {
        "matrices": 1,
        "skipped": 1,
        "max_abs_diff": 0.0,
    }


# what loading reports


def test_what_transformers_reports_of_weights_decides(
    family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the words of a warning."""
    model = family_dir("llama")
    honest = transformers.AutoModelForCausalLM.from_pretrained

    def muttering(*arguments: Any, **options: Any) -> Any:
        logging.getLogger("transformers.modeling_utils").warning("Unexpected key in rope_parameters; some are missing")
        return honest(*arguments, **options)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", muttering)
    verify_in_process.load_by("transformers", model, "AutoModelForCausalLM")
    monkeypatch.undo()
    for name in ("config.json", "generation_config.json"):
        (tmp_path / name).write_text((model / name).read_text())
    state = load_file(model / "model.safetensors")
    for changed in (
        {**state, "model.layers.0.extra": torch.zeros(2)},
        {k: v for k, v in state.items() if "norm" not in k},
    ):
        save_file(changed, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(ValueError, match="loading reports keys"):
            verify_in_process.load_by("transformers", tmp_path, "AutoModelForCausalLM")


# the hub


class FakeHub:
    """Stands for `HfApi` where it uploads; knows who is logged in."""

    calls: list[tuple[str, Any]] = []

    def whoami(self) -> dict[str, str]:
        return {"name": "me"}

    def create_repo(self, repo: str, **options: Any) -> Any:
        self.calls.append(("create", {"repo": repo, **options}))
        return type("Url", (str,), {"repo_id": repo})(f"https://hub.test/{repo}")

    def upload_folder(self, **options: Any) -> None:
        files = sorted(p.name for p in Path(options["folder_path"]).iterdir())
        self.calls.append(("upload", {"repo": options["repo_id"], "files": files}))


@pytest.mark.usefixtures("quick_exports")
def test_a_verified_export_is_uploaded(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HfApi", FakeHub)
    FakeHub.calls = []
    results, _ = runs("llama")
    report = export(open_run(results), candidate(results), tmp_path / "out", push_to_hub="org/name", private=True)
    assert report["hub"] == "https://hub.test/org/name"
    (_, made), (_, uploaded) = FakeHub.calls
    assert made == {"repo": "org/name", "private": True, "exist_ok": True}
    assert uploaded["repo"] == "org/name"
    assert {"README.md", "front.png", "config.json", "model.safetensors", "sparsesearch.json"} <= set(uploaded["files"])


@pytest.mark.parametrize(
    ("repo", "words"), [("org/name", "not logged in"), ("name", "has no organisation"), ("a/b/c", "Give ORG/NAME")]
)
def test_who_is_not_logged_in_hears_it_before_any_work(
    repo: str, words: str, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(reopen, "open_run", None)  # the long work
    results, _ = runs("llama")
    with pytest.raises(InputError, match=words) as caught:
        Run(results).export(candidate(results), tmp_path / "out", push_to_hub=repo)
    assert (caught.value.code, caught.value.exit_code) == ("SS508", 2)
    assert list(tmp_path.iterdir()) == []


def test_an_upload_that_fails_leaves_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(FakeHub):
        def upload_folder(self, **_: Any) -> None:
            raise OSError("connection reset")

    monkeypatch.setattr(hub, "HfApi", Broken)
    with pytest.raises(
        SparseSearchError, match=r"SS311 .* is written, but .* connection reset\. Upload it later: hf upload org/name"
    ):
        hub.push(tmp_path, "org/name", private=False)


# exports as they are used


class _Forgetful(NoAttention):
    """Tells the cache nothing, as the stand-in did under another name of its argument."""

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, None]:
        return torch.zeros_like(hidden_states), None


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "gemma2"])
def test_a_dropped_first_attention_counts_tokens(name: str, family_dir: Make) -> None:
    """Logits of one plain pass hide it if it does not; every way of use but padding shows it."""
    tokens = torch.arange(24).reshape(2, 12) + 3
    for attention, expected in ((NoAttention, []), (_Forgetful, ["cache", "chunks", "beams"])):
        model = load_model(family_dir(name), torch.float32)
        drop = next(d for d in describe(model).drops.values() if d.block == 0 and d.kind == "attention")
        for path, stand_in in drop.stand_ins:
            new = attention(0) if stand_in == "attention" else surgery.stand_in(stand_in, model.get_submodule(path))
            model.set_submodule(path, new)
        disagreements = verify_in_process.find_disagreements(model, {"input_ids": tokens})
        assert disagreements == expected if attention is NoAttention else set(disagreements) & set(expected)


@pytest.mark.parametrize(
    "name", ["llama", "mixtral", "deepseek_v3", "gemma2", "phi3", "bert", "roberta", "t5", "t5-relu"]
)
def test_dense_models_agree_in_every_way(name: str, family_dir: Make) -> None:
    tokens = torch.arange(24).reshape(2, 12) + 3
    model = load_model(family_dir(name), torch.float32)
    assert verify_in_process.find_disagreements(model, _inputs(name, tokens)) == []


def _inputs(name: str, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"input_ids": tokens} | ({"decoder_input_ids": tokens} if name.startswith("t5") else {})


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_a_checkpoints_own_ways_of_generating_are_no_difference(name: str, family_dir: Make) -> None:
    model = load_model(family_dir(name), torch.float32)
    for key, value in {"repetition_penalty": 1.3, "forced_eos_token_id": 1, "do_sample": True, "top_k": 3}.items():
        setattr(model.generation_config, key, value)
    assert verify_in_process.find_disagreements(model, _inputs(name, torch.arange(24).reshape(2, 12) + 3)) == []


@pytest.mark.parametrize("part", ["decoder", "encoder"])
def test_a_network_with_an_encoder_that_is_wrong_in_use(
    part: str, family_dir: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that forgets its cache, and an encoder that reads padding."""
    model = load_model(family_dir("t5"), torch.float32)
    attention = getattr(model, part).block[0].layer[0].SelfAttention
    forward = attention.forward

    def forgetful(hidden: torch.Tensor, mask: Any = None, *args: Any, **kwargs: Any) -> Any:
        if part == "encoder":
            return forward(hidden, None, *args, **kwargs)
        return forward(hidden * (1 + 0.5 * (hidden.shape[1] == 1)), mask, *args, **kwargs)

    monkeypatch.setattr(attention, "forward", forgetful)
    tokens = torch.arange(24).reshape(2, 12) + 3
    assert "cache" in verify_in_process.find_disagreements(model, {"input_ids": tokens, "decoder_input_ids": tokens})


def test_an_export_that_is_wrong_in_use_is_refused(
    family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_exports: None
) -> None:
    units = [{"kind": "drop_attention", "target": "*.0.self_attn"}, {"kind": "ffn_width", "levels": 2}]
    run = ss.Run(run_search(tmp_path / "run", family_dir("llama"), units=units, objectives=["kl", "params"]))
    dropped = next(e for e in run.results.evaluations if e.genome.levels[0] == 1)
    record = run.export(dropped, tmp_path / "right")
    assert record["verified"]
    load = verification._load_freshly

    def wrong(work: Path, reference: Path, way: str) -> dict[str, Any]:
        return load(work, reference, way) | {"disagreeing": ["cache"]}

    monkeypatch.setattr(verification, "_load_freshly", wrong)
    with pytest.raises(SparseSearchError, match=r"SS506 the export's outputs in use differ .*: cache"):
        run.export(dropped, tmp_path / "out")
    assert not (tmp_path / "out").exists()
