"""Tables as a source: images, texts, and documents with their classes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from PIL import Image
from support import run_search

from sparsesearch.config import DataConfig
from sparsesearch.data.documents import labelled_documents
from sparsesearch.data.images import image_samples
from sparsesearch.data.text import samples_of, token_windows
from sparsesearch.demo import corpus
from sparsesearch.errors import InputError
from sparsesearch.export.measuring.quality import evaluate_text
from sparsesearch.models import load_tokenizer
from sparsesearch.models.load import DEMO
from sparsesearch.models.task import TASKS

Make = Callable[[str], Path]
IMAGE = {"size": 12, "mean": [0.5] * 3, "std": [0.25] * 3}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    demo = load_tokenizer(DEMO)
    demo.pad_token = demo.eos_token
    return demo


def table(path: Path, **columns: list[Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)
    return str(path)


def pictures(count: int, seed: int = 0) -> list[bytes]:
    rng, contents = np.random.default_rng(seed), []
    for _ in range(count):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    return contents


def texts(count: int) -> list[str]:
    words = " ".join(corpus.documents("train")).split()
    return [" ".join(words[9 * i : 9 * i + 2 + i % 7]) for i in range(count)]


def test_images_of_bytes_and_of_datasets_equal_those_of_a_folder(tmp_path: Path) -> None:
    made = pictures(6)
    for i, content in enumerate(made):
        (tmp_path / "folder" / f"class{i % 2}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / f"class{i % 2}" / f"{i}.png").write_bytes(content)
    order = [0, 2, 4, 1, 3, 5]
    ordered, labels = [made[i] for i in order], [i % 2 for i in order]
    plain = table(tmp_path / "plain.parquet", image=ordered, label=labels)
    written = [{"bytes": content, "path": None} for content in ordered]
    nested = table(tmp_path / "set" / "train.parquet", image=written, label=labels)
    batches = [
        image_samples(DataConfig(source=source, sequences=6, image=IMAGE, take="first"), None, "selection")  # type: ignore[arg-type]
        for source in (str(tmp_path / "folder"), plain, nested, f"datasets:{tmp_path / 'set'}")
    ]
    for other in batches[1:]:
        assert np.array_equal(other.arrays["pixel_values"], batches[0].arrays["pixel_values"])
        assert other.labels is not None
        assert other.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_unreadable_images_of_a_table_are_skipped_and_too_many_refused(tmp_path: Path) -> None:
    made = pictures(12)
    one = table(tmp_path / "one.parquet", image=[*made[:3], b"no image", *made[3:]], label=list(range(13)))
    samples = image_samples(DataConfig(source=one, sequences=12, image=IMAGE, take="first"), None, "selection")  # type: ignore[arg-type]
    assert samples.labels is not None
    assert 3 not in samples.labels.tolist()
    many = table(tmp_path / "many.parquet", image=[*made[:3], b"no", b"image", *made[3:]])
    with pytest.raises(InputError, match=r"SS212 selection data: 2 of \d+ images of .*many.parquet cannot be read"):
        image_samples(DataConfig(source=many, sequences=12, image=IMAGE, take="first"), None, "selection")  # type: ignore[arg-type]


def test_texts_of_a_table_equal_the_same_documents(tmp_path: Path, tokenizer: Any) -> None:
    documents = texts(40)
    data = DataConfig(source=table(tmp_path / "t.parquet", text=documents), sequences=4, length=16)
    assert np.array_equal(
        token_windows(data, tokenizer, "selection"), token_windows(data, tokenizer, "selection", documents)
    )


def test_documents_are_padded_and_masked(tmp_path: Path, tokenizer: Any) -> None:
    documents = texts(10)
    source = table(tmp_path / "d.parquet", body=documents, stars=[i % 3 for i in range(10)])
    data = DataConfig(source=source, sequences=10, length=8, column="body", label="stars")
    samples = labelled_documents(data, tokenizer, "selection")
    assert samples is not None
    assert samples.labels is not None
    assert samples.labels.tolist() == [i % 3 for i in range(10)]
    assert samples.length == 8
    for row, mask, text in zip(samples.arrays["input_ids"], samples.arrays["attention_mask"], documents, strict=True):
        ids = tokenizer(text)["input_ids"][:8]
        assert row[mask == 1].tolist() == ids
        assert set(row[mask == 0].tolist()) <= {tokenizer.pad_token_id}
    assert labelled_documents(data.model_copy(update={"label": "none"}), tokenizer, "selection") is None
    calibration = samples_of(data.model_copy(update={"sequences": 4}), TASKS["text-classes"], DEMO, "calibration")
    assert calibration.labels is None
    assert set(calibration.arrays) == {"input_ids"}


@pytest.mark.parametrize(
    ("columns", "changes", "words"),
    [
        ({"text": ["a b"] * 3, "label": [0] * 3}, {"sequences": 4}, "has 3 of 4 documents"),
        ({"text": ["a b"] * 4, "label": ["good"] * 4}, {}, "label 'good' is no class"),
        ({"text": [1, 2, 3, 4], "label": [0] * 4}, {}, "not text"),
        ({"body": ["a b"] * 4, "label": [0] * 4}, {"column": "prose"}, "has no column 'prose', only body, label"),
        ({"a": ["a b"] * 4, "b": ["a b"] * 4}, {}, "has no column 'text', nor exactly one of texts, only a, b"),
        ({"text": ["a b"] * 4, "label": [0.0] * 4}, {}, "label 0.0 is no class"),
        ({"text": ["a b"] * 4, "label": [True] * 4}, {}, "label True is no class"),
        ({"text": ["a b"] * 4, "label": [-1] * 4}, {}, "label -1 is no class"),
        ({"text": ["a b"] * 4, "label": [None] * 4}, {}, "label None is no class"),
    ],
)
def test_tables_that_do_not_fit_get_one_line(
    tmp_path: Path, tokenizer: Any, columns: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    data = DataConfig(source=table(tmp_path / "t.parquet", **columns), sequences=4, length=8)
    with pytest.raises(InputError) as caught:
        labelled_documents(data.model_copy(update=changes), tokenizer, "selection")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_cannot_be_read(tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"no table")
    for name in ("broken.parquet", "missing.parquet"):
        with pytest.raises(InputError, match=rf"SS204 selection data: cannot read .*{name}") as caught:
            token_windows(DataConfig(source=str(tmp_path / name)), tokenizer, "selection")
        assert "\n" not in str(caught.value)


def test_a_classifier_of_texts_is_searched_by_its_accuracy(family_dir: Make, tmp_path: Path, tokenizer: Any) -> None:
    model = family_dir("roberta")
    tokenizer.save_pretrained(model)
    sources = {
        role: table(tmp_path / f"{role}.parquet", text=texts(80)[20 * i :][:20], label=[i % 2 for i in range(20)])
        for i, role in enumerate(("calibration", "selection", "test"))
    }
    # Longer than the documents, whose tokens together would not fill as many windows.
    lengths = {"calibration": 12, "selection": 24, "test": 24}
    counts = {"calibration": 4, "selection": 16, "test": 20}
    data = {
        role: {"source": source, "sequences": counts[role], "length": lengths[role], "take": "first"}
        for role, source in sources.items()
    }
    results = run_search(tmp_path / "run", model, data=data, objectives=["error", "nonzeros"])
    assert results.dense is not None
    assert results.dense.quality * 16 == pytest.approx(round(results.dense.quality * 16))
    measured = evaluate_text(str(model), Path(sources["test"]), 12, None, 5)
    assert measured["documents"] == 20
    assert 0 <= measured["accuracy"] <= 1
    assert measured["accuracy"] == evaluate_text(str(model), Path(sources["test"]), 12, None, 20)["accuracy"]
