"""Checkpoints that are not what they say: loaded exactly, or refused in one line before anything runs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support import launched, recipe, run_search, saved_model

import sparsesearch as ss
from sparsesearch.config import ModelConfig
from sparsesearch.errors import InputError
from sparsesearch.models.checkpoint import INDEX, WEIGHTS, TensorTypes
from sparsesearch.models.source import open_source

Make = Callable[[str], Path]
Tensors = dict[str, torch.Tensor]


def described(directory: Path) -> Any:
    """What a launch reads of a checkpoint before it looks at data."""
    return open_source(ModelConfig(id=str(directory))).describe([])


@pytest.fixture
def copy(family_dir: Make, tmp_path: Path) -> Path:
    return shutil.copytree(family_dir("llama"), tmp_path / "model")


def change(directory: Path, edit: Callable[[Tensors], Any]) -> None:
    tensors = load_file(directory / WEIGHTS)
    edit(tensors)
    save_file(tensors, directory / WEIGHTS, {"format": "pt"})


def configure(directory: Path, **values: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda tensors: tensors.pop(NAME), f"misses {NAME}"),
        (lambda tensors: [tensors.pop(n) for n in list(tensors) if ".layers.2." in n], r"misses model.layers.2.* and"),
        (
            lambda tensors: tensors.update({NAME: tensors[NAME][1:].clone()}),
            rf"other shapes: {NAME} \(47, 32\) instead",
        ),
        (lambda tensors: tensors.update({"model.layers.3.mlp.up_proj.weight": torch.zeros(48, 32)}), "unexpected mod"),
        (lambda tensors: tensors.update({"visual.weight": torch.zeros(2)}), "unexpected visual.weight"),
    ],
    ids=["tensor", "layer", "shape", "more layers", "other part"],
)
def test_weights_that_are_not_the_networks_are_named(copy: Path, edit: Callable[[Tensors], Any], told: str) -> None:
    change(copy, edit)
    with pytest.raises(InputError, match=f"SS215 .*{told}"):
        described(copy)
    with pytest.raises(InputError, match=f"SS215 .*{told}"):
        open_source(ModelConfig(id=str(copy))).load(torch.float32, "cpu")


def test_an_export_that_misses_a_tensor_is_not_loaded(family_dir: Make, tmp_path: Path, quick_exports: None) -> None:
    results = run_search(tmp_path / "run", family_dir("llama"))
    run = ss.Run(results)
    for form in ("zeros", "uneven"):
        run.export(run.pick("smallest"), tmp_path / form, form)
        change(tmp_path / form, lambda tensors: tensors.pop(NAME))
        with pytest.raises(InputError, match=f"SS215 .*misses {NAME}"):
            ss.load(tmp_path / form)


def test_a_teacher_that_misses_a_tensor_is_refused(family_dir: Make, copy: Path) -> None:
    change(copy, lambda tensors: tensors.pop(NAME))
    with pytest.raises(InputError, match=f"SS215 .*misses {NAME}"):
        launched(family_dir("llama"), model={"id": str(family_dir("llama")), "teacher": str(copy)})


def test_what_checkpoints_carry_along_is_no_fault(family_dir: Make, tmp_path: Path) -> None:
    """Tied heads written twice, buffers, sharded files, other files beside, and poolers of encoders."""
    tied = shutil.copytree(family_dir("llama"), tmp_path / "tied")
    tensors = load_file(tied / WEIGHTS)
    embedding = tensors["model.embed_tokens.weight"].clone()
    if "lm_head.weight" not in tensors:
        change(tied, lambda tensors: tensors.update({"lm_head.weight": embedding}))
    change(tied, lambda tensors: tensors.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}))
    save_file({"x": torch.zeros(1)}, tied / "consolidated.safetensors")
    assert described(tied).shapes
    model = transformers.AutoModelForCausalLM.from_pretrained(family_dir("llama"))
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert (tmp_path / "sharded" / INDEX).exists()
    assert described(tmp_path / "sharded").shapes == described(family_dir("llama")).shapes
    bert = shutil.copytree(family_dir("bert"), tmp_path / "bert")
    change(bert, lambda tensors: tensors.update({"bert.pooler.dense.weight": torch.zeros(2, 2)}))
    assert described(bert).shapes


def test_of_two_tensors_that_are_said_to_be_one_neither_is_dropped(copy: Path) -> None:
    """transformers keeps both, and counts, costs and exports would be of another network."""
    rows = load_file(copy / WEIGHTS)["model.embed_tokens.weight"]
    change(copy, lambda tensors: tensors.update({"lm_head.weight": rows.clone()}))
    assert described(copy).shapes
    change(copy, lambda tensors: tensors["lm_head.weight"][-1, -1].add_(1))
    with pytest.raises(InputError, match=r"SS215 .* different weights for .*lm_head.weight.*tie_word_embeddings"):
        described(copy)


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("gpt2", "transformer.h.0.attn.masked_bias"),
        ("deepseek_v3", "model.layers.2.eh_proj.weight"),
    ],
)
def test_what_transformers_leaves_out_is_left_out(family_dir: Make, tmp_path: Path, name: str, extra: str) -> None:
    """Masks of old versions, and layers that predict further tokens, as many as the configuration says."""
    model = shutil.copytree(family_dir(name), tmp_path / "model")
    change(model, lambda tensors: tensors.update({extra: torch.zeros(1)}))
    config = json.loads((model / "config.json").read_text()) | {"num_nextn_predict_layers": 1}
    (model / "config.json").write_text(json.dumps(config))
    assert described(model).shapes == described(family_dir(name)).shapes
    if name == "deepseek_v3":
        (model / "config.json").write_text(json.dumps(config | {"num_nextn_predict_layers": 0}))
        with pytest.raises(InputError, match=f"SS215 .*unexpected {extra}"):
            described(model)


@pytest.mark.parametrize("name", ["llama", "bert", "vit"])
def test_outputs_that_a_configuration_asks_for_do_not_matter(
    family_dir: Make, tmp_path: Path, name: str, quick_exports: None
) -> None:
    model = shutil.copytree(family_dir(name), tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    flags = {"return_dict": False, "output_attentions": True, "output_hidden_states": True}
    (model / "config.json").write_text(json.dumps(config | flags))
    run = ss.Run(run_search(tmp_path / "run", model))
    assert run.export(run.pick(), tmp_path / "out")["verified"]


def test_images_of_one_channel_are_refused(family_dir: Make, tmp_path: Path) -> None:
    model = shutil.copytree(family_dir("vit"), tmp_path / "model")
    config = json.loads((model / "config.json").read_text()) | {"num_channels": 1}
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"SS202 .* images of 1 channels; only images of three"):
        described(model)


def test_of_t5_other_heads_are_refused(tmp_path: Path) -> None:
    config = transformers.T5Config(d_model=8, d_ff=8, d_kv=4, num_layers=1, num_heads=2, vocab_size=32)
    transformers.T5ForSequenceClassification(config).save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="SS202 no family map for T5ForSequenceClassification"):
        described(tmp_path / "model")


@pytest.mark.parametrize("form", ["zeros", "uneven"])
def test_exports_keep_how_a_model_is_used(family_dir: Make, tmp_path: Path, form: str, quick_exports: None) -> None:
    """Its end of a turn and sampling, also such as transformers would not save; the pooling of sentences."""
    model = shutil.copytree(family_dir("llama"), tmp_path / "model")
    files = {
        "generation_config.json": {"eos_token_id": [0, 7, 9], "temperature": 0.6, "do_sample": False},
        "modules.json": [{"path": ""}, {"path": "1_Pooling"}, {"path": "../../etc"}, {"path": 3}],
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
    }
    for name, content in files.items():
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text(json.dumps(content))
    run = ss.Run(run_search(tmp_path / "run", model))
    run.export(run.pick(), tmp_path / "out", form)
    for name, content in files.items():
        assert json.loads((tmp_path / "out" / name).read_text()) == content
    assert ss.load(tmp_path / "out").generation_config.eos_token_id == [0, 7, 9]


@pytest.mark.parametrize(
    ("said", "real", "stored"),
    [
        (None, torch.bfloat16, torch.bfloat16),
        ("bfloat16", torch.float32, torch.float32),
        ("float8_e4m3fn", torch.float32, torch.float32),
    ],
)
def test_the_type_is_the_files(copy: Path, said: str | None, real: torch.dtype, stored: torch.dtype) -> None:
    change(copy, lambda tensors: tensors.update({n: t.to(real) for n, t in tensors.items()}))
    data = json.loads((copy / "config.json").read_text()) | {"dtype": said}
    (copy / "config.json").write_text(json.dumps({k: v for k, v in data.items() if v is not None}))
    assert open_source(ModelConfig(id=str(copy))).storage == stored


def test_tensors_of_another_type_keep_it(copy: Path) -> None:
    norm = "model.norm.weight"
    change(copy, lambda t: t.update({n: v if n == norm else v.bfloat16() for n, v in t.items()}))
    types = TensorTypes(copy)
    assert (types.main, types.of(norm), types.of("a.new.bias")) == (torch.bfloat16, torch.float32, torch.bfloat16)


def test_a_routers_bias_in_float32_survives_an_export(tmp_path: Path, quick_exports: None) -> None:
    """DeepSeek V3 keeps it so among half-precision weights."""
    saved = saved_model("deepseek_v3", tmp_path / "model")
    names = [n for n in load_file(saved / WEIGHTS) if "e_score_correction_bias" in n]
    assert names

    def halved(tensors: Tensors) -> None:
        tensors.update({n: t.bfloat16() for n, t in tensors.items() if n not in names})
        tensors.update({n: torch.randn(tensors[n].shape) * 5e-4 + 1 for n in names})

    change(saved, halved)
    run = ss.Run(run_search(tmp_path / "run", saved, units=[{"kind": "expert_width", "levels": 2}]))
    manifest = run.export(run.pick("smallest"), tmp_path / "out")
    assert manifest["max_abs_logit_diff"] < 1e-3
    written = load_file(tmp_path / "out" / WEIGHTS)
    assert {written[n].dtype for n in names} == {torch.float32}
    assert {t.dtype for n, t in written.items() if n not in names} == {torch.bfloat16}


def _pickled(directory: Path) -> None:
    (directory / WEIGHTS).write_bytes(pickle.dumps({"a": 1}))


def _index(names: dict[str, Any]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        (directory / WEIGHTS).rename(directory / "model-00001-of-00002.safetensors")
        (directory / INDEX).write_text(json.dumps({"weight_map": names}))

    return damage


def _header(length: int) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        data = (directory / WEIGHTS).read_bytes()
        (directory / WEIGHTS).write_bytes(struct.pack("<Q", length) + data[8:])

    return damage


def _pipe(name: str) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        (directory / name).unlink()
        os.mkfifo(directory / name)

    return damage


def _directory(directory: Path) -> None:
    (directory / WEIGHTS).unlink()
    (directory / WEIGHTS).mkdir()


def _written(name: str, text: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).write_text(text)  # type: ignore[return-value]


def _renamed(directory: Path) -> None:
    (directory / WEIGHTS).rename(directory / "other.safetensors")


def _cut(size: int) -> Callable[[Path], None]:
    return lambda directory: (directory / WEIGHTS).write_bytes((directory / WEIGHTS).read_bytes()[:size])  # type: ignore[return-value]


FILES: dict[str, Callable[[Path], None]] = {
    "a pickle": _pickled,
    "no bytes": _cut(0),
    "half of it": _cut(1000),
    "header of 2^63 bytes": _header(2**63),
    "header of 2^32 bytes": _header(2**32),
    "a directory": _directory,
    "another name": _renamed,
    "weights that are a pipe": _pipe(WEIGHTS),
    "a tokenizer that is a pipe": _pipe("tokenizer.json"),
    "an index outside": _index({"a": "../../etc/passwd"}),
    "an index of a missing shard": _index({"a": "model-00002-of-00002.safetensors"}),
    "an index of numbers": _index({"a": 1}),
    "an index that is a list": _written(INDEX, "[]"),
    "an adapter": _written("adapter_config.json", json.dumps({"peft_type": "LORA"})),
    "config.json of random bytes": lambda directory: (directory / "config.json").write_bytes(bytes(range(256))),  # type: ignore[dict-item,return-value]
    "config.json a number": _written("config.json", "7"),
    "config.json a list": _written("config.json", "[]"),
    "config.json nested": _written("config.json", '{"a":' * 9000 + "1" + "}" * 9000),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_none_are_one_line(copy: Path, name: str) -> None:
    FILES[name](copy)
    if name == "an index that is a list":
        (copy / WEIGHTS).rename(copy / "model-00001-of-00001.safetensors")
    with pytest.raises(InputError) as caught:
        described(copy)
    assert "\n" not in str(caught.value)
    assert str(copy) in str(caught.value)


VALUES: list[tuple[str, Any]] = [
    ("hidden_size", -64),
    ("hidden_size", "x"),
    ("hidden_size", 1.5),
    ("hidden_size", 0),
    ("num_hidden_layers", 7),
    ("num_hidden_layers", 10**9),
    ("num_hidden_layers", 2),
    ("num_attention_heads", 0),
    ("num_attention_heads", 7),
    ("num_key_value_heads", 0),
    ("num_key_value_heads", 3),
    ("vocab_size", 0),
    ("vocab_size", 10),
    ("vocab_size", 10**10),
    ("vocab_size", 10**400),
    ("intermediate_size", 17),
    ("max_position_embeddings", 0),
    ("hidden_act", "evil"),
    ("hidden_act", "__import__"),
    ("dtype", "evil"),
    ("rope_parameters", {"rope_type": "evil"}),
    ("head_dim", 0),
    ("tie_word_embeddings", "maybe"),
    ("model_type", 7),
    ("model_type", None),
    ("architectures", "LlamaForCausalLM!"),
    ("architectures", [7]),
    ("quantization_config", 3),
]


@pytest.mark.parametrize(("key", "value"), VALUES)
def test_configurations_that_describe_no_network_are_one_line(copy: Path, key: str, value: Any) -> None:
    path = copy / "config.json"
    text = json.dumps(json.loads(path.read_text()) | {key: None if value == 10**400 else value})
    path.write_text(text.replace(f'"{key}": null', f'"{key}": 1{"0" * 5000}') if value == 10**400 else text)
    with pytest.raises(InputError) as caught:
        described(copy)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("SS2")


TOKENIZERS = ["{}", "[]", '{"model": {"type": "evil"}}', "null", '{"version": "1.0", "model": null}', "\x00"]


@pytest.mark.parametrize("text", TOKENIZERS)
def test_tokenizers_that_are_none_are_one_line(copy: Path, text: str) -> None:
    (copy / "tokenizer.json").write_text(text)
    with pytest.raises(InputError) as caught:
        launched(copy)
    assert "\n" not in str(caught.value)
    assert "tokenizer" in str(caught.value)


@settings(max_examples=60)
@given(data=st.data())
def test_any_value_anywhere_in_a_configuration(family_dir: Make, tmp_path_factory: Any, data: st.DataObject) -> None:
    """An exact network, or one line."""
    copy = tmp_path_factory.mktemp("any") / "model"
    shutil.copytree(family_dir("llama"), copy)
    tree = json.loads((copy / "config.json").read_text())
    key = data.draw(st.sampled_from(sorted(tree)))
    values = st.none() | st.booleans() | st.integers(-5, 2**40) | st.floats() | st.text(max_size=8)
    values |= st.lists(st.integers()) | st.dictionaries(st.text(max_size=4), st.integers(), max_size=2)
    tree[key] = data.draw(values)
    (copy / "config.json").write_text(json.dumps(tree))
    try:
        network = described(copy)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert (2048, 32) in network.shapes.values()
    shutil.rmtree(copy)


@settings(max_examples=100)
@given(data=st.data())
def test_any_bytes_anywhere_in_a_header(family_dir: Make, tmp_path_factory: Any, data: st.DataObject) -> None:
    copy = tmp_path_factory.mktemp("bytes") / "model"
    shutil.copytree(family_dir("llama"), copy)
    content = bytearray((copy / WEIGHTS).read_bytes())
    size = 8 + struct.unpack("<Q", content[:8])[0]
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, size - 1))] = data.draw(st.integers(0, 255))
    (copy / WEIGHTS).write_bytes(content)
    try:
        described(copy)
    except InputError as error:
        assert "\n" not in str(error)
    shutil.rmtree(copy)


HEADLESS = ["llama", "mistral", "qwen2", "gpt2", "opt", "gpt_neox", "phi3", "mixtral"]


@pytest.mark.parametrize("name", HEADLESS)
def test_decoders_without_a_head_are_searched(name: str, family_dir: Make, tmp_path: Path, quick_exports: None) -> None:
    copy = shutil.copytree(family_dir(name), tmp_path / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(copy)
    model.base_model.save_pretrained(copy)
    kind = "ffn_width" if name != "mixtral" else "expert_width"
    units = [{"kind": kind, "levels": 2}]
    run = ss.Run(run_search(tmp_path / "run", copy, objectives=["cosine", "params"], units=units))
    assert run.pick("smallest").quality > 1e-6
    run.export(run.pick("smallest"), tmp_path / "out")


@pytest.mark.parametrize(("name", "padding"), [("llama", None), ("llama", 3), ("qwen2", None), ("gpt2", None)])
def test_decoders_that_classify_are_searched(
    name: str, padding: int | None, family_dir: Make, tmp_path: Path, quick_exports: None
) -> None:
    copy = shutil.copytree(family_dir(name), tmp_path / "model")
    config = transformers.AutoConfig.from_pretrained(copy, num_labels=3, pad_token_id=padding)
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(copy)
    units = [{"kind": "ffn_width", "levels": 2}]
    run = ss.Run(run_search(tmp_path / "run", copy, objectives=["kl", "params"], units=units))
    assert run.pick("smallest").quality > 0
    run.export(run.pick("smallest"), tmp_path / "out")


def test_roberta_has_two_positions_fewer(tmp_path: Path) -> None:
    copy = saved_model("roberta", tmp_path)
    length = described(copy).max_length
    assert length == transformers.AutoConfig.from_pretrained(copy).max_position_embeddings - 2
    data = recipe(copy)["data"]
    data["selection"] |= {"length": length + 1}
    with pytest.raises(InputError, match=f"SS204 .*exceeds the model's {length} positions"):
        launched(copy, data=data)


def test_half_of_t5_is_one_line(tmp_path: Path) -> None:
    copy = saved_model("t5", tmp_path)
    config = transformers.AutoConfig.from_pretrained(copy)
    transformers.T5EncoderModel(config).save_pretrained(copy)
    with pytest.raises(InputError, match=r"SS2\d\d "):
        described(copy)
