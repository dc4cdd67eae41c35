"""Images: folders of classes, the model's own processor, and pictures of every kind."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support import recipe, run_search
from transformers import ConvNextImageProcessorPil, ViTImageProcessorPil

from sparsesearch.config import DataConfig, DataConfigs, ImageConfig, RunConfig
from sparsesearch.data.images import check_classes, image_batches, image_samples
from sparsesearch.data.samples import Samples
from sparsesearch.engine.launch.prepare import prepare
from sparsesearch.errors import InputError

Make = Callable[[str], Path]
IMAGE = {"size": 8, "mean": [0.5] * 3, "std": [0.25] * 3}


def picture(seed: int, width: int = 24, height: int = 20) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def folder(path: Path, *classes: str, count: int = 2) -> Path:
    for number, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for i in range(count):
            picture(10 * number + i).save(path / name / f"{i}.png")
    return path


def samples(source: Any, directory: Path | None = None, image: Any = IMAGE, **changes: Any) -> Samples:
    data = {
        "source": source if isinstance(source, list) else str(source),
        "sequences": 100,
        "fewer": True,
        "take": "first",
        "image": ImageConfig.model_construct(**image) if isinstance(image, dict) else image,
    } | changes
    # What recipes refuse by themselves is refused here too.
    return image_samples(DataConfig(source="x").model_copy(update=data), directory, "selection")


def labels(source: Path | str, directory: Path | None = None) -> list[int] | None:
    values = samples(source, directory).labels
    return None if values is None else values.tolist()


def model(path: Path, names: tuple[str, ...] = (), **preprocessor: Any) -> Path:
    """What of a model's directory images are read by."""
    path.mkdir()
    config = {"model_type": "vit", "label2id": {name: i for i, name in enumerate(names)}}
    (path / "config.json").write_text(json.dumps(config))
    if preprocessor:
        (path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return path


def test_what_is_beside_folders_of_classes_has_no_class(tmp_path: Path) -> None:
    path = folder(tmp_path / "x", "cat", "dog", ".ipynb_checkpoints", "__MACOSX")
    picture(5).save(path / "overview.png")
    (path / "dog" / "._1.png").write_bytes(b"what a Mac leaves")
    folder(path / "dog", "more")
    assert labels(path) == [0, 0, 1, 1, 1, 1]


def test_classes_are_numbered_as_the_model_names_them(tmp_path: Path) -> None:
    known = model(tmp_path / "model", ("eel", "dog", "cat"))
    assert labels(folder(tmp_path / "all", "cat", "dog", "eel"), known) == [2, 2, 1, 1, 0, 0]
    assert labels(folder(tmp_path / "some", "cat", "dog"), known) == [2, 2, 1, 1]
    assert labels(folder(tmp_path / "others", "n01", "n02"), known) == [0, 0, 1, 1]
    with pytest.raises(InputError, match=r"SS212 selection data: .* names the other folders' classes, but not fox"):
        labels(folder(tmp_path / "one", "cat", "fox"), known)


def roles(calibration: Path, selection: Path) -> DataConfigs:
    return DataConfigs(calibration=DataConfig(source=str(calibration)), selection=DataConfig(source=str(selection)))


def test_roles_whose_folders_differ_are_refused(tmp_path: Path, family_dir: Make) -> None:
    both, part = folder(tmp_path / "both", "cat", "dog", "eel"), folder(tmp_path / "part", "dog", "eel")
    flat = folder(tmp_path / "flat", ".")
    check_classes(roles(both, both), ["calibration", "selection"], None)
    check_classes(roles(flat, part), ["calibration", "selection"], None)
    check_classes(roles(both, part), ["calibration", "selection"], model(tmp_path / "m", ("cat", "dog", "eel")))
    words = r"SS212 calibration and selection data have folders of different classes \(cat\)"
    with pytest.raises(InputError, match=words):
        check_classes(roles(both, part), ["calibration", "selection"], None)
    data = {
        role: {"source": str(p), "sequences": 4, "image": IMAGE | {"size": 16}}
        for role, p in (("calibration", both), ("selection", part))
    }
    with pytest.raises(InputError, match=words):
        prepare(RunConfig.model_validate(recipe(family_dir("vit"), data=data)))
    with pytest.raises(InputError, match="SS212 selection data have folders of different classes"):
        samples([str(both), str(part)])


def test_folders_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    path = folder(tmp_path / "x", "cat", "dog")
    (path / "empty").mkdir()
    with pytest.raises(InputError, match=r"SS212 selection data: .*empty holds no images"):
        labels(path)
    (path / "empty").rmdir()
    (path / "loop").symlink_to(path)
    with pytest.raises(InputError, match=r"SS212 selection data: the folder .*loop leads back to"):
        labels(path)
    (path / "loop").unlink()
    (path / "eel").symlink_to(folder(tmp_path / "elsewhere", "."))
    (path / "dog" / "again").symlink_to(path / "dog")
    assert labels(path) == [0, 0, 1, 1, 2, 2]


PROCESSORS = [
    ViTImageProcessorPil(
        size={"height": 16, "width": 16}, image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.6, 0.7], resample=3
    ),
    ViTImageProcessorPil(size={"height": 8, "width": 8}, do_normalize=False, rescale_factor=1 / 127.5),
    ViTImageProcessorPil(size={"height": 8, "width": 12}, do_rescale=False, do_normalize=False),
    ConvNextImageProcessorPil(size={"shortest_edge": 16}, crop_pct=0.5),
]


@pytest.mark.parametrize("number", range(len(PROCESSORS)))
def test_pixels_are_what_the_models_own_processor_makes(number: int, tmp_path: Path) -> None:
    directory = model(tmp_path / "model")
    PROCESSORS[number].save_pretrained(directory)
    path = folder(tmp_path / "x", "cat", count=4)
    values = samples(path, directory, None).arrays["pixel_values"]
    expected = PROCESSORS[number]([picture(i) for i in range(4)], return_tensors="np")["pixel_values"]
    assert values.dtype == np.float32
    assert np.array_equal(values, expected.astype(np.float32))
    data = DataConfig(source=str(path), take="first")
    batches = list(image_batches(data, directory, "--images", 3))  # as evaluate shows them
    assert np.array_equal(np.concatenate([batch.arrays["pixel_values"] for batch in batches]), values)
    assert samples(path, directory).arrays["pixel_values"].shape == (4, 3, 8, 8)  # the recipe's own image:


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("[]", "expected a JSON object, got list"),
        (json.dumps({"size": "large"}), "cannot be used"),
        (
            json.dumps({"size": {"height": 8, "width": 8}, "image_mean": [0.5], "image_std": [0.5, 0.5]}),
            "cannot be used",
        ),
        (json.dumps({"size": {"height": -8, "width": 8}}), "cannot be used"),
        (json.dumps({"size": {"height": 8, "width": 8}, "resample": 99}), "cannot be used"),
        (json.dumps({"image_processor_type": "NoSuchProcessor"}), "cannot be used"),
        (json.dumps({"size": {"height": 10**6, "width": 10**6}}), "1,000,000 pixels a side need"),
    ],
)
def test_a_preprocessor_that_makes_no_sense_gets_one_line(content: str, words: str, tmp_path: Path) -> None:
    directory = model(tmp_path / "model")
    (directory / "preprocessor_config.json").write_text(content)
    with pytest.raises(InputError, match="SS204 selection data") as caught:
        samples(folder(tmp_path / "x", "cat"), directory, None)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_code_beside_a_preprocessor_is_not_run(tmp_path: Path) -> None:
    directory = model(
        tmp_path / "model", auto_map={"AutoImageProcessor": "own.Own"}, image_processor_type="Own", size={"height": 8}
    )
    (directory / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    with pytest.raises(InputError, match=r"SS204 .*preprocessor_config.json cannot be used"):
        samples(folder(tmp_path / "x", "cat"), directory, None)
    assert not (tmp_path / "ran").exists()


def test_a_processor_whose_images_differ_in_size(tmp_path: Path) -> None:
    directory = model(tmp_path / "model")
    ViTImageProcessorPil(do_resize=False).save_pretrained(directory)
    path = folder(tmp_path / "x", "cat")
    picture(3, 30, 30).save(path / "cat" / "9.png")
    with pytest.raises(InputError, match=r"SS204 .*makes images of 2 sizes"):
        samples(path, directory, None)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)


@pytest.mark.parametrize(
    "content",
    [
        saved(Image.fromarray(GREY), "PNG"),
        saved(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"),
        saved(Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF"),
        saved(Image.fromarray(np.stack([GREY] * 3 + [GREY], axis=-1), "RGBA"), "PNG"),
        saved(Image.fromarray(np.stack([GREY, GREY], axis=-1), "LA"), "PNG"),
        saved(Image.fromarray(GREY), "GIF", save_all=True, append_images=[Image.new("L", (8, 8), 255)]),
    ],
)
def test_pictures_of_every_kind_are_their_grey_values(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(content)
    image = {"size": 8, "mean": [0.0] * 3, "std": [1.0] * 3}
    values = samples(tmp_path, image=image).arrays["pixel_values"][0] * 255
    assert np.array_equal(values.round().astype(np.uint8), np.stack([GREY] * 3))


def test_oblong_and_large_pictures_are_resized(tmp_path: Path) -> None:
    picture(0, 1000, 1000).save(tmp_path / "a.png")
    picture(0, 3, 500).save(tmp_path / "b.png")
    assert samples(tmp_path).arrays["pixel_values"].shape == (2, 3, 8, 8)


def test_bombs_and_other_formats_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    picture(0).save(tmp_path / "bomb.png")
    picture(0).save(tmp_path / "postscript.png", "EPS")
    (tmp_path / "link.png").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"SS212 selection data: 2 of 2 images .* cannot be read, first .*bomb.png"):
        samples(tmp_path)
    monkeypatch.undo()
    (tmp_path / "bomb.png").unlink()
    with pytest.raises(InputError, match=r"SS212 .* first .*link.png \(not a regular file\)"):
        samples(tmp_path)


def test_sizes_are_bounded_before_memory_is_taken(tmp_path: Path) -> None:
    path = folder(tmp_path / "x", "cat")
    for changes in ({"image": {"size": 10**6}}, {"sequences": 10**9, "fewer": False, "image": {"size": 224}}):
        with pytest.raises(InputError, match=r"SS204 selection data: .* pixels a side need .* GB"):
            samples(path, **changes)


@pytest.mark.parametrize(
    ("source", "words"),
    [("/no/such/folder", "No such file"), ("a\0b", "null byte"), ("stdlib:test", "No such file")],
)
def test_folders_that_there_are_not(source: str, words: str) -> None:
    with pytest.raises(InputError, match="SS204 selection data: cannot read") as caught:
        samples(source)
    assert words in str(caught.value)


def test_labels_of_tables_are_classes_and_images_bytes(tmp_path: Path) -> None:
    content = saved(picture(0), "PNG")
    path = tmp_path / "t.parquet"
    for label in (1.7, "cat", True, -1):
        pd.DataFrame({"image": [content] * 2, "label": [label] * 2}).to_parquet(path)
        with pytest.raises(InputError, match=r"SS212 selection data: label .* is no class"):
            samples(path)
    pd.DataFrame({"image": ["/etc/passwd"] * 3}).to_parquet(path)
    with pytest.raises(InputError, match=r"SS212 .*expected the bytes of an image, got str"):
        samples(path)


def test_a_search_on_the_models_own_processor(family_dir: Make, tmp_path: Path) -> None:
    import shutil

    directory = tmp_path / "vit"
    shutil.copytree(family_dir("vit"), directory, ignore=shutil.ignore_patterns("calibration", "selection"))
    processor = ViTImageProcessorPil(size={"height": 16, "width": 16}, image_mean=[0.1] * 3, image_std=[0.9] * 3)
    processor.save_pretrained(directory)
    path = folder(tmp_path / "x", "class0", "class1", count=3)
    data = {role: {"source": str(path), "sequences": 6, "take": "first"} for role in ("calibration", "selection")}
    units = [{"kind": "ffn_width", "levels": 2}]
    results = run_search(tmp_path / "run", directory, data=data | {"allow_shared": True}, units=units)
    shown = results.run.samples("selection").arrays["pixel_values"]
    pictures = [picture(10 * number + i) for number in range(2) for i in range(3)]
    assert np.array_equal(shown, np.stack(processor(pictures)["pixel_values"]).astype(np.float32))


def test_images_of_a_size_that_the_model_cannot_take(family_dir: Make, tmp_path: Path) -> None:
    path = folder(tmp_path / "x", "class0", count=3)
    data = {role: {"source": str(path), "sequences": 3, "image": IMAGE} for role in ("calibration", "selection")}
    with pytest.raises(InputError, match=r"SS204 calibration data: the model cannot take images of shape \(3, 8, 8\)"):
        prepare(RunConfig.model_validate(recipe(family_dir("vit"), data=data)))
