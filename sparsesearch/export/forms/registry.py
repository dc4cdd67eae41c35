"""The forms a candidate can be written in, and which one `auto` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from sparsesearch.errors import SparseSearchError, problem
from sparsesearch.export.forms import nemotron_nas
from sparsesearch.export.forms.form import CannotTakeForm, Form, Maker, Plan
from sparsesearch.export.forms.graphs import GRAPHS, check_packages
from sparsesearch.export.forms.stock import plan_padded, plan_uniform, plan_zeros
from sparsesearch.models import surgery
from sparsesearch.plugins import plugin, wrong_return_value
from sparsesearch.registry import Registry, summary_of
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet
from sparsesearch.supernet.stitched import load_exactly

UNEVEN_MODULE = "modeling_sparsesearch"


def _plan_materialised(supernet: StitchedSupernet, genome: Genome) -> Maker:
    """Return the maker of the candidate as `materialise` makes it; a graph is traced from it."""
    return lambda: supernet.materialise(genome)


def _plan_uneven(supernet: StitchedSupernet, genome: Genome) -> Maker:
    """Return the maker of a model with every layer as it is, whose configuration holds the surgery."""
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
    """Return the file of Python that goes with an uneven model: `surgery.py`, and a line that defines its classes."""
    names = ", ".join(map(repr, stock_classes(supernet)))
    last = f"globals().update({{cls.__name__: cls for cls in define({names}, __name__)}})"
    return {f"{UNEVEN_MODULE}.py": f"{Path(surgery.__file__).read_text()}\n\n{last}\n"}


def stock_classes(supernet: StitchedSupernet) -> tuple[str, str]:
    """Return the names of the stock configuration and model classes in transformers."""
    return type(supernet.model.config).__name__, type(supernet.model).__name__


def _padded_notes(counts: Mapping[str, int]) -> list[str]:
    saved, left = counts["dense"] - counts["candidate"], counts["dense"] - counts["params"]
    share = f"{left / saved:.0%} of what the candidate saves" if saved else "nothing was saved"
    return [
        f"Padded with zeros to {counts['params']:,} parameters (the candidate has {counts['candidate']:,}, the "
        f"dense model {counts['dense']:,}): {share} is left."
    ]


def _nemotron_nas_notes(_: Mapping[str, int]) -> list[str]:
    return [
        "The block configurations follow what vLLM's nemotron_nas.py says; this was checked with transformers, "
        "vLLM itself was not run. Give it --trust-remote-code: the configuration class is in this directory."
    ]


def _graph_notes(_: Mapping[str, int]) -> list[str]:
    return ["Weights are float32; the graph has no KV cache."]


_STOCK = ("sparsesearch.load", "transformers")
_OWN_CODE = ("sparsesearch.load", "trust_remote_code")
# How a checkpoint, which a form of somebody's own is, can be loaded.
CHECKPOINT_WAYS = ("sparsesearch.load", "transformers", "trust_remote_code")

FORMS: Registry[Form] = Registry(
    "form",
    {
        "zeros": Form(
            "the dense shapes with zeros in place; loads everywhere, gains neither speed nor file size",
            plan_zeros,
            _STOCK,
        ),
        "uniform": Form(
            "one width for all layers, whole layers removed and renumbered; stock code, real gains",
            plan_uniform,
            _STOCK,
        ),
        "padded": Form(
            "zeros up to the widest layer of each kind, whole layers removed; stock code, a part of the gains",
            plan_padded,
            _STOCK,
            notes=_padded_notes,
        ),
        "uneven": Form(
            "every layer its own sizes, dropped sublayers; sparsesearch.load or trust_remote_code, real gains",
            _plan_uneven,
            _OWN_CODE,
            _uneven_code,
        ),
        "nemotron_nas": Form(
            "Llama with its own FFN width in each layer, dropped sublayers; DeciLM block configurations, which vLLM "
            "reads (widths in multiples of 256); real gains",
            nemotron_nas.plan,
            _OWN_CODE,
            nemotron_nas.code,
            _nemotron_nas_notes,
        ),
        "onnx": Form(
            "an ONNX graph without a cache, any batch (and length); onnxruntime, real gains",
            _plan_materialised,
            ("onnxruntime",),
            notes=_graph_notes,
        ),
        "torch_export": Form(
            "a torch.export program without a cache, any batch (and length); torch alone, real gains",
            _plan_materialised,
            ("torch.export.load",),
            notes=_graph_notes,
        ),
    },
    listed="forms",
)


def form(
    name: str,
    ways: Sequence[str] = _STOCK,
    code: Callable[[StitchedSupernet], dict[str, str]] | None = None,
    notes: Callable[[Mapping[str, int]], list[str]] | None = None,
) -> Callable[[Plan], Plan]:
    """Register a plan of your own as a form: f(supernet, genome) returns what makes the model, float32, or raises
    CannotTakeForm; the first line of its docstring is what `sparsesearch list forms` shows.

    Args:
        ways, code, notes: as the attributes of `Form`; ways are of `CHECKPOINT_WAYS`.

    Raises InputError SS127 for an unknown way.
    """
    for way in ways:
        if way not in CHECKPOINT_WAYS:
            what = f"form {name!r} is loaded by {way!r}, which is no way to load a checkpoint"
            raise problem("SS127", what, got=way, allowed=CHECKPOINT_WAYS, fix="Name those that it promises.")
    return FORMS.register(name, lambda plan: Form(summary_of(plan), plan, tuple(ways), code, notes))


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
    """Return the form to write and the reason.

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
    FORMS.find(form, key="form", besides=("auto",))
    if form in GRAPHS:
        check_packages(form)
    if reason := obstacle(form, supernet, genome):
        raise problem("SS502", f"{reason}.", fix=f"Forms it can take: {', '.join(possible_forms(supernet, genome))}.")
    return form, "asked for"


def obstacle(form: str, supernet: StitchedSupernet, genome: Genome) -> str:
    """Return why a candidate cannot take a form, as a clause; '' if it can.

    Raises InputError SS127 from a plug-in's plan.
    """
    with plugin(f"form {form!r}"):
        try:
            maker = FORMS[form].plan(supernet, genome)
        except CannotTakeForm as reason:
            return str(reason) or "no reason was given"
    if not callable(maker):
        raise wrong_return_value(f"form {form!r}", maker, "a function that makes the model")
    return ""


def possible_forms(supernet: StitchedSupernet, genome: Genome) -> list[str]:
    """Return the names of the forms that a candidate can take."""
    return [name for name in FORMS if not obstacle(name, supernet, genome)]


def _auto(supernet: StitchedSupernet, genome: Genome) -> tuple[str, str]:
    changes = supernet.surgery(genome)
    if not changes["shapes"] and not changes["stand_ins"]:
        return "zeros", "no tensor is smaller than in the dense model, which stock code loads as it is"
    reason = obstacle("uniform", supernet, genome)
    if not reason:
        return "uniform", "stock code loads it with all of its gains"
    if not isinstance(supernet.model, PreTrainedModel):
        return "uneven", "it has all of the gains"
    others = [name for name in possible_forms(supernet, genome) if name in ("padded", "nemotron_nas")]
    more = f"; it could also be {' or '.join(others)}" if others else ""
    return "uneven", f"not uniform, because {reason}{more}"


def _no_gguf(supernet: StitchedSupernet, genome: Genome) -> SparseSearchError:
    """Return the error for a GGUF file, which llama.cpp's converter writes from one of our forms or from none."""
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
    """Return the reason, and the name of the form to give to llama.cpp's converter; no name where it takes none."""
    config = getattr(supernet.model, "config", None)
    model_type = getattr(config, "model_type", "")
    if model_type not in GGUF:
        return f"it does not know {model_type or 'modules of your own'}", ""
    reasons = {name: obstacle(name, supernet, genome) for name in ("zeros", "uniform", "padded", "nemotron_nas")}
    changes = supernet.surgery(genome)
    if not changes["shapes"] and not changes["stand_ins"]:
        return "it has the dense shapes", "zeros"
    removed = len({drop.block for drop in supernet.network.drops.values()}) - len(_remaining_blocks(supernet, genome))
    if removed and (model_type in GGUF_BY_NUMBER or getattr(config, "use_sliding_window", False)):
        if reasons["zeros"]:
            return f"whole layers are gone, which llama.cpp's {model_type} counts, and {reasons['zeros']}", ""
        return f"whole layers are gone, which llama.cpp's {model_type} counts; it gains nothing", "zeros"
    if not reasons["uniform"]:
        return "one size for all layers", "uniform"
    if not reasons["nemotron_nas"] and _llama_cpp_reads(supernet, genome):
        return "as the deci architecture, each layer its own width", "nemotron_nas"
    if not reasons["padded"]:
        return "zeros up to the widest layer", "padded"
    if not reasons["zeros"]:
        return f"zeros in place, no gains, since {reasons['padded']}", "zeros"
    return reasons["zeros"], ""


def _remaining_blocks(supernet: StitchedSupernet, genome: Genome) -> list[int]:
    drops = supernet.network.drops.values()
    return list({drop.block for drop in drops if not supernet.composer.is_dropped(genome, drop.name)})


def _llama_cpp_reads(supernet: StitchedSupernet, genome: Genome) -> bool:
    """Return whether llama.cpp's deci runs the block configurations as they are.

    It loses the attention of a layer without FFN, and takes the size of a head from the hidden size.
    """
    dropped = supernet.composer.is_dropped
    blocks = _remaining_blocks(supernet, genome)
    drops = [drop for drop in supernet.network.drops.values() if drop.block in blocks]
    config = supernet.model.config
    whole = supernet.kept(genome)
    cuts = [cut for cut in supernet.network.cuts.values() if cut.kind in ("kv_groups", "q_heads")]
    heads = all(whole[cut.name] == cut.elements for cut in cuts)
    square = config.head_dim * config.num_attention_heads == config.hidden_size
    return heads and square and not any(dropped(genome, drop.name) for drop in drops if drop.kind == "ffn")
