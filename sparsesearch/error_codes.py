"""Every code of an error or a warning, with its cause and its remedy.

`ERRORS.md` is generated from this table by `COMMAND`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

# input: exit code 2; environment, damaged, run: 3; infeasible: 4; warning: a line on stderr, nothing ends.
Kind = Literal["input", "environment", "damaged", "run", "infeasible", "warning"]


class ErrorCode(NamedTuple):
    """The meaning of a code.

    Attributes:
        kind: decides the class of the error and with it the exit code.
        cause: when the code appears, one sentence.
        remedy: how to get rid of it, one sentence.
    """

    kind: Kind
    cause: str
    remedy: str


# Writes the page, from the root of the repository.
COMMAND = "python -m sparsesearch.error_codes > sparsesearch/ERRORS.md"
# Headings of `ERRORS.md`, by the hundreds of a code.
GROUPS = {
    "1": "recipe, options and search space",
    "2": "model and data",
    "3": "machine, cluster and disk",
    "4": "during a run",
    "5": "picks and exports",
    "6": "run directories",
    "9": "faults of sparsesearch",
}
# Exit code of a process that ends with an error of a kind; a warning ends nothing.
EXIT_CODES: dict[Kind, int] = {"input": 2, "environment": 3, "damaged": 3, "run": 3, "infeasible": 4}
# Exit code of SS900 alone, as sysexits.h has it for software (EX_SOFTWARE).
UNFORESEEN_EXIT = 70

CODES: dict[str, ErrorCode] = {
    "SS100": ErrorCode(
        "input",
        "The recipe cannot be read, or is not a mapping of keys to values.",
        "Check the path and the YAML; shipped recipes are in `search_spaces/`.",
    ),
    "SS101": ErrorCode(
        "input",
        "An option or a recipe key is unknown, has an impossible value, or contradicts another one.",
        "Correct it: the message names it and, if there are few, the allowed values.",
    ),
    "SS102": ErrorCode(
        "input",
        "A name is unknown (searcher, pruner, proxy, allocation, objective, cost, form), or is given twice.",
        "Use one of the allowed names; `sparsesearch list` shows most of them.",
    ),
    "SS103": ErrorCode(
        "input",
        "A unit's `kind`, `target` or `protect` matches nothing in this model.",
        "Choose one of the kinds or modules that the message names.",
    ),
    "SS104": ErrorCode(
        "input",
        "The levels of a unit do not fit its size, its `align`, or the pruner's pattern.",
        "Change `levels`, `align`, the target or the pruner, as the message suggests.",
    ),
    "SS105": ErrorCode(
        "input",
        "A limit cannot be parsed, or a fraction lies outside [0, 1].",
        "Write limits as `params<=60%`, `kv_bytes<=3MiB` or `sparsity>=70%`, and fractions as 0.6 or 60%.",
    ),
    "SS106": ErrorCode(
        "input",
        "A limit is required and missing, or no candidate of this space can meet the one given.",
        "Give `--limit`, raise it, or give the units smaller levels.",
    ),
    "SS107": ErrorCode(
        "input",
        "Two families of units prune the same part of one module.",
        "Remove one, or make their targets disjoint.",
    ),
    "SS108": ErrorCode(
        "input",
        "Only one genome is left in the space, so there is nothing to search.",
        "Give units more or smaller levels, or raise the limit.",
    ),
    "SS109": ErrorCode(
        "input",
        "An objective is a cost that is the same for every candidate of this space.",
        "Choose one of the costs that vary, which the message lists.",
    ),
    "SS110": ErrorCode(
        "input",
        "A level keeps fewer experts than the router picks for each token.",
        "Raise `min_kept`, or the smallest entry of `levels`.",
    ),
    "SS111": ErrorCode(
        "input",
        "The searcher or allocation cannot handle the unit kinds of this space.",
        "Add or remove unit kinds, or choose another searcher.",
    ),
    "SS112": ErrorCode(
        "input",
        "An exact solver has too many joint choices, or `dp` has limits on more than one cost.",
        "Use fewer levels, or another searcher (`milp` takes limits on several costs).",
    ),
    "SS113": ErrorCode(
        "input",
        "`optuna:gp` was given a space with too many units.",
        "Use `optuna:tpe`.",
    ),
    "SS114": ErrorCode(
        "input",
        "The searcher does not support another setting of the recipe.",
        "Change the setting that the message names, or choose a searcher that supports it.",
    ),
    "SS115": ErrorCode(
        "input",
        "The budget is smaller than one evaluation, or than the check of the screening proxy.",
        "Raise `--tokens` or `--evals`, or measure candidates on fewer tokens.",
    ),
    "SS116": ErrorCode(
        "input",
        "The proxy cannot score this network, or cannot be used to screen children.",
        "Choose another proxy; see `sparsesearch list proxies`.",
    ),
    "SS117": ErrorCode(
        "input",
        "A training option does not work with this network or space.",
        "Use the method or value that the message suggests.",
    ),
    "SS118": ErrorCode(
        "input",
        "There are too few training tokens or samples for one training step.",
        "Give more tokens or samples, or a smaller batch.",
    ),
    "SS119": ErrorCode(
        "input",
        "`iterate` was given a model or unit kinds whose results cannot be searched again.",
        "Use a model directory and units of kind `sparsity`, or repeat search and recovery by hand.",
    ),
    "SS120": ErrorCode(
        "input",
        "The supernet cannot be built or trained for this network or space.",
        "Change `supernet` as the message suggests, or use `supernet: stitched`.",
    ),
    "SS121": ErrorCode(
        "input",
        "A latency table is not one, or was measured for other units.",
        "Measure one for this recipe: `sparsesearch latency SPACE.yaml --out FILE`.",
    ),
    "SS122": ErrorCode(
        "input",
        "A latency table was measured with another request or device than the recipe's.",
        "Measure another table, or set `latency.any_setting: true`.",
    ),
    "SS123": ErrorCode(
        "input",
        "`latency.device` is not available on this machine.",
        "Measure the table on a machine that has it, and set `latency.table`.",
    ),
    "SS124": ErrorCode(
        "input",
        "The network cannot answer the latency request: it generates nothing, or has too few positions.",
        "Lower `latency.prompt` or `latency.generated`.",
    ),
    "SS125": ErrorCode(
        "input",
        "A plug-in cannot be imported.",
        "Name an importable module or a `.py` file, and run it alone to see its traceback.",
    ),
    "SS126": ErrorCode(
        "input",
        "A path or run name cannot be used: it is empty, too long, or has no parent directory.",
        "Give another name, or create the directory first.",
    ),
    "SS127": ErrorCode(
        "input",
        "A plug-in or a function of yours raised an error, or returned something unusable.",
        "Correct the function; the message says what was expected.",
    ),
    "SS128": ErrorCode(
        "input",
        "Costs do not fit into 64 bits.",
        "Lower `context`, or correct the latency table.",
    ),
    "SS129": ErrorCode(
        "input",
        "A run or recipe names code (a plug-in, factory or model code), which is not run without permission.",
        "If you trust it, add `--trust-remote-code` (Python: `trust_remote_code=True`).",
    ),
    "SS201": ErrorCode(
        "input",
        "The model or its tokenizer cannot be found or read.",
        "Give a model directory or hub id, log in with `hf auth login`, or repair the file.",
    ),
    "SS202": ErrorCode(
        "input",
        "The architecture, head or configuration of the model is not supported, or is impossible.",
        "See `sparsesearch list families`; a new family is one function (`sparsesearch/models/README.md`).",
    ),
    "SS203": ErrorCode(
        "input",
        "The model's weights are quantised or not floating-point.",
        "Load the original checkpoint.",
    ),
    "SS204": ErrorCode(
        "input",
        "Data cannot be read, are too few, or do not fit the model.",
        "Correct the source or setting (`data.ROLE.*`) that the message names.",
    ),
    "SS205": ErrorCode(
        "input",
        "Two data roles share samples, so scores would be too optimistic.",
        "Give each role its own data, or set `data.allow_shared: true`.",
    ),
    "SS206": ErrorCode(
        "input",
        "The checkpoint has no complete safetensors weights; pickled weights are never loaded.",
        "Fetch the files again, or convert them with `save_pretrained` if you trust them.",
    ),
    "SS207": ErrorCode(
        "input",
        "The model needs its own Python code, which is not run without permission.",
        "If you trust it, set `model.trust_remote_code: true`.",
    ),
    "SS208": ErrorCode(
        "input",
        "Second moments of a layer's inputs cannot be factorised, even with damping.",
        "Check that activations are finite; otherwise give more calibration data.",
    ),
    "SS209": ErrorCode(
        "input",
        "A method needs a loss or gradients, and this network or task has none.",
        "Choose a method without gradients, or set `training.distill: 1`.",
    ),
    "SS210": ErrorCode(
        "input",
        "A module does not run on the given inputs, has no layer to prune, or data do not reach a layer.",
        "Give matching example inputs or data, or exclude the layer with `target`.",
    ),
    "SS211": ErrorCode(
        "input",
        "A module does not return a floating-point tensor whose first axis counts samples.",
        "Return the logits as one tensor of shape (samples, ...).",
    ),
    "SS212": ErrorCode(
        "input",
        "Labels are missing or invalid, or image folders cannot be read as classes.",
        "Give integer labels from 0, or one folder of readable images for each class.",
    ),
    "SS213": ErrorCode(
        "input",
        "A model factory cannot be imported or called, or does not return a module.",
        "Give `package.module:function`, importable from here, that takes no arguments.",
    ),
    "SS214": ErrorCode(
        "input",
        "The file `model.weights` cannot be read, or does not fit the module.",
        "Give a safetensors file of that module's `state_dict`.",
    ),
    "SS215": ErrorCode(
        "input",
        "The checkpoint's weights are not those that its `config.json` describes.",
        "Repair `config.json`, or fetch both again.",
    ),
    "SS216": ErrorCode(
        "input",
        "The teacher's outputs are not of the same kind and size as the model's.",
        "Give a teacher with the same outputs.",
    ),
    "SS217": ErrorCode(
        "input",
        "The directory holds an adapter, not a whole network.",
        "Merge it first: `merge_and_unload()` of peft, then `save_pretrained()`.",
    ),
    "SS218": ErrorCode(
        "input",
        "Sorting the elements of a unit would change what the network computes.",
        "Leave the unit out, or use `supernet: stitched`.",
    ),
    "SS219": ErrorCode(
        "input",
        "`supernet.start` is not a supernet, or one of another network or other units.",
        "Give a supernet of the same network, or leave `start` out.",
    ),
    "SS230": ErrorCode(
        "input",
        "The network is not the same at every call or in every process.",
        "Turn randomness off in `eval()`, give `model.weights`, or seed the factory.",
    ),
    "SS231": ErrorCode(
        "input",
        "A module cannot be copied.",
        "Remove attributes such as locks and open files.",
    ),
    "SS232": ErrorCode(
        "input",
        "A layer or parameter of the module is of a type that cannot be pruned safely.",
        "Change it as the message suggests.",
    ),
    "SS233": ErrorCode(
        "input",
        "The dense network's outputs or quality are not finite.",
        "Repair the model, or leave out the samples that cause it.",
    ),
    "SS234": ErrorCode(
        "input",
        "The quality is the same for the dense network and for damaged ones.",
        "Choose another quality, or other selection data.",
    ),
    "SS235": ErrorCode(
        "input",
        "The function `quality` raised an error on the dense network.",
        "Correct it: it returns a loss for each sample, or one for all.",
    ),
    "SS300": ErrorCode(
        "environment",
        "The Ray cluster cannot be joined, or was lost.",
        "Check `--address` and the cluster, then resume the run.",
    ),
    "SS301": ErrorCode(
        "environment",
        "The workers ask for more CPUs or GPUs than there are.",
        "Use fewer `--workers`, `--executor local`, or a larger cluster.",
    ),
    "SS302": ErrorCode(
        "environment",
        "A directory or file cannot be written to.",
        "Choose another place, or change its permissions.",
    ),
    "SS303": ErrorCode(
        "input",
        "A run of that name exists already.",
        "Resume it, or give another `--name`.",
    ),
    "SS304": ErrorCode(
        "environment",
        "Another process is working on this run.",
        "Wait until it ends, or stop it.",
    ),
    "SS305": ErrorCode(
        "environment",
        "The disk is full, or has less free space than the run needs.",
        "Free some space, use `--results` on a larger disk, or give units fewer levels.",
    ),
    "SS306": ErrorCode(
        "damaged",
        "A file of a cache (level store, statistics, teacher, supernet) is missing or damaged.",
        "Resume the run, which builds it again; a damaged supernet has to be deleted first.",
    ),
    "SS307": ErrorCode(
        "environment",
        "An optional package is not installed.",
        "Install the extra that the message names.",
    ),
    "SS308": ErrorCode(
        "environment",
        "Learning or supernet training needs more memory than is free.",
        "Use fewer `--workers`, a smaller batch, or a method that needs less memory.",
    ),
    "SS309": ErrorCode(
        "environment",
        "The machine ran out of memory.",
        "Use fewer workers or a smaller batch.",
    ),
    "SS310": ErrorCode(
        "environment",
        "The dashboard cannot listen on this host and port.",
        "Choose another `--port`.",
    ),
    "SS311": ErrorCode(
        "environment",
        "The Hugging Face hub cannot be reached, or refused the upload.",
        "Try again later; the export itself stays on disk.",
    ),
    "SS312": ErrorCode(
        "environment",
        "The file system reported another error.",
        "Choose another place, or repair the file system.",
    ),
    "SS400": ErrorCode(
        "run",
        "A worker or a training run kept ending early.",
        "Check the memory, try fewer `--workers`, then resume.",
    ),
    "SS402": ErrorCode(
        "warning",
        "A candidate could not be measured; it is kept out of the front.",
        "Nothing to do if it is one; if there are many, read the reason in the line.",
    ),
    "SS403": ErrorCode(
        "run",
        "More than half of the candidates failed, or none of an audit could be measured.",
        "Correct the reason given for the last one.",
    ),
    "SS405": ErrorCode(
        "infeasible",
        "No genome of the space meets a limit.",
        "Raise the limit, or give units smaller levels.",
    ),
    "SS406": ErrorCode(
        "infeasible",
        "The run has no measured candidate that respects every limit.",
        "Raise the limits or the budget; if candidates failed, read the reason in the archive.",
    ),
    "SS407": ErrorCode(
        "run",
        "A proxy failed while it scored candidates; if it screens children, the run stops.",
        "Correct the proxy, or leave it out.",
    ),
    "SS408": ErrorCode(
        "run",
        "Training became unstable; earlier results are kept, and it is an error only if none is left.",
        "Lower the learning rate.",
    ),
    "SS409": ErrorCode(
        "warning",
        "The screening proxy does not rank candidates as measurements do, so it screens nothing.",
        "Compare proxies with `sparsesearch audit`, and choose a better one.",
    ),
    "SS410": ErrorCode(
        "warning",
        "The front consists of uniform pruning alone.",
        "Give the search more `--evals` or `--tokens`.",
    ),
    "SS411": ErrorCode(
        "warning",
        "A learned search trains weights and what is pruned on separate samples, but some training samples occur "
        "twice, so both may be trained on the same ones.",
        "Remove duplicates from the training data.",
    ),
    "SS412": ErrorCode(
        "warning",
        "A learned search did not reach a size by itself; the repair at its end did the rest.",
        "Judge that size by its measured quality; try more tokens or another searcher.",
    ),
    "SS413": ErrorCode(
        "warning",
        "A damaged level store or teacher cache was found; it is built again.",
        "Nothing to do.",
    ),
    "SS500": ErrorCode(
        "input",
        "The output path exists already, or is a directory although a file is needed.",
        "Choose another `--out`.",
    ),
    "SS501": ErrorCode(
        "input",
        "The pick or id does not name exactly one usable candidate.",
        "Use an id of `sparsesearch front RUN`, or one of the picks that the message lists.",
    ),
    "SS502": ErrorCode(
        "input",
        "The candidate cannot be written in this form.",
        "Use one of the forms that the message lists.",
    ),
    "SS503": ErrorCode(
        "warning",
        "The export holds zeros in place, which save neither space nor time without a sparse kernel.",
        "Search widths or depth if the model has to become smaller.",
    ),
    "SS504": ErrorCode(
        "input",
        "The path is not an export or model that this command can use.",
        "Name a candidate, export again, or give the module or permission that the message asks for.",
    ),
    "SS505": ErrorCode(
        "input",
        "A cache that the run needs (level store, teacher) is gone.",
        "`sparsesearch resume RUN` builds it again.",
    ),
    "SS506": ErrorCode(
        "run",
        "The export was reloaded and differs from the candidate; nothing was written.",
        "Choose another `--form`; if none works, report it.",
    ),
    "SS507": ErrorCode(
        "run",
        "The candidate cannot be traced as a graph.",
        "Choose another `--form`.",
    ),
    "SS508": ErrorCode(
        "input",
        "The hub repository cannot be used: bad name, not logged in, or the token is refused.",
        "Give ORG/NAME, and log in with `hf auth login`.",
    ),
    "SS600": ErrorCode(
        "input",
        "The directory is not a run, or the run has not got that far yet.",
        "Check the path, or let the run end (`sparsesearch resume RUN`).",
    ),
    "SS601": ErrorCode(
        "damaged",
        "A file of a run is damaged.",
        "Do what the message says: most are rebuilt by `sparsesearch resume RUN`, with `--recipe` if need be.",
    ),
    "SS602": ErrorCode(
        "input",
        "The run belongs to another model, recipe or command, so results would not be comparable.",
        "Use the run's own recipe and model, or start a new run.",
    ),
    "SS900": ErrorCode(
        "run",
        "sparsesearch failed in a way that it does not foresee.",
        "Report it with the traceback file that the message names.",
    ),
}


def errors_page() -> str:
    """Return the text of `ERRORS.md`: a table for each hundred, with a row `code | exit code | cause | remedy`."""
    parts = [
        "# Error codes",
        f"Generated from [error_codes.py](error_codes.py): `{COMMAND}`.",
        "An error is printed as one line on stderr: its code, what is wrong, and how to correct it. With `--json`, a "
        "JSON document (`code`, `message`, `hint`) is also printed on stdout. In Python, an exception of "
        "`sparsesearch.errors` with these attributes is raised. A code without an exit code (-) is a warning: a line "
        "is printed, and the command goes on.",
        "Other exit codes: 0 success; 2 also for an unknown command or option; 130 interrupted (Ctrl-C), after which "
        "`sparsesearch resume RUN` continues. `--debug` on any command shows the traceback.",
    ]
    for hundred, title in GROUPS.items():
        rows = [
            f"| {code} | {_exit_code(code)} | {meaning.cause} | {meaning.remedy} |"
            for code, meaning in CODES.items()
            if code[2] == hundred
        ]
        header = "| code | exit code | cause | remedy |\n|---|---|---|---|"
        parts.append(f"## SS{hundred}xx: {title}\n\n{header}\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _exit_code(code: str) -> str:
    kind = CODES[code].kind
    if kind == "warning":
        return "-"
    return str(UNFORESEEN_EXIT if code == "SS900" else EXIT_CODES[kind])


if __name__ == "__main__":
    print(errors_page(), end="")
