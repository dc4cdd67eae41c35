"""Networks of one's own that are no image classifiers: text, audio, sequences, odd layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Texts(nn.Module):
    """Token ids to one row of classes a text."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.embed, self.hidden, self.head = nn.Embedding(50, 16), nn.Linear(16, 32), nn.Linear(32, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.relu(self.hidden(self.embed(tokens).mean(1))))
        return out


class MaskedTexts(Texts):
    """Two inputs of integers: ids and a mask."""

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        mean = (self.embed(tokens) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
        out: torch.Tensor = self.head(torch.relu(self.hidden(mean)))
        return out


class Language(nn.Module):
    """(samples, tokens, words), the words along the last axis."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.up, self.down = nn.Embedding(50, 16), nn.Linear(16, 32), nn.Linear(32, 16)
        self.head = nn.Linear(16, 50)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens).cumsum(1)
        out: torch.Tensor = self.head(x + self.down(torch.relu(self.up(x))))
        return out


class Tied(Language):
    """Its head is its embedding, used as a function behind a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.LayerNorm(16)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return functional.linear(super().forward(tokens), self.embed.weight)


class Turned(Language):
    """(samples, words, tokens): the words along axis 1, behind a linear layer."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().forward(tokens).transpose(1, 2)


class UNet(nn.Module):
    """A transposed convolution, and classes of pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, 2, 1)
        self.up, self.c = nn.ConvTranspose2d(12, 8, 2, 2), nn.Conv2d(16, 5, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.relu(self.a(x))
        out: torch.Tensor = self.c(torch.cat([torch.relu(self.up(torch.relu(self.b(a)))), a], 1))
        return out


class Audio(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(1, 8, 9, 4, 4), nn.Conv1d(8, 12, 5, 2, 2, groups=2)
        self.norm, self.head = nn.BatchNorm1d(12), nn.Linear(12, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.relu(self.norm(self.b(torch.relu(self.a(x))))).mean(-1))
        return out


class Video(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv3d(2, 6, 3, padding=1), nn.Conv3d(6, 8, (1, 3, 3), 2), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.relu(self.b(torch.relu(self.a(x)))).mean((2, 3, 4)))
        return out


class Recurrent(nn.Module):
    def __init__(self, kind: str = "LSTM") -> None:
        super().__init__()
        both = kind != "LSTM"  # which Torch-Pruning cannot trace in both directions
        self.cells: Any = getattr(nn, kind)(8, 12, 2, batch_first=True, bidirectional=both)
        self.hidden, self.head = nn.Linear(24 if both else 12, 16), nn.Linear(16, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.relu(self.hidden(self.cells(x)[0][:, -1])))
        return out


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.layer(x).mean(1))
        return out


class Multiplied(nn.Module):
    """A depthwise convolution with two outputs for each input."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.d = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.p, self.head = nn.Conv2d(16, 8, 1), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.relu(self.p(torch.relu(self.d(torch.relu(self.a(x)))))).mean((2, 3)))
        return out


class Mixture(nn.Module):
    """Six experts, of which each sample meets one."""

    def __init__(self) -> None:
        super().__init__()
        self.i, self.router, self.head = nn.Linear(8, 16), nn.Linear(16, 6), nn.Linear(16, 4)
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.i(x))
        best, out = self.router(h).argmax(-1), torch.zeros_like(h)
        for k, expert in enumerate(self.experts):
            if (best == k).any():
                out[best == k] = expert(h[best == k])
        result: torch.Tensor = self.head(h + out)
        return result


class ByBatch(nn.Module):
    """A branch that single samples alone take."""

    def __init__(self) -> None:
        super().__init__()
        self.i, self.alone, self.many, self.head = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.i(x))
        out: torch.Tensor = self.head(torch.relu(self.alone(h) if len(x) < 2 else self.many(h)))
        return out


class Shuffled(nn.Module):
    """What Torch-Pruning cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.a(x))
        if h.requires_grad:
            raise RuntimeError("not to be differentiated")
        out: torch.Tensor = self.head(torch.relu(self.b(h)))
        return out


class Standardised(nn.Linear):
    """Its weight is standardised before it is used."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, (self.weight - self.weight.mean()) / self.weight.std(), self.bias)


def small(middle: nn.Module | None = None, outputs: int = 4) -> nn.Sequential:
    """Three linear layers on samples of eight numbers."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32) if middle is None else middle, nn.ReLU(), nn.Linear(32, outputs)
    ).eval()
