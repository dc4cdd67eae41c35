"""A form: one way of writing a candidate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet

# Makes the model of a candidate, float32.
Maker = Callable[[], Any]
# Returns the maker of a candidate's model in a form; raises CannotTakeForm.
Plan = Callable[[StitchedSupernet, Genome], Maker]


class CannotTakeForm(Exception):
    """A candidate cannot be written in a form; the text is the reason, a clause without a full stop."""


@dataclass(frozen=True)
class Form:
    """One way of writing a candidate.

    Attributes:
        about: one line for `sparsesearch list forms`.
        plan: returns the maker of a candidate's model; raises CannotTakeForm.
        ways: ways to load it, as `verify_in_process.py` names them; each is verified in a fresh process.
        code: returns the files of Python, by name, that go with it.
        notes: returns sentences that a user must know, from the number of parameters of the `params` written, of the
            `candidate` and of the `dense` model.
    """

    about: str
    plan: Plan
    ways: tuple[str, ...]
    code: Callable[[StitchedSupernet], dict[str, str]] | None = None
    notes: Callable[[Mapping[str, int]], list[str]] | None = None
