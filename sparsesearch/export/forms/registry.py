"""The forms a candidate can be written in, and which one `auto` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from sparsesearch.errors import SparseSearchError, problem
from sparsesearch.export.forms import nemotron_nas
from sparsesearch.export.forms.graphs import GRAPHS, check_packages
from sparsesearch.export.forms.stock import Maker, padded, uniform, zeros
from sparsesearch.models import surgery
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet
from sparsesearch.supernet.stitched import load_exactly

UNEVEN_MODULE = "modeling_sparsesearch"

Plan = Callable[[StitchedSupernet, Genome], Maker | str]


@dataclass(frozen=True)
class Form:
    """One way of writing a candidate.

    Attributes:
        about: one line for `sparsesearch list forms`.
        plan: what makes the model (float32), or why the candidate cannot take the form.
        ways: how it is loaded, as `verify.py` names them; each in a fresh process.
        code: the files of Python, by name, that go with it.
    """

    about: str
    plan: Plan
    ways: tuple[str, ...]
    code: Callable[[StitchedSupernet], dict[str, str]] | None = None


def _smaller(supernet: StitchedSupernet, genome: Genome) -> Maker | str:
    """The candidate as `materialise` makes it; a graph is traced from it."""
    return lambda: supernet.materialise(genome)


def _uneven(supernet: StitchedSupernet, genome: Genome) -> Maker | str:
    """Every layer as it is, in classes that hold the surgery in their configuration."""
    if not isinstance(supernet.model, PreTrainedModel):
        return lambda: supernet.materialise(genome)

    def make() -> Any:
        config_class, model_class = surgery.define(*stock_classes(supernet))
        data = supernet.model.config.to_dict() | {"sparsesearch": supernet.surgery(genome)}
        for key in ("model_type", "architectures", "transformers_version"):
            data.pop(key, None)
        config = config_class(**data)
        config.auto_map = {
            "AutoConfig": f"{UNEVEN_MODULE}.{config_class.__name__}",
            supernet.network.task.auto_class: f"{UNEVEN_MODULE}.{model_class.__name__}",
        }
        model = model_class._from_config(config, dtype=torch.float32)
        load_exactly(model, supernet.state_dict(genome))
        return model

    return make


def _uneven_code(supernet: StitchedSupernet) -> dict[str, str]:
    """`surgery.py`, and what it is for."""
    names = ", ".join(map(repr, stock_classes(supernet)))
    last = f"globals().update({{cls.__name__: cls for cls in define({names}, __name__)}})"
    return {f"{UNEVEN_MODULE}.py": f"{Path(surgery.__file__).read_text()}\n\n{last}\n"}


def stock_classes(supernet: StitchedSupernet) -> tuple[str, str]:
    """Names of the stock configuration and model classes in transformers."""
    return type(supernet.model.config).__name__, type(supernet.model).__name__


_STOCK = ("sparsesearch.load", "transformers")
_OWN_CODE = ("sparsesearch.load", "trust_remote_code")

REGISTRY: dict[str, Form] = {
    "zeros": Form(
        "the dense shapes with zeros in place; loads everywhere, gains neither speed nor file size", zeros, _STOCK
    ),
    "uniform": Form(
        "one width for all layers, whole layers removed and renumbered; stock code, real gains", uniform, _STOCK
    ),
    "padded": Form(
        "zeros up to the widest layer of each kind, whole layers removed; stock code, a part of the gains",
        padded,
        _STOCK,
    ),
    "uneven": Form(
        "every layer its own sizes, dropped sublayers; sparsesearch.load or trust_remote_code, real gains",
        _uneven,
        _OWN_CODE,
        _uneven_code,
    ),
    "nemotron_nas": Form(
        "Llama with its own FFN width in each layer, dropped sublayers; DeciLM block configurations, which vLLM reads "
        "(widths in multiples of 256); real gains",
        nemotron_nas.nemotron_nas,
        _OWN_CODE,
        nemotron_nas.code,
    ),
    "onnx": Form(
        "an ONNX graph without a cache, any batch (and length); onnxruntime, real gains", _smaller, ("onnxruntime",)
    ),
    "torch_export": Form(
        "a torch.export program without a cache, any batch (and length); torch alone, real gains",
        _smaller,
        ("torch.export.load",),
    ),
}

FORMS = {name: form.about for name, form in REGISTRY.items()}

# Model types that llama.cpp's convert_hf_to_gguf.py knows, and where llama.cpp takes which layers are different (slide,
# or have no rotary embedding) from the number of the layer, so that removing layers would move them.
GGUF = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "granite",
    "smollm3",
    "gemma2",
    "gemma3_text",
    "olmo2",
    "phi3",
    "gpt2",
    "gpt_neox",
    "mixtral",
    "qwen2_moe",
    "qwen3_moe",
    "olmoe",
    "deepseek_v2",
    "deepseek_v3",
    "t5",
)
GGUF_BY_NUMBER = ("smollm3", "gemma2", "gemma3_text")


def choose(form: str, supernet: StitchedSupernet, genome: Genome) -> tuple[str, str]:
    """The form to write, and why.

    `auto` takes the most widely loadable form that has all the gains, of those that were loaded where they are for.

    Args:
        form: `auto` or a name in `FORMS`.

    Raises InputError SS102 for an unknown form, SS502 where the candidate cannot take it, EnvironmentProblem SS307
    where a package that it needs is not there.
    """
    if form == "auto":
        return _auto(supernet, genome)
    if form == "gguf":
        raise _no_gguf(supernet, genome)
    if form not in REGISTRY:
        raise problem("SS102", f"form {form!r} not found.", got=form, allowed=("auto", *FORMS))
    if form in GRAPHS:
        check_packages(form)
    fault = REGISTRY[form].plan(supernet, genome)
    if isinstance(fault, str):
        raise problem("SS502", f"{fault}.", fix=f"Forms it can take: {', '.join(possible(supernet, genome))}.")
    return form, "asked for"


def possible(supernet: StitchedSupernet, genome: Genome) -> list[str]:
    """Names of the forms that a candidate can take."""
    return [name for name, form in REGISTRY.items() if not isinstance(form.plan(supernet, genome), str)]


def _auto(supernet: StitchedSupernet, genome: Genome) -> tuple[str, str]:
    changes = supernet.surgery(genome)
    if not changes["shapes"] and not changes["stand_ins"]:
        return "zeros", "no tensor is smaller than in the dense model, which stock code loads as it is"
    fault = uniform(supernet, genome)
    if not isinstance(fault, str):
        return "uniform", "stock code loads it with all of its gains"
    if not isinstance(supernet.model, PreTrainedModel):
        return "uneven", "it has all of the gains"
    others = [name for name in possible(supernet, genome) if name in ("padded", "nemotron_nas")]
    more = f"; it could also be {' or '.join(others)}" if others else ""
    return "uneven", f"not uniform, because {fault}{more}"


def _no_gguf(supernet: StitchedSupernet, genome: Genome) -> SparseSearchError:
    """What to do for a GGUF file: llama.cpp's converter writes it, from one of our forms or from none."""
    reason, form = gguf_source(supernet, genome)
    if not form:
        return problem("SS502", f"llama.cpp's convert_hf_to_gguf.py takes no form of this candidate: {reason}.")
    return problem(
        "SS502",
        f"GGUF files are written by llama.cpp's convert_hf_to_gguf.py, which takes form {form} of this "
        f"candidate ({reason}).",
        fix=f"Export with --form {form} --out DIR, then: python convert_hf_to_gguf.py DIR",
    )


def gguf_source(supernet: StitchedSupernet, genome: Genome) -> tuple[str, str]:
    """Why, and the name of the form that llama.cpp's converter should be given; no name where it takes none."""
    config = getattr(supernet.model, "config", None)
    model_type = getattr(config, "model_type", "")
    if model_type not in GGUF:
        return f"it does not know {model_type or 'modules of your own'}", ""
    plans = {name: REGISTRY[name].plan(supernet, genome) for name in ("zeros", "uniform", "padded", "nemotron_nas")}
    changes = supernet.surgery(genome)
    if not changes["shapes"] and not changes["stand_ins"]:
        return "it has the dense shapes", "zeros"
    removed = len({drop.block for drop in supernet.network.drops.values()}) - len(_left(supernet, genome))
    if removed and (model_type in GGUF_BY_NUMBER or getattr(config, "use_sliding_window", False)):
        if isinstance(plans["zeros"], str):
            return f"whole layers are gone, which llama.cpp's {model_type} counts, and {plans['zeros']}", ""
        return f"whole layers are gone, which llama.cpp's {model_type} counts; it gains nothing", "zeros"
    if not isinstance(plans["uniform"], str):
        return "one size for all layers", "uniform"
    if not isinstance(plans["nemotron_nas"], str) and _llama_cpp_reads(supernet, genome):
        return "as the deci architecture, each layer its own width", "nemotron_nas"
    if not isinstance(plans["padded"], str):
        return "zeros up to the widest layer", "padded"
    if not isinstance(plans["zeros"], str):
        return f"zeros in place, no gains, since {plans['padded']}", "zeros"
    return plans["zeros"], ""


def _left(supernet: StitchedSupernet, genome: Genome) -> list[int]:
    drops = supernet.network.drops.values()
    return list({drop.block for drop in drops if not supernet.composer.is_dropped(genome, drop.name)})


def _llama_cpp_reads(supernet: StitchedSupernet, genome: Genome) -> bool:
    """Whether llama.cpp's deci runs the block configurations as they are.

    It loses the attention of a layer without FFN, and takes the size of a head from the hidden size.
    """
    dropped = supernet.composer.is_dropped
    blocks = _left(supernet, genome)
    drops = [drop for drop in supernet.network.drops.values() if drop.block in blocks]
    config = supernet.model.config
    whole = supernet.kept(genome)
    cuts = [cut for cut in supernet.network.cuts.values() if cut.kind in ("kv_groups", "q_heads")]
    heads = all(whole[cut.name] == cut.elements for cut in cuts)
    square = config.head_dim * config.num_attention_heads == config.hidden_size
    return heads and square and not any(dropped(genome, drop.name) for drop in drops if drop.kind == "ffn")


def notes_of(form: str, counts: Mapping[str, int]) -> list[str]:
    """What a user must know of a form.

    Args:
        counts: `params` of the file, of the `candidate`, and of the `dense` model.
    """
    if form == "padded":
        saved, left = counts["dense"] - counts["candidate"], counts["dense"] - counts["params"]
        share = f"{left / saved:.0%} of what the candidate saves" if saved else "nothing was saved"
        return [
            f"Padded with zeros to {counts['params']:,} parameters (the candidate has {counts['candidate']:,}, the "
            f"dense model {counts['dense']:,}): {share} is left."
        ]
    if form == "nemotron_nas":
        return [
            "The block configurations follow what vLLM's nemotron_nas.py says; this was checked with transformers, "
            "vLLM itself was not run. Give it --trust-remote-code: the configuration class is in this directory."
        ]
    if form in GRAPHS:
        return ["Weights are float32; the graph has no KV cache."]
    return []
