from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sskd_core.data.masks import decode_mask
from sskd_core.errors import DataError, UserError
from sskd_core.export.predict_files import predict_files

SHAPE = (32, 64)


def put(path: Path, columns: int) -> Path:
    """Write an image whose first columns are bright."""
    pixels = np.zeros((*SHAPE, 3), dtype=np.uint8)
    pixels[:, :columns] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_overlays_and_coco_results_are_written(write_model: Callable[..., Path], tmp_path: Path) -> None:
    images = [put(tmp_path / "in" / f"{number}.png", 10 * number) for number in range(6)]
    told: list[tuple[int, int]] = []
    found = predict_files(write_model(), images, tmp_path / "new/out", lambda *done: told.append(done), 0.5)
    assert names(tmp_path / "new/out") == [*(f"{number}.png" for number in range(6)), "predictions.json"]
    assert [(item.image, item.overlay.name, item.instances) for item in found] == [
        (path, path.name, int(number > 0)) for number, path in enumerate(images)
    ]
    assert told == [(4, 6), (6, 6)]
    overlay = np.asarray(Image.open(found[3].overlay))
    assert overlay.shape == (*SHAPE, 3)
    assert (overlay[16:, 32:] == 0).all()  # below the label
    assert not (overlay[20, :28] == 255).all()
    results = json.loads((tmp_path / "new/out/predictions.json").read_text())
    assert [item["image_id"] for item in results] == [2, 3, 4, 5, 6]
    assert results[1]["file_name"] == str(images[2])
    assert (results[1]["category_id"], results[1]["category_name"]) == (1, "bright")
    assert results[1]["bbox"] == [0.0, 0.0, 20.0, 32.0]
    assert results[1]["area"] == decode_mask(results[1]["segmentation"]).sum() == 20 * 32


def test_images_of_one_name_get_pictures_of_their_own(write_model: Callable[..., Path], tmp_path: Path) -> None:
    images = [put(tmp_path / name, 5) for name in ("a/x.png", "b/x.jpg", "b/x-2.png", "c/x.png")]
    found = predict_files(write_model(), images, tmp_path / "out")
    assert [item.overlay.name for item in found] == ["x.png", "x-2.png", "x-2-2.png", "x-3.png"]


def test_all_bad_images_are_named_and_nothing_is_written(write_model: Callable[..., Path], tmp_path: Path) -> None:
    good = put(tmp_path / "good.png", 5)
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "text.jpg").write_text("no image")
    bad = [tmp_path / "cut.png", tmp_path / "text.jpg", tmp_path / "absent.png"]
    with pytest.raises(DataError) as caught:
        predict_files(write_model(), [good, *bad], tmp_path / "out")
    assert len(caught.value.problems) == 3
    for path, problem in zip(bad, caught.value.problems, strict=True):
        assert problem.startswith(str(path))
    assert not (tmp_path / "out").exists()


def test_no_images_are_refused(write_model: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images to predict"):
        predict_files(write_model(), [], tmp_path / "out")


def test_an_overlay_never_replaces_an_image(write_model: Callable[..., Path], tmp_path: Path) -> None:
    image = put(tmp_path / "a.png", 5)
    before = image.read_bytes()
    with pytest.raises(UserError, match=r"a\.png: the overlay would replace this image"):
        predict_files(write_model(), [image], tmp_path)
    assert image.read_bytes() == before


def test_a_failure_half_way_leaves_nothing(write_model: Callable[..., Path], tmp_path: Path) -> None:
    images = [put(tmp_path / "in" / f"{number}.png", 5) for number in range(5)]

    def fail(done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="out: cannot be written: No space left on device"):
        predict_files(write_model(), images, tmp_path / "out", fail)
    assert names(tmp_path / "out") == []


def test_a_folder_that_cannot_be_made_is_refused(write_model: Callable[..., Path], tmp_path: Path) -> None:
    image = put(tmp_path / "a.png", 5)
    with pytest.raises(UserError, match=r"a\.png/out: cannot be written: Not a directory"):
        predict_files(write_model(), [image], image / "out")
