"""Loading Hugging Face models: `demo`, a local directory, or a hub id; safetensors only."""

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
from transformers.utils import logging as reports

from sparsesearch import demo
from sparsesearch.config import ModelConfig
from sparsesearch.errors import first_line, machine_problem, problem
from sparsesearch.models.checkpoint import check_config, one_line, read_document, same_tensors, tensor_headers
from sparsesearch.models.family import check_family
from sparsesearch.models.task import task_of

DEMO = Path(demo.__file__).parent / "model"
# Tensors of heads that checkpoints of encoders carry along and their networks do without.
SPARE = re.compile(
    r"(^|\.)pooler\.|^cls\.seq_relationship\.|^cls\.predictions\.decoder\.|^mask_predictions\.|^lm_predictions\."
    r"|\.masked_bias$"
)
# What a configuration may switch on that changes what a forward pass returns.
_OUTPUTS = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}


def resolve(model: ModelConfig) -> Path:
    """The local directory of a model, downloading a hub id on first use; raises InputError SS201 or SS206."""
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
        raise problem("SS201", f"cannot load {model.id!r}: no such directory.", fix="Give --model where it is.")
    try:
        path = huggingface_hub.snapshot_download(
            model.id, revision=model.revision, allow_patterns=["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise problem(
            "SS201",
            f"cannot load {model.id!r}: not a local directory, and the hub says: {first_line(error)}.",
            fix="Log in with 'hf auth login', or give the path of a model directory.",
        ) from None
    return Path(path)


def dense_config(directory: Path, trust_remote_code: bool = False) -> PretrainedConfig:
    """The model's configuration, whose forward passes return logits or hidden states by name and nothing else.

    Raises InputError SS201, SS202, SS203, SS207 or SS217 before any weight is read.
    """
    check_config(directory)
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
    except ValueError as error:
        if "trust_remote_code" in str(error):
            raise problem(
                "SS207",
                f"{directory} needs code of its own, which is not run.",
                fix="Set model.trust_remote_code: true.",
            ) from None
        raise problem("SS202", f"{directory}: {first_line(error)}.") from None
    except Exception as error:  # whatever transformers makes of a configuration
        raise one_line(error, directory) from None
    try:
        check_family(config)
        task_of(config)
        _check_sizes(config, directory)
        for name, value in _OUTPUTS.items():
            setattr(config, name, value)
    except Exception as error:  # fields of other types than they have
        raise one_line(error, directory) from None
    return config


def _check_sizes(config: Any, directory: Path) -> None:
    """Raise InputError SS202 for sizes that no network has."""
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings", "vocab_size"):
        value = getattr(config, name, None)
        if isinstance(value, (int, float)) and value < 1:
            raise problem(
                "SS202", f"{directory / 'config.json'}: {name} is {value!r}, not 1 or more.", fix="Repair it."
            )
    if getattr(config, "num_channels", 3) != 3:
        raise problem(
            "SS202",
            f"{directory} takes images of {config.num_channels} channels; they are read in three.",
            fix="Search it as a module from Python, with arrays as data.",
        )
    tensors = len(tensor_headers(directory))
    if (layers := getattr(config, "num_hidden_layers", 0)) > tensors:
        raise problem(
            "SS215",
            f"{directory}: config.json says {layers:,} layers, and the weights are {tensors:,} tensors.",
            fix="Fetch the checkpoint again.",
        )


def meta_model(config: PretrainedConfig, trust_remote_code: bool = False) -> Any:
    """The network without weights, on the meta device; raises InputError SS201 for sizes that do not fit together."""
    try:
        with torch.device("meta"):
            return _auto_class(config).from_config(config, trust_remote_code=trust_remote_code).eval()
    except Exception as error:  # whatever modeling code makes of a configuration
        raise one_line(error, Path(config.name_or_path)) from None


def _auto_class(config: PretrainedConfig) -> Any:
    return getattr(transformers, task_of(config).auto_class)


def load_model(
    directory: Path, dtype: torch.dtype, device: torch.device | str = "cpu", trust_remote_code: bool = False
) -> Any:
    """The network in evaluation mode, without gradients; raises InputError SS215 for weights that are not its own."""
    config = dense_config(directory, trust_remote_code)
    options = {"config": config, "dtype": dtype, "trust_remote_code": trust_remote_code}
    model = load_whole(_auto_class(config), directory, **options)
    return model.to(device).eval().requires_grad_(False)


def check_weights(directory: Path, config: PretrainedConfig, trust_remote_code: bool = False) -> None:
    """Raise InputError SS215 if a checkpoint's tensors are not those of its network.

    Reads headers, and tensors that the configuration says are one and the file holds twice.
    """
    options = {"config": config, "dtype": "auto", "trust_remote_code": trust_remote_code}
    load_whole(_auto_class(config), directory, device_map="meta", **options)
    names: dict[int, list[str]] = {}
    for name, parameter in meta_model(config, trust_remote_code).named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for tied in names.values():
        held = [name for name in tied if len(tied) > 1 and name in tensor_headers(directory)]
        if differing := next((name for name in held[1:] if not same_tensors(directory, held[0], name)), None):
            raise problem(
                "SS215",
                f"the checkpoint {directory} has different weights for {held[0]} and {differing}, which "
                "config.json says are one.",
                fix="Set tie_word_embeddings: false there if they are two.",
            )


def load_whole(model_class: Any, directory: Path, **options: Any) -> Any:
    """A model of transformers with every weight from the checkpoint and none left over.

    Args:
        options: of `from_pretrained`.

    Raises InputError SS215 for tensors that are missing, unexpected or of another shape, SS201 for files that cannot be
    read.
    """
    tensor_headers(directory)
    bars = reports.is_progress_bar_enabled()
    reports.disable_progress_bar()
    try:
        model, told = model_class.from_pretrained(
            directory, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    except Exception as error:  # whatever reading a checkpoint raises
        raise machine_problem(error, f"cannot load {directory}") or one_line(error, directory) from None
    finally:
        if bars:
            reports.enable_progress_bar()
    buffers = {name for name, _ in model.named_buffers()}
    left = [name for name in told["unexpected_keys"] if name not in buffers and not _is_spare(name, model.config)]
    wrong = [f"{name} {tuple(got)} where the network has {tuple(own)}" for name, got, own in told["mismatched_keys"]]
    for what, names in (("misses", told["missing_keys"]), ("has other shapes:", wrong), ("has unexpected", left)):
        if names:
            listed = sorted(names)
            more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
            raise problem(
                "SS215",
                f"the checkpoint {directory} {what} {', '.join(listed[:3])}{more}.",
                fix="Its weights are not those that config.json describes: repair that, or fetch both again.",
            )
    return model


def _is_spare(name: str, config: Any) -> bool:
    """Whether a network does without a tensor of its checkpoint: another head, a mask, a layer for further tokens."""
    layers, more = getattr(config, "num_hidden_layers", 0), getattr(config, "num_nextn_predict_layers", 0) or 0
    block = re.search(r"(?:^|\.)layers\.(\d+)\.", name)
    return SPARE.search(name) is not None or (block is not None and layers <= int(block[1]) < layers + more)


def load_tokenizer(directory: Path, trust_remote_code: bool = False) -> Any:
    """The model's tokenizer; raises InputError SS201 where there is none."""
    # Of an export that transformers does not know it would want to run the modeling code.
    foreign = {} if trust_remote_code or _known_to_transformers(directory) else {"config": PretrainedConfig()}
    try:
        return AutoTokenizer.from_pretrained(directory, trust_remote_code=trust_remote_code, **foreign)
    except Exception as error:  # whatever tokenizers make of a file
        fault = f"{type(error).__name__}: {first_line(error)}"
        raise problem("SS201", f"{directory}: no tokenizer can be read: {fault}.", fix="Repair its files.") from None


def _known_to_transformers(directory: Path) -> bool:
    path = directory / "config.json"
    return not path.is_file() or read_document(path).get("model_type") in CONFIG_MAPPING


def weights_hash(directory: Path, trust_remote_code: bool = False) -> str:
    """SHA-256 over the contents of the weight files and of config.json, in name order, and of code that is run."""
    digest = hashlib.sha256()
    code = directory.glob("*.py") if trust_remote_code else ()
    for path in sorted([*directory.glob("*.safetensors"), directory / "config.json", *code]):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())  # type: ignore[attr-defined,unused-ignore]
    return digest.hexdigest()
