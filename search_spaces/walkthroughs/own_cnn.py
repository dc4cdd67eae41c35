# %% [markdown]
# # A CNN of your own, from Python
#
# Train a small network on handwritten digits, search how many channels each layer needs, and load a smaller one.
# The budget is tiny, so that the script ends in seconds. Raise `EVALS` and `EPOCHS` for something real.

# %%
import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

import sparsesearch as ss

EVALS, EPOCHS = 40, 15
work = Path(tempfile.mkdtemp(prefix="walkthrough-"))
torch.manual_seed(0)

# %% [markdown]
# ## Data: 1,797 images of 8 x 8 pixels
#
# Calibration images tell the pruner what inputs look like, selection images judge candidates, and test images are kept
# for the end. They must not overlap.

# %%
digits = load_digits()
order = torch.randperm(len(digits.images))
images = torch.tensor(digits.images, dtype=torch.float32)[order, None] / 16
labels = torch.tensor(digits.target)[order]
train, calibration, selection, test = slice(0, 1000), slice(1000, 1200), slice(1200, 1400), slice(1400, None)

# %% [markdown]
# ## The network: any torch.nn.Module will do

# %%
net = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, padding=1, stride=2),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.Conv2d(32, 32, 3, padding=1),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(32, 10),
)
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
for _ in range(EPOCHS):
    for batch in torch.randperm(1000).split(50):
        loss = nn.functional.cross_entropy(net(images[train][batch]), labels[train][batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
net.eval()


def accuracy(model: nn.Module) -> float:
    """Return the share of test images that are classified correctly."""
    with torch.no_grad():
        return float((model(images[test]).argmax(dim=1) == labels[test]).float().mean())


print(f"dense: {accuracy(net):.1%} of the test images")

# %% [markdown]
# ## Search
#
# Channel groups are found by tracing the network. The quality is the KL divergence to the dense network, the cost are
# multiply-accumulates. `executor: local` runs in this process; Ray is the default.

# %%
recipe = {
    "units": [{"kind": "channels", "levels": 6, "min_kept": "25%"}],
    "objectives": ["kl", "macs"],
    "batch": 100,
    "search": {"evals": EVALS, "options": {"tokens": 100}},
    "executor": {"kind": "local"},
}
data = {"calibration": images[calibration], "selection": (images[selection], labels[selection])}
run = ss.search(net, recipe, data=data, name="digits", results=work, quiet=True)
print(run.front().to_dataframe()[["kl", "macs", "params", "pick"]])

# %% [markdown]
# ## Take one: the best with at most 60 % of the multiply-accumulates

# %%
candidate = run.pick("max-under:macs=60%")
report = run.export(candidate, work / "smaller")
smaller = ss.load(work / "smaller", module=net)
print(f"form {report['form']}: {report['params']:,} parameters, verified by {', '.join(report['verified'])}")
print(f"smaller: {accuracy(smaller):.1%} of the test images")
print(f"Report: {run.path / 'report.html'}")
