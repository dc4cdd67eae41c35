"""Data sets on which networks are calibrated, measured, trained and tested."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sparsesearch.config.base import LONGEST, Finite, Strict, Text

# Source of data that were given as Python objects; they can be read back only from the copy in the run directory.
PYTHON_SOURCE = "python"


class ImageConfig(Strict):
    """How images become arrays: resized to a square, then (pixel / 255 - mean) / std for red, green and blue."""

    size: int = Field(ge=1, le=4096, description="Height and width in pixels, to which every image is resized.")
    mean: list[Finite] = Field(
        [0.0, 0.0, 0.0],
        min_length=3,
        max_length=3,
        description="Mean of red, green and blue, in units of pixel / 255.",
    )
    std: list[Annotated[Finite, Field(gt=0)]] = Field(
        [1.0, 1.0, 1.0],
        min_length=3,
        max_length=3,
        description="Standard deviation of red, green and blue, in units of pixel / 255.",
    )


class DataConfig(Strict):
    """A data set: text as windows of `length` tokens, or images."""

    source: Text | Annotated[list[Text], Field(min_length=1)] = Field(
        description="A text file, a table (.jsonl, .json, .csv, .tsv, .parquet), `stdlib:calibration|selection|test`, "
        "`datasets:ID[:CONFIG[:SPLIT]]`, or a list of these; text files and tables but .parquet may be gzipped (.gz). "
        "Images: a folder (with a folder for each class), tables or a `datasets` id."
    )
    sequences: int = Field(
        128, ge=1, le=LONGEST, description="Number of windows, or of images, or of documents of a labelled table."
    )
    fewer: bool = Field(
        False, description="Take what there is if the source has fewer than `sequences`; false: that is an error."
    )
    length: int = Field(256, ge=2, le=LONGEST, description="Tokens of a window.")
    column: Text = Field(
        "text",
        description="Column of a table that holds the texts; without a column `text`, the default takes the only one "
        "that can be meant.",
    )
    label: Text = Field(
        "label",
        description="Column of a table that holds integer classes; a classifier of texts then takes documents one by "
        "one.",
    )
    image: ImageConfig | None = Field(
        None, description="How images become arrays; null: by the model's own image processor."
    )
    take: Literal["spread", "first"] = Field(
        "spread", description="Which windows or images: `spread` evenly over the whole source, or the `first` ones."
    )


class DataConfigs(Strict):
    """The data set of each role."""

    calibration: DataConfig = Field(
        DataConfig(source="stdlib:calibration"), description="Data on which pruners collect statistics of inputs."
    )
    selection: DataConfig = Field(
        DataConfig(source="stdlib:selection", sequences=64),
        description="Data on which a search measures its candidates.",
    )
    training: DataConfig | None = Field(
        None,
        description="Data on which candidates, supernets and searches by gradient are trained; null: the calibration "
        "data.",
    )
    test: DataConfig | None = Field(
        None, description="Data on which the front is measured, once, after the search; null: it is not."
    )
    batch_norm: int = Field(
        256,
        ge=1,
        le=LONGEST,
        description="Number of calibration images on which running statistics of batch normalisation are measured "
        "again for every candidate.",
    )
    allow_shared: bool = Field(
        False,
        description="Let roles share windows, for reproducing papers that did so; scores are then optimistic.",
    )
