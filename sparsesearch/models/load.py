"""Loading Hugging Face models: `demo`, a local directory, or a hub id; safetensors only."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import CONFIG_MAPPING, AutoConfig, AutoTokenizer, PretrainedConfig

from sparsesearch import demo
from sparsesearch.config import ModelConfig
from sparsesearch.errors import InputError
from sparsesearch.models.family import check_family
from sparsesearch.models.task import task_of

DEMO = Path(demo.__file__).parent / "model"


def resolve(model: ModelConfig) -> Path:
    """The local directory of a model, downloading a hub id on first use; raises InputError SS201 or SS206."""
    directory = DEMO if model.id == "demo" else Path(model.id).expanduser()
    if not directory.is_dir():
        directory = _download(model)
    if not (directory / "config.json").is_file():
        raise InputError("SS201", f"{directory} holds no config.json.", "Give a Hugging Face model directory or id.")
    if not any(directory.glob("*.safetensors")):
        raise InputError(
            "SS206", f"{directory} holds no .safetensors weights; pickled checkpoints are never loaded.",
            "Convert them with transformers' save_pretrained on a machine where you trust them.",
        )  # fmt: skip
    return directory.resolve()


def _download(model: ModelConfig) -> Path:
    if model.id.startswith(("/", ".", "~")):
        raise InputError("SS201", f"cannot load {model.id!r}: no such directory.", "Pass --model /path/to/model.")
    try:
        path = huggingface_hub.snapshot_download(
            model.id, revision=model.revision, allow_patterns=["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            "SS201",
            f"cannot load {model.id!r}: not a local directory, and the hub says: {first_line.rstrip('.')}.",
            "Log in with 'hf auth login', or give the path of a model directory.",
        ) from None
    return Path(path)


def dense_config(directory: Path, trust_remote_code: bool = False) -> PretrainedConfig:
    """The model's configuration; raises InputError SS202, SS203 or SS207 before any weight is read."""
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
    except ValueError as error:
        if "trust_remote_code" in str(error):
            raise InputError(
                "SS207", f"{directory} needs code of its own, which is not run.", "Set model.trust_remote_code: true."
            ) from None
        raise InputError("SS202", f"{directory}: {str(error).splitlines()[0]}") from None
    except OSError as error:
        raise InputError("SS201", f"{directory}: {str(error).splitlines()[0]}") from None
    check_family(config)
    task_of(config)
    return config


def meta_model(config: PretrainedConfig, trust_remote_code: bool = False) -> Any:
    """The network without weights, on the meta device."""
    with torch.device("meta"):
        return _auto_class(config).from_config(config, trust_remote_code=trust_remote_code).eval()


def _auto_class(config: PretrainedConfig) -> Any:
    return getattr(transformers, task_of(config).auto_class)


def load_model(
    directory: Path, dtype: torch.dtype, device: torch.device | str = "cpu", trust_remote_code: bool = False
) -> Any:
    """The network in evaluation mode, without gradients."""
    config = AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
    model = _auto_class(config).from_pretrained(
        directory, dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code
    )
    return model.to(device).eval().requires_grad_(False)


def load_tokenizer(directory: Path, trust_remote_code: bool = False) -> Any:
    """The model's tokenizer; raises InputError SS201 where there is none."""
    # Of an export that transformers does not know it would want to run the modeling code.
    foreign = {} if trust_remote_code or _known_to_transformers(directory) else {"config": PretrainedConfig()}
    try:
        return AutoTokenizer.from_pretrained(directory, trust_remote_code=trust_remote_code, **foreign)
    except (OSError, ValueError) as error:
        raise InputError("SS201", f"{directory}: no tokenizer: {str(error).splitlines()[0]}") from None


def _known_to_transformers(directory: Path) -> bool:
    path = directory / "config.json"
    return not path.is_file() or json.loads(path.read_text()).get("model_type") in CONFIG_MAPPING


def checkpoint_dtype(config: PretrainedConfig) -> torch.dtype:
    """The data type of the checkpoint: what levels are stored and models exported in."""
    dtype = config.dtype
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def weights_hash(directory: Path, trust_remote_code: bool = False) -> str:
    """SHA-256 over the contents of the weight files and of config.json, in name order, and of code that is run."""
    digest = hashlib.sha256()
    code = directory.glob("*.py") if trust_remote_code else ()
    for path in sorted([*directory.glob("*.safetensors"), directory / "config.json", *code]):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())  # type: ignore[attr-defined,unused-ignore]
    return digest.hexdigest()
