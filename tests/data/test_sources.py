"""Files as what they are: text in pieces, tables of every format, and one line for everything else."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsesearch.config import DataConfig
from sparsesearch.data import sources
from sparsesearch.data.documents import labelled_documents
from sparsesearch.data.samples import Samples
from sparsesearch.data.sources import document_pieces, join_lines, text_lines
from sparsesearch.data.tables import is_table, rows_of
from sparsesearch.data.text import check_vocabulary, samples_of, token_windows
from sparsesearch.demo import corpus
from sparsesearch.errors import EnvironmentProblem, InputError, machine_problem
from sparsesearch.export.measuring.quality import evaluate_text, text_windows
from sparsesearch.models import load_tokenizer
from sparsesearch.models.load import DEMO
from sparsesearch.models.task import TASKS

Make = Callable[[str], Path]
DOCUMENTS = [f'{text[:120]}\n"{i}, ü;\t' for i, text in enumerate(corpus.documents("test")) if i < 12]
TABLE = pd.DataFrame({"id": range(12), "text": DOCUMENTS, "label": [i % 3 for i in range(12)]})
LINES = TABLE.to_dict("records")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    demo = load_tokenizer(DEMO)
    demo.pad_token = demo.eos_token
    return demo


def put(path: Path, content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def windows(source: str, tokenizer: Any, **changes: Any) -> Any:
    data = DataConfig(**{"source": source, "sequences": 4, "length": 16} | changes)  # type: ignore[arg-type]
    return token_windows(data, tokenizer, "selection")


FORMATS = {
    "t.jsonl": TABLE.to_json(orient="records", lines=True),
    "t.ndjson": "\n\n".join(json.dumps(row) for row in LINES),
    "lines.json": TABLE.to_json(orient="records", lines=True),
    "records.json": json.dumps(LINES, indent=1),
    "columns.json": TABLE.to_json(),
    "lists.json": json.dumps(TABLE.to_dict("list")),
    "data.json": json.dumps({"version": 1, "data": LINES}),
    "t.csv": TABLE.to_csv(index=False),
    "index.csv": TABLE.to_csv(),
    "semicolons.CSV": TABLE.to_csv(sep=";", index=False),
    "t.tsv": TABLE.to_csv(sep="\t", index=False),
    "crlf.csv": "\ufeff" + TABLE.to_csv(index=False, lineterminator="\r\n"),
    "utf16.csv": TABLE.to_csv(index=False).encode("utf-16"),
}


@pytest.mark.parametrize("name", [*FORMATS, *(f"{name}.gz" for name in FORMATS)])
def test_tables_of_every_format_hold_the_same_texts_and_classes(name: str, tmp_path: Path, tokenizer: Any) -> None:
    source = put(tmp_path / name, FORMATS[name.removesuffix(".gz")])
    assert is_table(source)
    assert [row["text"] for row in rows_of(source, "selection")] == DOCUMENTS
    expected = token_windows(DataConfig(source="x", sequences=4, length=16), tokenizer, "selection", DOCUMENTS)
    assert np.array_equal(windows(source, tokenizer), expected)
    data = DataConfig(source=source, sequences=12, length=8)
    labelled = labelled_documents(data, tokenizer, "selection")
    assert labelled is not None
    assert labelled.labels is not None
    assert labelled.labels.tolist() == TABLE["label"].tolist()
    assert np.array_equal(text_windows(tokenizer, Path(source), 16)[:1], expected[:1])


@pytest.mark.parametrize(
    ("columns", "wanted", "found"),
    [
        ({"text": ["a b"], "body": ["c d"]}, "text", "a b"),
        ({"text": ["a b"], "body": ["c d"]}, "body", "c d"),
        ({"title": ["a b"], "body": ["c d"]}, "text", "c d"),
        ({"id": ["12"], "prose": ["c d"]}, "text", "c d"),
        ({"Text": ["a b"], "url": ["c d"]}, "text", "a b"),
        ({"sentence": [None, "a b"], "idx": [1, 2]}, "text", "a b"),
    ],
)
def test_the_column_of_texts_is_the_one_asked_for_or_the_only_likely_one(
    columns: dict[str, Any], wanted: str, found: str, tmp_path: Path, tokenizer: Any
) -> None:
    source = put(tmp_path / "t.json", json.dumps(columns))
    ids = windows(source, tokenizer, sequences=1, length=2, column=wanted, take="first")
    assert ids[0].tolist() == tokenizer(found, add_special_tokens=False)["input_ids"][:2]


def test_rows_without_text_are_left_out_and_counted(
    tmp_path: Path, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [*DOCUMENTS[:3], None, "", *DOCUMENTS[3:], None]
    source = put(tmp_path / "t.jsonl", "\n".join(json.dumps({"text": text}) for text in texts) + '\n{"other": 1}\n')
    assert np.array_equal(
        windows(source, tokenizer),
        token_windows(DataConfig(source="x", sequences=4, length=16), tokenizer, "", DOCUMENTS),
    )
    assert [record.message for record in caplog.records] == [
        f"selection data: 3 rows of {source} have no text and are skipped."
    ]


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a", "b")
    return buffer.getvalue()


def as_parquet() -> bytes:
    buffer = io.BytesIO()
    TABLE.to_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.txt", FORMATS["t.jsonl"], "its content is JSON"),
        ("t.md", FORMATS["records.json"], "its content is JSON"),
        ("t.csv", FORMATS["t.jsonl"], "its content is JSON"),
        ("t.txt", as_parquet(), "its content is a Parquet file (name it .parquet)"),
        ("t.jsonl", as_parquet(), "its content is a Parquet file"),
        ("t.txt", gzip.compress(b"some text", mtime=0), "its content is gzipped (name it .gz)"),
        ("t.jsonl.bz2", bz2.compress(b"some text"), "its content is compressed by bzip2"),
        ("t.txt", b"%PDF-1.7", "its content is a PDF"),
        ("t.xlsx", archive(), "its content is a zip archive"),
        ("t.pkl", pickle.dumps([1, 2]), "its content is a pickle"),
        ("t.txt", "half a text\0 and half none", "it holds NUL characters"),
        ("t.txt", "Text".encode("utf-16-le"), "it holds NUL characters"),
        ("t.txt", "Überschrift".encode("latin-1"), "not UTF-8 text"),
        ("t.csv", "text\nÜberschrift\n".encode("latin-1"), "not UTF-8 text"),
        ("t.jsonl", b'{"text": "\xff"}', "not UTF-8 text"),
        ("t.jsonl", '{"text": "a"}\n{"text": "b"\n', "line 2: not JSON"),
        ("t.jsonl", '{"text": "a"}\n["b"]\n', "row 2 is list, not a JSON object"),
        ("t.jsonl", "[" * 100_000, "line 1: not JSON"),
        ("t.jsonl", '{"text": "a"}\n{"text": ["b"]}\n', "holds list in row 2, not text"),
        ("t.json", "", "not JSON"),
        ("t.json", "3", "it is not a list of objects"),
        ("t.json", '{"text": ["a"], "label": [1, 2]}', "it is not a list of objects"),
        ("t.json", '["a", "b"]', "row 1 is str, not a JSON object"),
        ("t.csv", "", "it is empty"),
        ("t.csv", "id,text,text\n1,a,b\n", "two columns are named 'text'"),
        ("t.csv", "id,text\n1,a\n2,a,b\n", "row 2 has 3 values, the header has 2 columns"),
        ("t.csv", "id,text\n1\n", "row 1 has 1 values, the header has 2 columns"),
        ("t.csv", 'id,text\n1,"a\n', "unexpected end of data"),
        ("t.csv", 'id,text\n1,"a" b\n', "line 2: ',' expected after '\"'"),
        ("t.csv", "id,text\n", "has 0 of 4 sequences"),
        ("t.txt", "", "has 0 of 4 sequences"),
        ("t.txt", "too short", "of 4 sequences of 16 tokens"),
        ("t.jsonl", '{"text": "\\ud800 half"}', "a document cannot be tokenised"),
        ("t.parquet", b"", "cannot read"),
        ("t.parquet", as_parquet()[:-20], "cannot read"),
        ("t.parquet.gz", as_parquet(), "cannot read"),
    ],
)
def test_what_is_no_text_gets_one_line_that_names_the_file(
    name: str, content: str | bytes, words: str, tmp_path: Path, tokenizer: Any
) -> None:
    source = put(tmp_path / name, content)
    with pytest.raises(InputError, match="SS204") as caught:
        windows(source, tokenizer)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value) or "tokenised" in words


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(b"text " * 1000, mtime=0)[:-12], b"\x1f\x8b\x08" + b"\0" * 40]
)
@pytest.mark.parametrize("name", ["t.txt.gz", "t.csv.gz", "t.jsonl.gz"])
def test_damaged_gzip_gets_one_line(content: bytes, name: str, tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"SS204 selection data: cannot read .*{name}"):
        windows(str(tmp_path / name), tokenizer)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("a\0b", "null byte"),
        ("a" * 5000, "File name too long"),
        ("~nobody-of-that-name/x.txt", "cannot read"),
        ("", "a folder"),
        (".", "a folder"),
        ("*.txt", "No such file"),
        ("*.jsonl", "No such file"),
        ("/dev/zero", "not a regular file"),
        ("pipe", "not a regular file"),
        ("pipe.csv", "not a regular file"),
        ("loop", "symbolic links"),
    ],
)
def test_sources_that_are_no_files_get_one_line(
    source: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    os.mkfifo("pipe.csv")
    Path("loop").symlink_to("loop")
    with pytest.raises(InputError, match="SS204") as caught:
        samples_of(DataConfig(source="x").model_copy(update={"source": source}), TASKS["causal"], DEMO, "selection")
    assert words in str(caught.value)


def test_gzipped_and_marked_text_is_the_text(tmp_path: Path, tokenizer: Any) -> None:
    text = "".join(DOCUMENTS)
    expected = windows(put(tmp_path / "t.txt", text), tokenizer)
    for name, content in (("t.txt.gz", text), ("8.txt", "\ufeff" + text), ("16.txt", text.encode("utf-16"))):
        assert np.array_equal(windows(put(tmp_path / name, content), tokenizer), expected), name


def whole_pieces(text: str, size: int) -> list[str]:
    """Pieces as of a text that is in memory as a whole."""
    pieces, piece = [], ""
    for line in text.splitlines(keepends=True):
        piece += line
        if len(piece) >= size:
            pieces.append(piece)
            piece = ""
    return pieces + [piece] * bool(piece)


@given(st.text(st.sampled_from("ab \n\r\x0b\u2028é"), max_size=200), st.integers(1, 30))
def test_pieces_of_a_stream_are_those_of_the_whole_text(text: str, size: int) -> None:
    assert list(join_lines(io.StringIO(text, newline=None), size)) == whole_pieces(
        io.StringIO(text, newline=None).read(), size
    )


def test_long_lines_are_cut_before_spaces_where_there_are_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Any
) -> None:
    monkeypatch.setattr(sources, "PIECE_CHARACTERS", 64)
    words = "one two three " * 40
    lines = list(text_lines(put(tmp_path / "t.txt", f"short\n{words}\n{'x' * 300}\nlast"), "selection"))
    assert "".join(lines) == f"short\n{words}\n{'x' * 300}\nlast"
    assert lines[0] == "short\n"
    assert max(map(len, lines)) <= 2 * 64
    assert all(line[0] == " " for line in lines[2:9])
    monkeypatch.setattr(sources, "MAX_DOCUMENT_CHARACTERS", 100)
    assert list(document_pieces("a b")) == ["a b"]
    assert "".join(document_pieces(words)) == words
    assert len(list(document_pieces(words))) > 4


def test_a_text_of_many_megabytes_in_one_line(tmp_path: Path, tokenizer: Any) -> None:
    ids = windows(put(tmp_path / "t.txt", "x" * 3 * 2**20), tokenizer)
    assert ids.shape == (4, 16)


def test_rows_of_endless_length_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Any) -> None:
    from sparsesearch.data import tables

    monkeypatch.setattr(tables, "MAX_ROW_CHARACTERS", 64)
    for name, content in (("t.jsonl", json.dumps({"text": "x" * 99})), ("t.csv", "text\n" + "x" * 99)):
        with pytest.raises(InputError, match=r"SS204 .* has more than 64 characters"):
            windows(put(tmp_path / name, content), tokenizer)


def test_tokens_that_the_model_has_no_embedding_of(family_dir: Make) -> None:
    model = family_dir("llama")
    check_vocabulary(Samples({"input_ids": np.array([[2047]])}), model, "selection")
    with pytest.raises(InputError, match=r"SS204 selection data: the tokenizer gives token 2,048, and the model has"):
        check_vocabulary(Samples({"input_ids": np.array([[2048]])}), model, "selection")


def test_evaluate_reads_tables(family_dir: Make, tmp_path: Path) -> None:
    text = "".join(DOCUMENTS)
    plain = evaluate_text(str(family_dir("llama")), Path(put(tmp_path / "t.txt", text)), 16, None, 4)
    source = put(tmp_path / "t.jsonl.gz", json.dumps({"body": text}))
    assert evaluate_text(str(family_dir("llama")), Path(source), 16, None, 4) == plain
    with pytest.raises(InputError, match=r"SS204 --text data: cannot read .*its content is JSON"):
        evaluate_text(str(family_dir("llama")), Path(put(tmp_path / "x.txt", FORMATS["t.jsonl"])), 16, None, 4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is damaged: not JSON"),
        ("[]", "is damaged: expected a JSON object, got list"),
        ("{}", "were chosen for another kind of model"),
    ],
)
def test_a_damaged_choice_gets_one_line(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "choice.json").write_text(content)
    with pytest.raises(InputError, match="SS204") as caught:
        samples_of(DataConfig(source=str(tmp_path)), TASKS["causal"], DEMO, "calibration")
    assert words in str(caught.value)


def test_a_full_temporary_directory_is_one_line(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(open, "/dev/full", "wb"))
    path = tmp_path / "text.txt"
    path.write_text("some words of a text. " * 100)
    with pytest.raises(EnvironmentProblem, match=r"SS305 cannot write to .*: no space left"):
        token_windows(DataConfig(source=str(path), sequences=2, length=16), tokenizer, "calibration")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (RuntimeError("I/O error: File too large (os error 27)"), "SS312 cannot write X: File too large"),
        (RuntimeError("I/O error: Disk quota exceeded (os error 122)"), "SS305 cannot write X: no space left"),
        (ImportError("libx.so: failed to map segment from shared object"), "SS309 cannot write X: out of memory"),
    ],
)
def test_what_libraries_say_of_the_machine_is_one_line(said: Exception, code: str) -> None:
    assert str(machine_problem(said, "cannot write X")).startswith(code)


def test_what_numpy_says_of_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("wb") as file, pytest.raises(OSError, match="requested and") as caught:
        np.zeros(10_000).tofile(file)
    assert str(machine_problem(caught.value, "cannot write X")).startswith("SS305 cannot write X: no space left")
