"""What networks are calibrated, judged, trained and tested on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sparsesearch.config.base import LONGEST, Finite, Strict, Text

# A data source that came from Python; only the run directory's own copy can give it back.
PYTHON_SOURCE = "python"


class ImageConfig(Strict):
    """How images become arrays: square of `size` pixels, (pixel / 255 - mean) / std for red, green, blue."""

    size: int = Field(ge=1, le=4096)
    mean: list[Finite] = Field([0.0, 0.0, 0.0], min_length=3, max_length=3)
    std: list[Annotated[Finite, Field(gt=0)]] = Field([1.0, 1.0, 1.0], min_length=3, max_length=3)


class DataConfig(Strict):
    """Text as windows of `length` tokens, or images.

    `source` is a file of text, a table (.jsonl, .json, .csv, .tsv, .parquet), `stdlib:calibration|selection|test` or
    `datasets:ID[:CONFIG[:SPLIT]]`, or a list of them, also gzipped (.gz); for images a folder (with a folder for each
    class), tables or a `datasets` id.
    """

    source: Text | Annotated[list[Text], Field(min_length=1)]
    # Windows, or images; with `fewer` what there is where the source has not so many.
    sequences: int = Field(128, ge=1, le=LONGEST)
    fewer: bool = False
    length: int = Field(256, ge=2, le=LONGEST)
    # Of tables: the column of texts; where there is no `text`, the only one that can be meant.
    column: Text = "text"
    # Of tables: the column of integer classes. A classifier of texts takes documents with them one by one.
    label: Text = "label"
    # How images become arrays (the model's own way where null).
    image: ImageConfig | None = None
    # Which windows of a longer text: spread evenly over all of it, or the first ones.
    take: Literal["spread", "first"] = "spread"


class DataConfigs(Strict):
    calibration: DataConfig = DataConfig(source="stdlib:calibration")
    selection: DataConfig = DataConfig(source="stdlib:selection", sequences=64)
    # What candidates are trained on; null: the calibration samples.
    training: DataConfig | None = None
    # Read once, after the search; null for none.
    test: DataConfig | None = None
    # Images that running statistics of batch normalisation are measured on again, for every candidate.
    batch_norm: int = Field(256, ge=1, le=LONGEST)
    # Let roles share windows. Scores are then optimistic; for reproducing papers that did so.
    allow_shared: bool = False
