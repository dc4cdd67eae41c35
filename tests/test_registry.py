"""The registry: names, entries, refusals, and what plug-ins may add."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import pytest

from sparsesearch.errors import InputError
from sparsesearch.registry import Registry


class Animal(ABC):
    @abstractmethod
    def sound(self) -> str: ...


class Dog(Animal):
    def sound(self) -> str:
        return "woof"


class Fish(Animal):
    """Abstract still."""


def animals(**more: Any) -> Registry[type[Animal]]:
    return Registry("animal", {"dog": Dog}, base=Animal, **more)


def test_a_registry_is_a_mapping_in_order_of_registration() -> None:
    registry = animals()
    cat = registry.register("cat")(type("Cat", (Dog,), {}))
    assert (list(registry), len(registry), registry["cat"], registry.find("dog")) == (["dog", "cat"], 2, cat, Dog)
    assert "cow" not in registry
    with pytest.raises(KeyError):
        registry["cow"]


def test_the_decorator_returns_what_it_is_given_and_replaces_an_entry() -> None:
    registry: Registry[tuple[Any, int]] = Registry("rule")

    def rule() -> None: ...

    assert registry.register("mine", lambda function: (function, 1))(rule) is rule
    assert registry["mine"] == (rule, 1)
    registry.register("mine", lambda function: (function, 2))(rule)
    assert registry["mine"] == (rule, 2)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (3, "3 is no subclass of"),
        (str, "class str is no subclass of"),
        (lambda: Dog(), "is no subclass of"),
        (Dog(), "is no subclass of"),
        (Fish, "class Fish does not define sound"),
    ],
)
def test_what_is_no_such_part_is_refused(part: Any, words: str) -> None:
    registry = animals()
    with pytest.raises(InputError, match=f"SS127 animal 'mine': .*{words}"):
        registry.register("mine")(part)
    assert "mine" not in registry


def test_functions_are_callable_and_names_are_text() -> None:
    with pytest.raises(InputError, match="SS127 rule 'mine': 3 is not callable"):
        Registry[Any]("rule").register("mine")(3)
    for name in ("", Dog, None):
        with pytest.raises(InputError, match=r"SS127 animal: registered under .*not under a name"):
            animals().register(name)  # type: ignore[arg-type]


def test_an_unknown_name_is_one_line_with_near_names() -> None:
    with pytest.raises(InputError) as caught:
        animals(listed="animals").find("dgo", key="farm.animal", besides=("auto",))
    text = "SS102 farm.animal 'dgo': unknown animal. Did you mean 'dog'? Allowed: auto, dog. See: sparsesearch list "
    assert str(caught.value) == f"{text}animals"
    with pytest.raises(InputError, match=r"^SS102 unknown animal 'x'\. Allowed: dog\.$"):
        animals().find("x")


def test_entries_are_put_back_whatever_happens() -> None:
    registry = animals()
    with pytest.raises(ZeroDivisionError), registry.restored():
        registry.register("dog")(type("Other", (Dog,), {}))
        registry.register("cat")(Dog)
        assert list(registry) == ["dog", "cat"]
        raise ZeroDivisionError
    assert dict(registry) == {"dog": Dog}


def test_derived_entries_keep_up_and_own_entries_win() -> None:
    sizes = ["small"]
    registry = animals(derived=lambda: {f"dog:{size}": Dog for size in sizes})
    assert list(registry) == ["dog", "dog:small"]
    sizes.append("large")
    override = registry.register("dog:small")(type("Own", (Dog,), {}))
    assert list(registry) == ["dog", "dog:small", "dog:large"]
    assert (registry["dog:small"], registry["dog:large"], len(registry)) == (override, Dog, 3)
