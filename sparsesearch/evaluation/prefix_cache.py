"""Hidden states that candidates share: one that equals an earlier one in its first blocks does not run these again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sparsesearch.models.network import Network
from sparsesearch.space import Genome, Space

# Key of a block's input states: the minibatch, the block, and the levels of all units before it.
Key = tuple[bytes, int, bytes]


class PrefixCache:
    """Stores the input states of blocks within a bound on memory; the least recently used are dropped first.

    The model's forward pass runs as usual, but blocks whose result is known return their input, and the first other
    block gets the stored states. For networks whose blocks follow one another in a chain.
    """

    def __init__(self, model: Any, network: Network, space: Space, maximum: int) -> None:
        """
        Args:
            model: the network.
            network: description of the network.
            space: the space of its genomes.
            maximum: most bytes to store.
        """
        self.maximum, self.bytes = maximum, 0
        # Blocks that ran, and blocks that would have run without this cache.
        self.blocks_run = self.blocks_requested = 0
        self._layers = [model.get_submodule(path) for path in network.blocks]
        # Units are sorted by block, so those before a block are a prefix of the genome.
        self._before = [int((space.blocks < block).sum()) for block in range(len(self._layers))]
        self._states: OrderedDict[Key, torch.Tensor] = OrderedDict()
        # Further outputs of a block behind the hidden states; None if blocks return no tuple.
        self._rest: tuple[Any, ...] | None = None

    @contextmanager
    def share(self, genome: Genome, minibatch: bytes) -> Iterator[None]:
        """Use the cache for one forward pass of the genome on the minibatch, and store the inputs of its blocks."""
        keys = [(minibatch, b, genome.levels[:n].tobytes()) for b, n in enumerate(self._before)]
        start = max((b for b, key in enumerate(keys) if b and key in self._states), default=0)
        self.blocks_requested += len(keys)
        self.blocks_run += len(keys) - start
        hooks = [
            self._layers[block].register_forward_pre_hook(self._storing_hook(keys[block]), with_kwargs=True)
            for block in range(start + 1, len(keys))
        ]
        if start:
            hook = self._replacing_hook(keys[start])
            hooks.append(self._layers[start].register_forward_pre_hook(hook, with_kwargs=True))
        else:
            hooks.append(self._layers[0].register_forward_hook(self._note_outputs))
        for layer in self._layers[:start]:
            layer.forward = self._pass_through
        try:
            yield
        finally:
            for layer in self._layers[:start]:
                del layer.forward
            for handle in hooks:
                handle.remove()

    def _pass_through(self, *args: Any, **kwargs: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        return hidden if self._rest is None else (hidden, *self._rest)

    def _note_outputs(self, _: Any, __: Any, output: Any) -> None:
        self._rest = output[1:] if isinstance(output, tuple) else None

    def _storing_hook(self, key: Key) -> Any:
        def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._store(key, args[0] if args else kwargs["hidden_states"])

        return hook

    def _replacing_hook(self, key: Key) -> Any:
        def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            self._states.move_to_end(key)
            hidden = self._states[key]
            return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})

        return hook

    def _store(self, key: Key, hidden: torch.Tensor) -> None:
        if hidden.nbytes > self.maximum or key in self._states:
            return
        self._states[key] = hidden
        self.bytes += hidden.nbytes
        while self.bytes > self.maximum:
            _, dropped = self._states.popitem(last=False)
            self.bytes -= dropped.nbytes
