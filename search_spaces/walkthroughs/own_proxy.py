# %% [markdown]
# # A proxy of your own, and whether to trust it
#
# A proxy scores candidates without measuring them. This script writes one, checks that it behaves, and audits it: do
# its scores rank candidates of equal size as measurements do?

# %%
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from sparsesearch.testing.proxies import check_proxy

SAMPLES = 12
work = Path(tempfile.mkdtemp(prefix="walkthrough-"))

# %% [markdown]
# ## The proxy, in a file of its own
#
# Workers import the file, so it holds nothing else. `reads="matrix"`: the score is given one matrix before and after
# pruning, and is summed over all matrices. Lower is better. Shapes: G groups, O outputs, I inputs.

# %%
plugin = work / "my_proxy.py"
plugin.write_text('''
from sparsesearch.proxies import PrunedMatrix, proxy


@proxy("energy", reads="matrix")
def energy(matrix: PrunedMatrix) -> float:
    """Squared removed weights, each times the mean square of its input."""
    input_square_GI = matrix.inputs.second_moment.diagonal(dim1=1, dim2=2)
    return matrix.removes(matrix.dense_GOI.square() * input_square_GI[:, None, :])
''')

# %% [markdown]
# ## Does it behave?
#
# Scores must be finite, differ between candidates, and be the same when repeated or reordered.

# %%
spec = importlib.util.spec_from_file_location("my_proxy", plugin)
assert spec is not None and spec.loader is not None
spec.loader.exec_module(importlib.util.module_from_spec(spec))
check_proxy("energy", work / "check")
print("The proxy passes the conformance check.")

# %% [markdown]
# ## Does it rank?
#
# `audit` draws candidates of equal cost, measures them, and compares: Kendall's tau is 1 for the order that
# measurements give, 0 for chance. Controls (`random`, `params`, ...) stand beside it, and so does a proxy that ships,
# `output_error`.

# %%
recipe = work / "audit.yaml"
recipe.write_text(f"""
plugins: ["{plugin}"]
units:
  - {{kind: sparsity, levels: 6}}
limits: ["sparsity>=60%"]
objectives: [kl, nonzeros]
pruners: {{sparsity: magnitude}}
data:
  calibration: {{source: "stdlib:calibration", sequences: 8, length: 64}}
  selection: {{source: "stdlib:selection", sequences: 8, length: 64}}
executor: {{kind: local}}
""")
command = [str(Path(sys.executable).parent / "sparsesearch"), "audit", str(recipe), "--results", str(work), "--json"]
command += ["--proxies", "energy,output_error", "--samples", str(SAMPLES), "--name", "audit"]
audit = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

# %%
for name, row in audit["proxies"].items():
    if row["tau"] is not None:
        low, high = row["tau_range"]
        kind = "control" if row["control"] else "proxy"
        print(f"{name:<14} {kind:<8} Kendall's tau {row['tau']:5.2f} ({low:.2f} to {high:.2f})")
print(f"Report: {work / 'audit' / 'audit.html'}")
