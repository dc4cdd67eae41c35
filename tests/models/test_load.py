"""Loading models: what is refused, and what it is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import launched

from sparsesearch.errors import InputError
from sparsesearch.models.load import DEMO

Make = Callable[[str], Path]


def altered(source: Path, target: Path, **config: object) -> Path:
    shutil.copytree(source, target)
    path = target / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return target


def refused(model: Path | str) -> InputError:
    with pytest.raises(InputError) as caught:
        launched(model)
    assert "\n" not in str(caught.value)
    return caught.value


def test_missing_directory() -> None:
    error = refused("/no/such/model")
    assert error.code == "SS201"
    assert "no such directory" in error.message


def test_unknown_hub_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    error = refused("Qwen/Qwen3-0.6")
    assert error.code == "SS201"
    assert "hf auth login" in error.hint


def test_unsupported_family(family_dir: Make, tmp_path: Path) -> None:
    error = refused(altered(family_dir("llama"), tmp_path / "m", model_type="bloom", n_layer=2, n_head=4))
    assert error.code == "SS202"
    assert (
        "no family map for model_type 'bloom': its 12 linear and convolution layers could only be pruned"
        in error.message
    )
    assert "Supported: llama, mistral, qwen2, qwen3" in error.message
    assert "sparsesearch/models/README.md" in error.hint


def test_quantised_weights(family_dir: Make, tmp_path: Path) -> None:
    quantization = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    error = refused(altered(family_dir("llama"), tmp_path / "m", quantization_config=quantization))
    assert error.code == "SS203"
    assert "quantised (bitsandbytes)" in error.message


def test_remote_code_is_refused(family_dir: Make, tmp_path: Path) -> None:
    auto_map = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    model = altered(family_dir("llama"), tmp_path / "m", model_type="own", auto_map=auto_map)
    (model / "code.py").write_text("raise RuntimeError('remote code ran')")
    error = refused(model)
    assert error.code == "SS207"


def test_pickled_weights_are_refused(family_dir: Make, tmp_path: Path) -> None:
    model = altered(family_dir("llama"), tmp_path / "m")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert refused(model).code == "SS206"


def test_the_demo_model_is_small_and_really_trained() -> None:
    import torch

    from sparsesearch.config import DataConfig
    from sparsesearch.data import token_windows
    from sparsesearch.evaluation import perplexity
    from sparsesearch.models import load_model, load_tokenizer

    assert sum(path.stat().st_size for path in DEMO.iterdir()) < 10_000_000
    tokens = token_windows(DataConfig(source="stdlib:test", sequences=8), load_tokenizer(DEMO), "test")
    assert perplexity(load_model(DEMO, torch.float32), tokens, 8) < 40
