"""Images as arrays, from a folder, Parquet files with image bytes, or a `datasets` id.

A folder holds images, or a folder for each class (their sorted names are the classes 0, 1, ...). Tables have a column
of images (bytes, or `{bytes, path}` as `datasets` writes them) and perhaps one of integer labels.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from sparsesearch.calibration.samples import Samples
from sparsesearch.calibration.tables import HUB, column_of, is_table, rows_of, sources_of
from sparsesearch.config import DataConfig, ImageConfig
from sparsesearch.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
# Share of unreadable images above which data are refused.
UNREADABLE = 0.01
# An image (bytes, path or PIL image) and its class.
Item = tuple[Any, int | None]


def image_samples(data: DataConfig, directory: Path | None, role: str) -> Samples:
    """`data.sequences` images as float32 (samples, 3, height, width), with labels where there are any.

    Args:
        directory: of a model, whose preprocessor_config.json serves where the recipe says nothing.

    Raises InputError SS204 (missing, too few) or SS212 (unreadable).
    """
    samples = next(image_batches(data, directory, role, data.sequences))
    if len(samples) < data.sequences and not data.fewer:
        raise InputError(
            "SS204", f"{role} data ({data.source}) has {len(samples)} of {data.sequences} images.",
            f"Give more images, or set data.{role}.sequences lower.",
        )  # fmt: skip
    return samples


def image_batches(data: DataConfig, directory: Path | None, role: str, size: int) -> Iterator[Samples]:
    """All images in batches of `size`; raises as `image_samples` does."""
    readable = _readable(data, image_config(data, directory, role), role)
    while batch := list(itertools.islice(readable, size)):
        labels = [label for _, label in batch]
        known = None if any(label is None for label in labels) else np.array(labels, dtype=np.int64)
        yield Samples({"pixel_values": np.stack([pixels for pixels, _ in batch])}, known)


def _readable(data: DataConfig, wanted: ImageConfig, role: str) -> Iterator[tuple[npt.NDArray[np.float32], int | None]]:
    """Pixels and class of each image that can be read; raises InputError SS212 where too many cannot."""
    bad = seen = 0
    for seen, (image, label) in enumerate(_chosen(data, role), 1):
        try:
            yield _pixels(image, wanted), label
        except (UnidentifiedImageError, OSError, ValueError):
            bad += 1
        if bad > max(1, UNREADABLE * max(seen, data.sequences)):
            break
    else:
        if bad < seen:
            return
    raise InputError(
        "SS212", f"{role} data: {bad} of {seen} images of {data.source} cannot be read.",
        "Repair or remove them; up to 1 % are skipped.",
    )  # fmt: skip


def image_config(data: DataConfig, directory: Path | None, role: str) -> ImageConfig:
    """Size and normalisation: the recipe's, else those of the model's preprocessor."""
    if data.image is not None:
        return data.image
    path = None if directory is None else directory / "preprocessor_config.json"
    if path is None or not path.is_file():
        raise InputError(
            "SS204", f"{role} data: how images are resized and normalised is not known.",
            f"Set data.{role}.image: {{size: 224, mean: [...], std: [...]}}.",
        )  # fmt: skip
    saved = json.loads(path.read_text())
    size = saved.get("crop_size") or saved["size"]
    height = size if isinstance(size, int) else size.get("height") or size.get("shortest_edge")
    return ImageConfig(size=height, mean=saved.get("image_mean", [0.0] * 3), std=saved.get("image_std", [1.0] * 3))


def _pixels(image: Any, wanted: ImageConfig) -> npt.NDArray[np.float32]:
    if not isinstance(image, Image.Image):
        image = Image.open(io.BytesIO(image) if isinstance(image, bytes) else image)
    image = image.convert("RGB")
    if image.size != (wanted.size, wanted.size):
        image = image.resize((wanted.size, wanted.size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.float32) / 255
    normalised = (pixels - np.array(wanted.mean, np.float32)) / np.array(wanted.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1), dtype=np.float32)


def _chosen(data: DataConfig, role: str) -> Iterator[Item]:
    """Items in the order that they are taken in: the first ones, or spread over all of a known number."""
    items = list(_items(data, role)) if not any(s.startswith(HUB) for s in sources_of(data)) else None
    if items is None:
        yield from _items(data, role)
        return
    if not items:
        raise InputError("SS204", f"{role} data: {data.source} holds no images.")
    if data.take == "first" or len(items) <= data.sequences:
        yield from items
        return
    spread = np.linspace(0, len(items) - 1, data.sequences).round().astype(int).tolist()
    taken = set(spread)
    yield from (items[i] for i in spread)
    yield from (item for i, item in enumerate(items) if i not in taken)  # in place of unreadable ones


def _items(data: DataConfig, role: str) -> Iterator[Item]:
    for source in sources_of(data):
        if is_table(source):
            yield from _table(source, data, role)
        elif (path := Path(source).expanduser()).is_dir():
            yield from _folder(path)
        else:
            raise InputError(
                "SS204", f"{role} data: {source} is neither a folder of images nor a .parquet file.",
                f"Set data.{role}.source.",
            )  # fmt: skip


def _folder(path: Path) -> Iterator[Item]:
    classes = sorted(p.name for p in path.iterdir() if p.is_dir())
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in SUFFIXES:
            yield file, classes.index(file.relative_to(path).parts[0]) if classes else None


def _table(source: str, data: DataConfig, role: str) -> Iterator[Item]:
    for row in rows_of(source, role):
        image = column_of(row, data.column if data.column in row else "image", source, role)
        yield image["bytes"] if isinstance(image, dict) else image, row.get(data.label)
