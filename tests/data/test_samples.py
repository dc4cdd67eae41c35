"""Samples that are given from Python, kept, and read again."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sparsesearch as ss
from sparsesearch.data import Samples
from sparsesearch.data.python_inputs import inputs_of_forward, samples_by_role, samples_from_arrays
from sparsesearch.data.samples import ordered_names
from sparsesearch.errors import DamagedFile, InputError
from sparsesearch.export.verify_in_process import outputs_of

X, Y = torch.randn(6, 3), torch.arange(6) % 2


class Takes(nn.Module):
    """Networks by the inputs that they take."""

    def one(self, x: Any) -> Any: ...

    def two(self, x: Any, y: Any) -> Any: ...

    def perhaps(self, x: Any, mask: Any = None, *, scale: float = 1.0) -> Any: ...

    def any(self, *x: Any) -> Any: ...

    @classmethod
    def as_many(cls, name: str) -> range:
        module = cls()
        module.forward = getattr(module, name)  # type: ignore[method-assign]
        return inputs_of_forward(module)


def test_inputs_are_counted_by_the_signature() -> None:
    counts = [Takes.as_many(name) for name in ("one", "two", "perhaps")]
    assert counts == [range(1, 2), range(2, 3), range(1, 3)]
    assert 1 in Takes.as_many("any")
    assert 50 in Takes.as_many("any")
    assert inputs_of_forward(nn.Sequential(nn.Linear(2, 2))) == range(1, 2)


@pytest.mark.parametrize(
    ("takes", "calibration", "selection", "inputs", "labelled"),
    [
        ("one", X, (X, Y), 1, True),
        ("one", X, X.numpy(), 1, False),
        ("one", (X, Y), (X, Y), 1, True),
        ("two", (X, X), (X, X, Y), 2, True),
        ("two", (X, X), ((X, X), Y), 2, True),
        ("two", (Y, Y), (Y, Y), 2, False),  # a user and an item
        ("two", (Y, Y), (Y, Y, Y), 2, True),
        ("perhaps", X, (X, Y), 1, True),
        ("perhaps", (X, X > 0), (X, X > 0), 2, False),
        ("any", (X, X, X), (X, X, X, Y), 3, True),
    ],
)
def test_labels_are_what_follows_the_inputs(
    takes: str, calibration: Any, selection: Any, inputs: int, labelled: bool
) -> None:
    samples = samples_by_role({"selection": selection, "calibration": calibration}, Takes.as_many(takes))["selection"]
    assert len(samples.arrays) == inputs
    assert (samples.labels is not None) == labelled
    if samples.labels is not None:
        assert samples.labels.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (nn.functional.one_hot(Y), r"int64 \(6, 2\)"),
        (Y.float(), r"float32 \(6,\)"),
        (Y.bool(), r"bool \(6,\)"),
        (Y[:, None], r"int64 \(6, 1\)"),
        (Y - 1, r"int64 \(6,\) with negative values"),
        (torch.zeros(6, 4, 4, dtype=torch.long), r"int64 \(6, 4, 4\)"),
    ],
)
@pytest.mark.parametrize("takes", ["one", "perhaps", "any"])
def test_labels_that_are_none_get_one_line(labels: Any, words: str, takes: str) -> None:
    with pytest.raises(InputError, match=f"SS212 selection data: labels must be a vector of classes.*{words}"):
        samples_by_role({"calibration": X, "selection": (X, labels)}, Takes.as_many(takes))


@pytest.mark.parametrize(
    ("given_data", "words"),
    [
        ((X, X, X, Y), "4 arrays of inputs are given, the network takes 1"),
        ((), "0 arrays of inputs are given"),
        (None, "inputs must be arrays or tensors"),
        ("text", "inputs must be arrays or tensors"),
        ({"x": X}, "inputs must be arrays or tensors"),
        ([[1, 2], [3]], "arrays"),
        (torch.tensor(1.0), "whose first axis counts samples"),
        (X[:0], r"arrays have \[0\] samples"),
        ((X, Y[:4]), r"arrays have \[4, 6\] samples"),
        (np.array(["a", "b"]), "inputs must be arrays or tensors"),
        (X.to_sparse(), "inputs must be arrays or tensors"),
    ],
)
def test_what_is_no_array_gets_one_line(given_data: Any, words: str) -> None:
    with pytest.raises(InputError, match="SS204 selection data: ") as caught:
        samples_from_arrays("selection", given_data, range(1, 2))
    assert words.replace("\\", "") in str(caught.value)


def test_a_search_refuses_data_before_anything_runs(tmp_path: Path) -> None:
    recipe = {"units": [{"kind": "channels"}]}
    for data, code in ((X, "SS204"), ({"calibration": X, "selection": (X, Y.float())}, "SS212")):
        with pytest.raises(InputError, match=code):
            ss.search(nn.Linear(3, 2), recipe, data=data, results=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"SS101 .*are for a module"):
        ss.search(recipe, data={"calibration": X}, results=tmp_path)
    assert not list(tmp_path.iterdir())


def test_more_than_ten_inputs_keep_their_order(tmp_path: Path) -> None:
    arrays = tuple(torch.full((2, 1), float(i)) for i in range(12))
    samples = samples_from_arrays("calibration", arrays)
    samples.save(tmp_path)
    again = Samples.load(tmp_path)
    assert again.digest == samples.digest
    assert list(again.arrays) == [str(i) for i in range(12)]
    assert [int(t[0]) for t in again.inputs_on_cpu()] == list(range(12))
    assert [int(t[0]) for t in again.inputs(nn.Linear(1, 1)).values()] == list(range(12))

    class Last(nn.Module):
        def forward(self, *x: torch.Tensor) -> torch.Tensor:
            return x[-1]

    assert outputs_of(Last(), dict(sorted(again.inputs(nn.Linear(1, 1)).items())))[0] == 11


@given(st.permutations([*map(str, range(13)), "mask", "input_ids"]))
def test_names_are_in_the_order_of_numbers(names: list[str]) -> None:
    assert ordered_names(names) == [*map(str, range(13)), "input_ids", "mask"]


def test_booleans_stay_booleans_and_complex_numbers_complex() -> None:
    arrays = (X > 0, torch.view_as_complex(torch.randn(6, 2)), X.double(), Y.int(), X.bfloat16())
    tensors = list(samples_from_arrays("calibration", arrays, range(5, 6)).inputs(nn.Linear(2, 2).half()).values())
    kinds = [torch.bool, torch.complex64, torch.float16, torch.int64, torch.float16]
    assert [t.dtype for t in tensors] == kinds
    assert torch.equal(tensors[0], X > 0)
    assert torch.equal(tensors[1], arrays[1])


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def longer(path: Path) -> None:
    np.save(path, np.zeros((9, 4), np.int32))


def single(path: Path) -> None:
    np.save(path, np.int32(3))


@pytest.mark.parametrize("damage", [pickled, longer, single])
def test_damaged_samples_get_one_line(damage: Any, tmp_path: Path) -> None:
    Samples({"0": np.zeros((8, 4), np.int32), "1": np.zeros((8, 4), np.int32)}).save(tmp_path)
    damage(tmp_path / "1.npy")
    with pytest.raises(DamagedFile, match=f"SS601 {tmp_path}.* is damaged"):
        Samples.load(tmp_path)


def test_no_samples_at_all(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="SS601"):
        Samples.load(tmp_path)
    (tmp_path / "0.npy").mkdir()
    with pytest.raises(DamagedFile, match=r"SS601 .*0\.npy is damaged"):
        Samples.load(tmp_path)


@given(st.data())
def test_any_flipped_byte_of_a_header_is_samples_or_one_line(data: st.DataObject) -> None:
    import tempfile

    buffer = io.BytesIO()
    np.save(buffer, np.arange(32, dtype=np.int32).reshape(8, 4))
    content = bytearray(buffer.getvalue())
    content[data.draw(st.integers(0, 127))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as place:
        Path(place, "0.npy").write_bytes(content[: data.draw(st.integers(0, len(content)))])
        try:
            assert len(Samples.load(Path(place))) >= 0
        except DamagedFile as error:
            assert "\n" not in str(error)
