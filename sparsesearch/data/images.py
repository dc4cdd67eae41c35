"""Images as arrays, from a folder, Parquet files with image bytes, or a `datasets` id.

A folder holds images, or a folder for each class: classes have the numbers of the model's configuration if it names
them, else those of their sorted names, 0, 1, ... Tables have a column of images (bytes, or `{bytes, path}` as
`datasets` writes them) and perhaps one of integer labels. Arrays are made by the recipe's image options, or by the
model's own processor.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sparsesearch.config import DataConfig, DataConfigs, ImageConfig
from sparsesearch.data.samples import Samples
from sparsesearch.data.sources import existing_path
from sparsesearch.data.tables import HUB, class_of, column_of, is_table, rows_of, sources_of
from sparsesearch.errors import SparseSearchError, first_line, printable, problem
from sparsesearch.files import load_json

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
# Formats that Pillow may decode; others would run a program (EPS) or are not pictures.
IMAGE_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "GIF", "TIFF", "JPEG2000", "PPM")
# Settings of a checkpoint's image processor.
PREPROCESSOR = "preprocessor_config.json"
# Data with a larger share of unreadable images are refused.
MAX_UNREADABLE_SHARE = 0.01
# An image (bytes, path or PIL image) and its class.
Item = tuple[Any, int | None]
Pixels = npt.NDArray[np.float32]
# Turns an RGB image into pixels (3, height, width).
Process = Callable[[Image.Image], Pixels]


def image_samples(data: DataConfig, directory: Path | None, role: str) -> Samples:
    """Read `data.sequences` images as float32 (samples, 3, height, width), with labels if there are any.

    Args:
        data: the sources, and the number of samples.
        directory: directory of a model, whose image processor is used if `data.image` is not set.
        role: `calibration`, `selection` or `test`, for messages.

    Raises InputError SS204 (missing, too few, too large for the machine) or SS212 (unreadable, or no classes).
    """
    samples = next(image_batches(data, directory, role, data.sequences))
    if len(samples) < data.sequences and not data.fewer:
        raise problem(
            "SS204",
            f"{role} data ({data.source}) has {len(samples)} of {data.sequences} images.",
            fix=f"Give more images, or set data.{role}.sequences lower.",
        )
    return samples


def image_batches(data: DataConfig, directory: Path | None, role: str, size: int) -> Iterator[Samples]:
    """Yield all images in batches of `size` samples; raises as `image_samples` does."""
    process = _process(data, directory, role, 1 if data.fewer else size)
    readable = _read_images(data, directory, process, role)
    while batch := list(itertools.islice(readable, size)):
        labels = [label for _, label in batch]
        classes = None if any(label is None for label in labels) else np.array(labels, dtype=np.int64)
        shapes = {pixels.shape for pixels, _ in batch}
        if len(shapes) > 1:
            raise problem(
                "SS204",
                f"{role} data: the model's image processor makes images of {len(shapes)} sizes.",
                fix=f"Set data.{role}.image: {{size: ...}}.",
            )
        yield Samples({"pixel_values": np.stack([pixels for pixels, _ in batch])}, classes)


def _read_images(
    data: DataConfig, directory: Path | None, process: Process, role: str
) -> Iterator[tuple[Pixels, int | None]]:
    """Yield pixels and class of each readable image; raises InputError SS212 if too many cannot be read."""
    seen, bad = 0, []
    for seen, (image, label) in enumerate(_ordered_items(data, directory, role), 1):
        try:
            picture = _picture(image)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise dozens of types for damaged images
            bad.append(f"{image if isinstance(image, Path) else f'number {seen:,}'} ({first_line(error)})")
        else:
            yield process(picture), label
        if len(bad) > max(1, MAX_UNREADABLE_SHARE * max(seen, data.sequences)):
            break
    else:
        if len(bad) < seen:
            return
    raise problem(
        "SS212",
        f"{role} data: {len(bad)} of {seen} images of {data.source} cannot be read, first {bad[0]}.",
        fix="Repair or remove them; up to 1 % are skipped.",
    )


def _picture(image: Any) -> Image.Image:
    """Return the first frame in red, green and blue, 8 bits each; raises ValueError and any error of Pillow."""
    if isinstance(image, Path) and not image.is_file():
        raise ValueError("not a regular file")
    if isinstance(image, (bytes, Path)):
        image = Image.open(io.BytesIO(image) if isinstance(image, bytes) else image, formats=_formats())
    if not isinstance(image, Image.Image):
        raise ValueError(f"expected the bytes of an image, got {type(image).__name__}")
    if image.mode.startswith("I;16"):  # Pillow would clip values above 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("32 bits a pixel, with an unknown range of values")
    return image.convert("RGB")


@cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in IMAGE_FORMATS if name in Image.OPEN]


def _process(data: DataConfig, directory: Path | None, role: str, count: int) -> Process:
    """Return the function that turns images into arrays: by `data.image` if set, else by the model's own processor.

    Raises InputError SS204 if there is neither, or if `count` images of that size need more than the machine's memory.
    """
    if data.image is not None:
        _check_size([data.image.size], count, role)
        return partial(_pixels, options=data.image)
    if directory is None or not (directory / PREPROCESSOR).is_file():
        raise problem(
            "SS204",
            f"{role} data: size and normalisation of images are not known.",
            fix=f"Set data.{role}.image: {{size: 224, mean: [...], std: [...]}}.",
        )
    processor = _processor(directory, role)
    sizes = [dict(size) for name in ("size", "crop_size") if (size := getattr(processor, name, None))]
    _check_size([side for size in sizes for side in size.values() if isinstance(side, int)], count, role)
    return partial(_apply_processor, processor=processor, directory=directory, role=role)


def _check_size(sides: list[int], count: int, role: str) -> None:
    need = count * 3 * max(sides, default=1) ** 2 * 4
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > memory:
        raise problem(
            "SS204",
            f"{role} data: {count:,} images of {max(sides):,} pixels a side need {need / 1e9:,.1f} GB; the "
            f"machine has {memory / 1e9:,.1f} GB.",
            fix=f"Set data.{role}.sequences or data.{role}.image.size lower.",
        )


def _processor(directory: Path, role: str) -> Any:
    """Load the image processor in a model's directory; code in the directory is not run."""
    from transformers import AutoImageProcessor

    load_json(directory / PREPROCESSOR, lambda reason: _processor_error(directory, role, reason))
    try:
        # One implementation everywhere, so that samples are the same on all machines.
        return AutoImageProcessor.from_pretrained(directory, trust_remote_code=False, backend="pil")
    except Exception as error:  # the library raises dozens of types for invalid keys
        raise _processor_error(directory, role, first_line(error)) from None


def _apply_processor(image: Image.Image, processor: Any, directory: Path, role: str) -> Pixels:
    try:
        pixels = np.asarray(processor(images=image, return_tensors="np")["pixel_values"][0])
    except MemoryError:
        raise
    except Exception as error:  # as above, for invalid values
        raise _processor_error(directory, role, first_line(error)) from None
    if pixels.ndim != 3 or pixels.dtype.kind not in "fui":
        raise _processor_error(directory, role, f"it makes arrays of {pixels.dtype} {pixels.shape} of images")
    return np.ascontiguousarray(pixels, dtype=np.float32)


def _processor_error(directory: Path, role: str, reason: str) -> SparseSearchError:
    return problem(
        "SS204",
        f"{role} data: {directory / PREPROCESSOR} cannot be used: {reason.rstrip('.')}.",
        fix=f"Correct it, or set data.{role}.image: {{size: 224, mean: [...], std: [...]}}.",
    )


def _pixels(image: Image.Image, options: ImageConfig) -> Pixels:
    if image.size != (options.size, options.size):
        image = image.resize((options.size, options.size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.float32) / 255
    normalised = (pixels - np.array(options.mean, np.float32)) / np.array(options.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1), dtype=np.float32)


def _ordered_items(data: DataConfig, directory: Path | None, role: str) -> Iterator[Item]:
    """Yield items in order of use: from the first on, or spread over all if their number is known."""
    source_items = _items(data, directory, role)
    if any(s.startswith(HUB) for s in sources_of(data)):
        yield from source_items
        return
    items = list(source_items)
    if not items:
        raise problem("SS204", f"{role} data: {data.source} holds no images.")
    if data.take == "first" or len(items) <= data.sequences:
        yield from items
        return
    spread = np.linspace(0, len(items) - 1, data.sequences).round().astype(int).tolist()
    used = set(spread)
    yield from (items[i] for i in spread)
    yield from (item for i, item in enumerate(items) if i not in used)  # replacements of unreadable images


def _items(data: DataConfig, directory: Path | None, role: str) -> Iterator[Item]:
    folders = [existing_path(source, role) for source in sources_of(data) if not is_table(source)]
    numbers = _class_numbers({folder: class_folders(folder, role) for folder in folders}, directory, role)
    for source in sources_of(data):
        if is_table(source):
            yield from _table(source, data, role)
        elif (path := existing_path(source, role)).is_dir():
            yield from _folder(path, numbers, role)
        else:
            raise problem(
                "SS204",
                f"{role} data: {source} is neither a folder of images nor a table.",
                fix=f"Set data.{role}.source.",
            )


def class_folders(path: Path, role: str) -> list[str]:
    """Return sorted names of the folders in a folder, without hidden ones; raises InputError SS212 for empty ones."""
    if not path.is_dir():
        return []
    names = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))
    for name in names:
        if path.resolve().is_relative_to((path / name).resolve()):
            raise problem("SS212", f"{role} data: the folder {path / name} leads back to {path}.", fix="Remove it.")
        if not any(_images(path / name)):
            raise problem(
                "SS212", f"{role} data: {path / name} holds no images, and each folder is a class.", fix="Remove it."
            )
    return names


def _class_numbers(folders: dict[Path, list[str]], directory: Path | None, role: str) -> dict[str, int]:
    """Return the number of each class by the name of its folder: the model's own, else the index of the sorted name.

    Args:
        folders: names of class folders, by source.

    Raises InputError SS212 if sources have different classes, or the model names only some of them.
    """
    classes = [names for names in folders.values() if names]
    names = sorted({name for source_names in classes for name in source_names})
    model_classes = _model_classes(directory)
    unknown = [name for name in names if name not in model_classes]
    if not unknown:
        return {name: model_classes[name] for name in names}
    if len(unknown) < len(names):
        raise problem(
            "SS212",
            f"{role} data: the model names the other folders' classes, but not {printable(', '.join(unknown), 200)}.",
            fix=f"Name folders as label2id in {directory}/config.json does.",
        )
    for source_names in classes:
        check_same_classes(classes[0], source_names, role, role)
    return {name: number for number, name in enumerate(names)}


def _model_classes(directory: Path | None) -> dict[str, int]:
    """Return the numbers of the classes that a model's configuration names."""
    path = None if directory is None else directory / "config.json"
    if path is None or not path.is_file():
        return {}
    numbers = load_json(path, lambda reason: problem("SS202", f"{path}: {reason}.")).get("label2id")
    return {k: int(v) for k, v in numbers.items() if str(v).isdigit()} if isinstance(numbers, dict) else {}


def check_same_classes(names: list[str], other_names: list[str], role: str, other_role: str) -> None:
    """Raise InputError SS212 if two sources, of one or two roles, have folders of different classes."""
    if names != other_names:
        differ = printable(", ".join(sorted({*names} ^ {*other_names})), 200)
        raise problem(
            "SS212",
            f"{role if role == other_role else f'{role} and {other_role}'} data have folders of different classes "
            f"({differ}), which would be numbered differently.",
            fix="Give each a folder for every class.",
        )


def check_classes(data: DataConfigs, roles: list[str], directory: Path | None) -> None:
    """Raise InputError SS212 if roles have different folders of classes that the model does not name."""
    model_classes = _model_classes(directory)
    first: tuple[str, list[str]] | None = None
    for role in roles:
        for source in sources_of(getattr(data, role)):
            names = [] if is_table(source) else class_folders(existing_path(source, role), role)
            if not names or all(name in model_classes for name in names):
                continue
            first = first or (role, names)
            check_same_classes(first[1], names, first[0], role)


def _images(path: Path) -> Iterator[Path]:
    """Yield images below a folder, without hidden ones; links to folders are not followed."""
    for parent, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = (name for name in names if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."))
        yield from (Path(parent, name) for name in images)


def _folder(path: Path, numbers: dict[str, int], role: str) -> Iterator[Item]:
    classes = class_folders(path, role)
    if not classes:
        yield from ((file, None) for file in sorted(_images(path)))
    # Images beside the folders of classes have no class and are skipped.
    for name in classes:
        yield from ((file, numbers[name]) for file in sorted(_images(path / name)))


def _table(source: str, data: DataConfig, role: str) -> Iterator[Item]:
    for row in rows_of(source, role):
        image = column_of(row, data.column if data.column in row else "image", source, role)
        label = None if row.get(data.label) is None else class_of(row, data, source, role)
        yield image["bytes"] if isinstance(image, dict) else image, label
