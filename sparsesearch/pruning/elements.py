"""An order of removal and levels from a score of each element, for all structured pruners by score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.pruning.checked import callable_name, check_scores
from sparsesearch.pruning.layer import Group, Structured, kept_inputs
from sparsesearch.pruning.obs import damped_system, refit_levels

# (group, options) -> scores (E,), of which the lowest are removed first
ElementScore = Callable[[Group, PrunerConfig], torch.Tensor]


def by_element_score(score: ElementScore) -> Structured:
    """Return the pruner that removes elements of lowest score first, ties by index.

    It has the score's name and docstring. Weights of kept inputs stay unchanged, or with `options.refit` become the
    least-squares refit.
    """

    @wraps(score)
    def prune(
        group: Group, kept: Sequence[int], options: PrunerConfig
    ) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
        removed = group.elements - min(kept, default=group.elements)
        scores = score(group, options)
        check_scores(f"score {callable_name(score)!r}", scores, (group.elements,))
        order = scores.argsort(stable=True)[:removed].cpu()
        if options.refit:
            systems = [damped_system(reader, options.damp) for reader in group.readers]
            return order, refit_levels(group.readers, systems, order, kept)
        return order, [
            [reader.layer.weight_OI[:, kept_inputs(reader.index, order, count)] for reader in group.readers]
            for count in kept
        ]

    return prune
