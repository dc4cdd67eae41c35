"""Small convolutional networks of every kind that a trace has to understand."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

CLASSES = 5


class Padded(nn.Module):
    """A CIFAR ResNet with option-A shortcuts: subsampling and zero-padding of channels."""

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.stride, self.missing = stride, (outputs - inputs) // 2

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            if self.missing:
                x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.missing, self.missing))
            return torch.relu(x + y)

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(self.Block(8, 8, 1), self.Block(8, 16, 2))
        self.linear = nn.Linear(16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(self.blocks(torch.relu(self.bn1(self.conv1(x)))).mean((2, 3)))
        return out


class Gated(nn.Module):
    """Residual sum, depthwise convolution, squeeze-and-excite, and a flattened classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.expand, self.depthwise = nn.Conv2d(8, 12, 1), nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.bn2, self.project = nn.BatchNorm2d(12), nn.Conv2d(12, 8, 1)
        self.squeeze, self.excite = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.linear = nn.Linear(8 * 16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn(self.stem(x)))
        y = torch.relu(self.bn2(self.depthwise(self.expand(x))))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        x = x + self.project(y * gate)
        out: torch.Tensor = self.linear(functional.adaptive_avg_pool2d(x, 4).flatten(1))
        return out


class Joined(nn.Module):
    """Concatenation and a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
        self.c3, self.grouped = nn.Conv2d(10, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.c4, self.linear = nn.Conv2d(8, 6, 1), nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.relu(self.c1(x))
        y = torch.relu(self.c3(torch.cat([a, torch.relu(self.c2(a))], 1)))
        out: torch.Tensor = self.linear(torch.relu(self.c4(torch.relu(self.grouped(y)))).mean((2, 3)))
        return out


class Projected(nn.Module):
    """A shortcut with a convolution, a strided kernel, and an MLP head with LayerNorm (whose channels stay)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.conv, self.bn = nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12)
        self.shortcut, self.bn2 = nn.Conv2d(8, 12, 1, 2), nn.BatchNorm2d(12)
        self.fc1, self.norm, self.fc2 = nn.Linear(12, 10), nn.LayerNorm(10), nn.Linear(10, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.bn(self.conv(x)) + self.bn2(self.shortcut(x)))
        out: torch.Tensor = self.fc2(torch.relu(self.norm(self.fc1(x.mean((2, 3))))))
        return out


class Shared(nn.Module):
    """A convolution that is applied twice, and two layers that share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.same = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.wide, self.narrow = nn.Conv2d(8, 12, 1), nn.Conv2d(12, 8, 1)
        self.again, self.linear = nn.Conv2d(12, 8, 1), nn.Linear(8, CLASSES)
        self.again.weight = self.narrow.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.same(torch.relu(self.same(torch.relu(self.stem(x))))))
        y = torch.relu(self.wide(x))
        out: torch.Tensor = self.linear(torch.relu(self.narrow(y) + self.again(y.flip(3))).mean((2, 3)))
        return out


class Kernels(nn.Module):
    """Large kernels: of a stem, a depthwise convolution and one with a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 8, 5, padding=2), nn.BatchNorm2d(8)
        self.depthwise, self.point = nn.Conv2d(8, 8, 7, padding=3, groups=8), nn.Conv2d(8, 12, 1)
        self.down, self.linear = nn.Conv2d(12, 10, 5, 2, 2), nn.Linear(10, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn(self.stem(x)))
        x = torch.relu(self.down(torch.relu(self.point(self.depthwise(x)))))
        out: torch.Tensor = self.linear(x.mean((2, 3)))
        return out


NETWORKS: dict[str, type[nn.Module]] = {
    "padded": Padded,
    "gated": Gated,
    "joined": Joined,
    "projected": Projected,
    "shared": Shared,
    "kernels": Kernels,
}


def make(name: str) -> nn.Module:
    """A network with random weights and running statistics that are not at their trivial values."""
    torch.manual_seed(0)
    module = NETWORKS[name]()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.2)
            nn.init.normal_(layer.running_mean, std=0.2)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return module.eval()


def padded() -> nn.Module:
    """What the command line calls as `networks:padded`."""
    return make("padded")


def kernels() -> nn.Module:
    """The same, with large kernels."""
    return make("kernels")
