"""Token windows from every source, and the statistics pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparsesearch.calibration import BlockPass
from sparsesearch.calibration.collect import cosines
from sparsesearch.calibration.statistics import Statistics, load_statistics
from sparsesearch.config import DataConfig
from sparsesearch.data import Samples, token_windows
from sparsesearch.demo import corpus
from sparsesearch.errors import InputError
from sparsesearch.models import describe, load_model, load_tokenizer
from sparsesearch.models.load import DEMO

Make = Callable[[str], Path]
TEXT = "def add(a, b):\n    return a + b\n" * 40


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(DEMO)


def test_all_sources_give_the_same_windows(tmp_path: Path, tokenizer: Any) -> None:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    (tmp_path / "rows.jsonl").write_text(f'{{"text": {TEXT!r}}}\n'.replace("'", '"'))
    data = {"sequences": 5, "length": 16}
    expected = token_windows(DataConfig(source=str(path), **data), tokenizer, "calibration")
    assert expected.shape == (5, 16)
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    rows = {tuple(ids[i : i + 16]) for i in range(0, len(ids), 16)}
    assert all(tuple(row) in rows for row in expected.tolist())
    from_list = token_windows(DataConfig(source=[str(path)], **data), tokenizer, "calibration")
    from_python = token_windows(DataConfig(source="python", **data), tokenizer, "calibration", iter([TEXT]))
    assert np.array_equal(from_list, expected)
    assert np.array_equal(from_python, expected)


def test_a_datasets_source(tmp_path: Path, tokenizer: Any) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    import json

    (folder / "train.jsonl").write_text(json.dumps({"body": TEXT}) + "\n")
    data = DataConfig(source=f"datasets:{folder}", sequences=5, length=16, column="body")
    ids = token_windows(data, tokenizer, "calibration")
    expected = token_windows(data.model_copy(update={"source": "x"}), tokenizer, "calibration", [TEXT])
    assert np.array_equal(ids, expected)
    with pytest.raises(InputError, match=r"SS204 .* has no column 'prose', only body"):
        token_windows(data.model_copy(update={"column": "prose"}), tokenizer, "calibration")


def test_first_windows_are_the_texts_beginning(tokenizer: Any) -> None:
    data = DataConfig(source="python", sequences=3, length=10, take="first")
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert token_windows(data, tokenizer, "test", [TEXT]).flatten().tolist() == ids[:30]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/no/such/file.txt", "cannot read /no/such/file.txt: No such file"),
        ("stdlib:valid", "'valid' is not one of train, calibration, selection, test"),
        ("datasets:/no/such/set", "cannot load data set '/no/such/set'"),
    ],
)
def test_missing_data_gets_one_line(source: str, words: str, tokenizer: Any) -> None:
    with pytest.raises(InputError, match="SS204") as caught:
        token_windows(DataConfig(source=source), tokenizer, "calibration")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_short_text_says_how_many_sequences_it_has(tokenizer: Any) -> None:
    data = DataConfig(source="python", sequences=128, length=2048)
    with pytest.raises(InputError, match=r"SS204 calibration data \(python\) has 0 of 128 sequences of 2048 tokens"):
        token_windows(data, tokenizer, "calibration", [TEXT])


def test_standard_library_splits_are_disjoint_and_not_empty() -> None:
    splits = {split: {p.name for p in corpus.files(split)} for split in ("train", "calibration", "selection", "test")}
    paths = [p for split in ("train", "calibration", "selection", "test") for p in corpus.files(split)]
    assert len(paths) == len(set(paths))
    assert all(len(names) >= 5 for names in splits.values())


def statistics(directory: Path, make: Make, batch: int, tokens: Any) -> list[Statistics]:
    model = load_model(make("llama"), torch.float32)
    blocks = BlockPass(model, describe(model), Samples({"input_ids": tokens}), directory, batch)
    for block in range(3):
        blocks.collect(block)
        blocks.advance(block)
    blocks.close()
    assert not (directory / "hidden.tmp").exists()
    return [load_statistics(directory, block) for block in range(3)]


def test_statistics_equal_direct_second_moments_whatever_the_batch(family_dir: Make, tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, 2048, (6, 16)).astype(np.int32)
    model = load_model(family_dir("llama"), torch.float32)
    inputs: dict[str, torch.Tensor] = {}
    for path in {matrix.input_key for matrix in describe(model).matrices.values()}:
        model.get_submodule(path).register_forward_pre_hook(
            lambda _, args, path=path: inputs.__setitem__(path, args[0])
        )
    model(torch.from_numpy(tokens.astype(np.int64)))
    for batch in (1, 4, 6):
        for block in statistics(tmp_path / str(batch), family_dir, batch, tokens):
            for path, moments in block.items():
                x = inputs[path].flatten(0, 1)
                assert torch.allclose(moments.second_moment[0], x.T @ x / 96, atol=1e-4), path
                assert torch.allclose(moments.mean[0], x.mean(dim=0), atol=1e-5), path
                absolute = inputs[path].abs().mean(dim=1).square().mean(dim=0)
                assert torch.allclose(moments.sequence_square[0], absolute, atol=1e-4), path


def test_an_interrupted_pass_repeats_no_finished_block(family_dir: Make, tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, 2048, (6, 16)).astype(np.int32)
    whole = statistics(tmp_path, family_dir, 4, tokens)
    kept = tmp_path / "block-000.safetensors"
    stamp = kept.stat().st_mtime_ns
    (tmp_path / "block-001.safetensors").unlink()
    again = statistics(tmp_path, family_dir, 4, tokens)
    assert kept.stat().st_mtime_ns == stamp
    for first, second in zip(whole, again, strict=True):
        assert all(torch.equal(first[k].second_moment, second[k].second_moment) for k in first)


def test_a_block_that_does_nothing_has_cosine_1_and_angle_0() -> None:
    hidden = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0))
    assert cosines(hidden, 2 * hidden).numpy() == pytest.approx(1)
    assert cosines(hidden, 2 * hidden).arccos().mean().item() / torch.pi == pytest.approx(0, abs=1e-7)
    assert cosines(hidden, -hidden).arccos().mean().item() / torch.pi == pytest.approx(1, abs=1e-7)
    right = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert (cosines(*right).item(), cosines(*right).arccos().item() / torch.pi) == pytest.approx((0, 0.5))
