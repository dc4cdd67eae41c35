"""Hidden states that candidates share: one that agrees with an earlier one in its first blocks starts behind them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sparsesearch.models.network import Network
from sparsesearch.space import Genome, Space

# What decides the hidden states that go into a block: the minibatch, the block, and the levels of all units before it.
Key = tuple[bytes, int, bytes]


class PrefixCache:
    """Keeps what goes into each block, the most recently used first, within a bound on memory.

    The stock forward pass runs as always; blocks whose result is known hand on what they get, and the first other block
    is given the kept states. For networks whose blocks follow one another.
    """

    def __init__(self, model: Any, network: Network, space: Space, maximum: int) -> None:
        """
        Args:
            maximum: bytes that may be kept.
        """
        self.maximum, self.bytes = maximum, 0
        # Blocks that ran, and blocks that would have run without what was kept.
        self.ran = self.asked = 0
        self._layers = [model.get_submodule(path) for path in network.blocks]
        # Units are sorted by block, so those before a block are a prefix of the genome.
        self._before = [int((space.blocks < block).sum()) for block in range(len(self._layers))]
        self._kept: OrderedDict[Key, torch.Tensor] = OrderedDict()
        # What blocks return: the hidden states, or a tuple that begins with them.
        self._rest: tuple[Any, ...] | None = None

    @contextmanager
    def shared(self, genome: Genome, minibatch: bytes) -> Iterator[None]:
        """A context for one forward pass of the genome on the minibatch; what goes into its blocks is kept."""
        keys = [(minibatch, b, genome.levels[:n].tobytes()) for b, n in enumerate(self._before)]
        start = max((b for b, key in enumerate(keys) if b and key in self._kept), default=0)
        self.asked, self.ran = self.asked + len(keys), self.ran + len(keys) - start
        hooks = [
            self._layers[block].register_forward_pre_hook(self._keeping(keys[block]), with_kwargs=True)
            for block in range(start + 1, len(keys))
        ]
        if start:
            hooks.append(self._layers[start].register_forward_pre_hook(self._giving(keys[start]), with_kwargs=True))
        else:
            hooks.append(self._layers[0].register_forward_hook(self._looking))
        for layer in self._layers[:start]:
            layer.forward = self._hand_on
        try:
            yield
        finally:
            for layer in self._layers[:start]:
                del layer.forward
            for hook in hooks:
                hook.remove()

    def _hand_on(self, *args: Any, **kwargs: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        return hidden if self._rest is None else (hidden, *self._rest)

    def _looking(self, _: Any, __: Any, output: Any) -> None:
        self._rest = output[1:] if isinstance(output, tuple) else None

    def _keeping(self, key: Key) -> Any:
        def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._keep(key, args[0] if args else kwargs["hidden_states"])

        return hook

    def _giving(self, key: Key) -> Any:
        def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            self._kept.move_to_end(key)
            hidden = self._kept[key]
            return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})

        return hook

    def _keep(self, key: Key, hidden: torch.Tensor) -> None:
        if hidden.nbytes > self.maximum or key in self._kept:
            return
        self._kept[key] = hidden
        self.bytes += hidden.nbytes
        while self.bytes > self.maximum:
            _, dropped = self._kept.popitem(last=False)
            self.bytes -= dropped.nbytes
