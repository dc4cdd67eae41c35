"""Loads Hugging Face models: `demo`, a local directory, or a hub id; safetensors only."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import CONFIG_MAPPING, AutoConfig, AutoTokenizer, PretrainedConfig
from transformers.utils import logging as transformers_logging

from sparsesearch import demo
from sparsesearch.config import ModelConfig
from sparsesearch.errors import first_line, machine_problem, problem
from sparsesearch.models.checkpoint import (
    check_config,
    read_document,
    same_tensors,
    tensor_headers,
    unreadable_checkpoint,
)
from sparsesearch.models.family import check_family
from sparsesearch.models.task import task_of

DEMO = Path(demo.__file__).parent / "model"
# Tensors that checkpoints contain and their networks do not use: heads of encoders, and causal masks.
UNUSED_TENSORS = re.compile(
    r"(^|\.)pooler\.|^cls\.seq_relationship\.|^cls\.predictions\.decoder\.|^mask_predictions\.|^lm_predictions\."
    r"|\.masked_bias$"
)
# Options of a configuration that change what a forward pass returns.
_OUTPUT_OPTIONS = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}


def resolve(model: ModelConfig) -> Path:
    """Return the local directory of a model, downloading a hub id on first use; raises InputError SS201 or SS206."""
    directory = DEMO if model.id == "demo" else Path(model.id).expanduser()
    if not directory.is_dir():
        directory = _download(model)
    if not (directory / "config.json").is_file():
        raise problem("SS201", f"{directory} holds no config.json.", fix="Give a Hugging Face model directory or id.")
    if not any(directory.glob("*.safetensors")):
        raise problem(
            "SS206",
            f"{directory} holds no .safetensors weights; pickled checkpoints are never loaded.",
            fix="Convert them with transformers' save_pretrained on a machine where you trust them.",
        )
    return directory.resolve()


def _download(model: ModelConfig) -> Path:
    if model.id.startswith(("/", ".", "~")):
        raise problem(
            "SS201", f"cannot load {model.id!r}: no such directory.", fix="Give its path as model.id (--model)."
        )
    try:
        path = huggingface_hub.snapshot_download(
            model.id, revision=model.revision, allow_patterns=["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise problem(
            "SS201",
            f"cannot load {model.id!r}: not a local directory, and the hub answers: {first_line(error)}.",
            fix="Log in with 'hf auth login', or give the path of a model directory.",
        ) from None
    return Path(path)


def dense_config(directory: Path, trust_remote_code: bool = False) -> PretrainedConfig:
    """Return the model's configuration, set so that forward passes return logits or hidden states alone, by name.

    Raises InputError SS201, SS202, SS203, SS207, SS215 or SS217 before any weight is read.
    """
    check_config(directory)
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
    except ValueError as error:
        if "trust_remote_code" in str(error):
            raise problem(
                "SS207",
                f"{directory} needs its own modeling code, which is not run by default.",
                fix="Set model.trust_remote_code: true.",
            ) from None
        raise problem("SS202", f"{directory}: {first_line(error)}.") from None
    except Exception as error:  # transformers raises many types here
        raise unreadable_checkpoint(error, directory) from None
    try:
        check_family(config)
        task_of(config)
        _check_sizes(config, directory)
        for name, value in _OUTPUT_OPTIONS.items():
            setattr(config, name, value)
    except Exception as error:  # fields may have wrong types
        raise unreadable_checkpoint(error, directory) from None
    return config


def _check_sizes(config: Any, directory: Path) -> None:
    """Raise InputError SS202 for sizes that no network has or images that cannot be read, SS215 for too many layers."""
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings", "vocab_size"):
        value = getattr(config, name, None)
        if isinstance(value, (int, float)) and value < 1:
            raise problem(
                "SS202", f"{directory / 'config.json'}: {name} is {value!r}, must be 1 or more.", fix="Repair it."
            )
    if getattr(config, "num_channels", 3) != 3:
        raise problem(
            "SS202",
            f"{directory} takes images of {config.num_channels} channels; only images of three can be read.",
            fix="Search it as a module from Python, with arrays as data.",
        )
    tensors = len(tensor_headers(directory))
    if (layers := getattr(config, "num_hidden_layers", 0)) > tensors:
        raise problem(
            "SS215",
            f"{directory}: config.json has {layers:,} layers, but the weights are only {tensors:,} tensors.",
            fix="Download the checkpoint again.",
        )


def meta_model(config: PretrainedConfig, trust_remote_code: bool = False) -> Any:
    """Return the network without weights, on the meta device; raises InputError SS201 for inconsistent sizes."""
    try:
        with torch.device("meta"):
            return _auto_class(config).from_config(config, trust_remote_code=trust_remote_code).eval()
    except Exception as error:  # modeling code raises many types here
        raise unreadable_checkpoint(error, Path(config.name_or_path)) from None


def _auto_class(config: PretrainedConfig) -> Any:
    return getattr(transformers, task_of(config).auto_class)


def load_model(
    directory: Path, dtype: torch.dtype, device: torch.device | str = "cpu", trust_remote_code: bool = False
) -> Any:
    """Return the network in evaluation mode, without gradients; raises InputError SS215 if its weights do not fit."""
    config = dense_config(directory, trust_remote_code)
    options = {"config": config, "dtype": dtype, "trust_remote_code": trust_remote_code}
    model = load_strictly(_auto_class(config), directory, **options)
    return model.to(device).eval().requires_grad_(False)


def check_weights(directory: Path, config: PretrainedConfig, trust_remote_code: bool = False) -> None:
    """Raise InputError SS215 if a checkpoint's tensors do not fit its network.

    Reads headers, and the values of tied tensors that the file contains twice.
    """
    options = {"config": config, "dtype": "auto", "trust_remote_code": trust_remote_code}
    load_strictly(_auto_class(config), directory, device_map="meta", **options)
    names: dict[int, list[str]] = {}
    for name, parameter in meta_model(config, trust_remote_code).named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for tied in names.values():
        stored = [name for name in tied if len(tied) > 1 and name in tensor_headers(directory)]
        if differing := next((name for name in stored[1:] if not same_tensors(directory, stored[0], name)), None):
            raise problem(
                "SS215",
                f"the checkpoint {directory} has different weights for {stored[0]} and {differing}, which "
                "config.json ties.",
                fix="Set tie_word_embeddings: false in config.json if they should differ.",
            )


def load_strictly(model_class: Any, directory: Path, **options: Any) -> Any:
    """Load a model of transformers that uses every weight of the checkpoint and misses none.

    Args:
        options: options of `from_pretrained`.

    Raises InputError SS215 for tensors that are missing, unexpected or of another shape, SS201 for files that cannot be
    read.
    """
    tensor_headers(directory)
    showed_progress = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        model, loading_info = model_class.from_pretrained(
            directory, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    except Exception as error:  # transformers raises many types here
        raise machine_problem(error, f"cannot load {directory}") or unreadable_checkpoint(error, directory) from None
    finally:
        if showed_progress:
            transformers_logging.enable_progress_bar()
    buffers = {name for name, _ in model.named_buffers()}
    unexpected = [
        name for name in loading_info["unexpected_keys"] if name not in buffers and not _is_unused(name, model.config)
    ]
    mismatched = [
        f"{name} {tuple(stored)} instead of {tuple(needed)}" for name, stored, needed in loading_info["mismatched_keys"]
    ]
    faults = {
        "misses": loading_info["missing_keys"],
        "has other shapes:": mismatched,
        "has unexpected": unexpected,
    }
    for fault, names in faults.items():
        if names:
            listed = sorted(names)
            more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
            raise problem(
                "SS215",
                f"the checkpoint {directory} {fault} {', '.join(listed[:3])}{more}.",
                fix="Its weights are not those that config.json describes: repair it, or download both again.",
            )
    return model


def _is_unused(name: str, config: Any) -> bool:
    """Return whether a network does not use a tensor of its checkpoint: another head, a mask, a multi-token layer."""
    layers, extra_layers = getattr(config, "num_hidden_layers", 0), getattr(config, "num_nextn_predict_layers", 0) or 0
    block = re.search(r"(?:^|\.)layers\.(\d+)\.", name)
    is_extra = block is not None and layers <= int(block[1]) < layers + extra_layers
    return UNUSED_TENSORS.search(name) is not None or is_extra


def load_tokenizer(directory: Path, trust_remote_code: bool = False) -> Any:
    """Load the model's tokenizer; raises InputError SS201 if it cannot be read."""
    # For an export with its own model_type transformers would ask to run the modeling code.
    options = {} if trust_remote_code or _has_stock_type(directory) else {"config": PretrainedConfig()}
    try:
        return AutoTokenizer.from_pretrained(directory, trust_remote_code=trust_remote_code, **options)
    except Exception as error:  # tokenizers raise many types here
        fault = f"{type(error).__name__}: {first_line(error)}"
        raise problem("SS201", f"{directory}: no tokenizer can be read: {fault}.", fix="Repair its files.") from None


def _has_stock_type(directory: Path) -> bool:
    path = directory / "config.json"
    return not path.is_file() or read_document(path).get("model_type") in CONFIG_MAPPING


def weights_hash(directory: Path, trust_remote_code: bool = False) -> str:
    """Return the SHA-256 over the weight files, config.json and, if it is trusted, the modeling code, in name order."""
    digest = hashlib.sha256()
    code = directory.glob("*.py") if trust_remote_code else ()
    for path in sorted([*directory.glob("*.safetensors"), directory / "config.json", *code]):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())  # type: ignore[attr-defined,unused-ignore]
    return digest.hexdigest()
