# %% [markdown]
# # A language model, from recipe to export
#
# The quickstart's recipe on the embedded demo model (2.8 M parameters, trained on Python source code), with a tiny
# budget: fewer evaluations on less text. Leave `changes` out for the real one.

# %%
import tempfile
from pathlib import Path

from transformers import PreTrainedTokenizerFast

import sparsesearch as ss

EVALS = 64
RECIPE = Path("search_spaces/quickstart.yaml")  # from the root of the repository
work = Path(tempfile.mkdtemp(prefix="walkthrough-"))

# %% [markdown]
# ## The recipe
#
# It names the model, what may be pruned (FFN neurons and KV groups of every block), what candidates are judged by, and
# the data. Any key can be changed from here.

# %%
print(RECIPE.read_text())
short = {"sequences": 16, "length": 64}
changes = {
    "search.evals": EVALS,
    "search.options": {"tokens": 256},
    "search.final": 12,
    **{f"data.{role}.{key}": value for role in ("calibration", "selection", "test") for key, value in short.items()},
    "executor.kind": "local",
}

# %% [markdown]
# ## Search
#
# The result is a front: the candidates that no other candidate beats in quality and size.

# %%
run = ss.search(RECIPE, name="quickstart", results=work, changes=changes, quiet=True)
print(run.front().to_dataframe()[["kl", "params", "origin", "pick"]])

# %% [markdown]
# ## Export
#
# `max-under:params=70%` is the best candidate with at most 70 % of the dense model's parameters. The export is loaded
# again and compared with the candidate before it appears.

# %%
candidate = run.pick("max-under:params=70%")
report = run.export(candidate, work / "smaller-model")
print(f"form {report['form']}: {report['why']}")
print(f"{report['params']:,} parameters, {report['bytes']:,} bytes, verified by {', '.join(report['verified'])}")

# %% [markdown]
# ## Use it
#
# With so few evaluations it is a starting point: `sparsesearch recover` would train it.

# %%
model = ss.load(work / "smaller-model")
tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "smaller-model")  # copied from the dense model
tokens = model.generate(**tokenizer("def main(", return_tensors="pt"), max_new_tokens=16, do_sample=False)
print(tokenizer.decode(tokens[0]))
