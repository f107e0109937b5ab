from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from predict_fixtures import SHAPE, put, put_video

from sskd_core.data.masks import decode_mask
from sskd_core.errors import DataError, UserError
from sskd_core.export.inputs import InputFile, find_inputs
from sskd_core.export.predict_files import PredictOptions, predict_files


def inputs(*paths: Path) -> list[InputFile]:
    return find_inputs([str(path) for path in paths], None)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_overlays_and_coco_results_are_written(write_model: Callable[..., Path], tmp_path: Path) -> None:
    images = [put(tmp_path / "in" / f"{number}.png", 10 * number) for number in range(6)]
    told: list[int] = []
    found = predict_files(
        write_model(), inputs(*images), tmp_path / "new/out", PredictOptions(score_threshold=0.5), told.append
    )
    assert names(tmp_path / "new/out") == [*(f"{number}.png" for number in range(6)), "predictions.json"]
    assert [(item.location, item.overlay.name, item.mask, item.instances) for item in found] == [
        (str(path), path.name, None, int(number > 0)) for number, path in enumerate(images)
    ]
    assert told == [4, 6]
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
    assert {"frame", "mask_value"}.isdisjoint(results[1])


def test_masks_count_the_instances_and_the_best_lies_on_top(write_model: Callable[..., Path], tmp_path: Path) -> None:
    image, out = put(tmp_path / "in/a.png", 20), tmp_path / "out"
    options = PredictOptions(score_threshold=0.0, overlays=False, masks=True)
    (found,) = predict_files(write_model(), inputs(image), out, options)
    assert names(out) == ["masks/a.png", "predictions.json"]
    assert (found.overlay, found.instances) == (None, 2)  # both classes, with the same mask
    values = np.asarray(Image.open(found.mask))
    assert values.dtype == np.uint16
    assert (values[:, :20] == 1).all()
    assert (values[:, 20:] == 0).all()
    results = json.loads((out / "predictions.json").read_text())
    assert [item["mask_value"] for item in results] == [1, 2]
    assert results[0]["score"] > results[1]["score"]


def test_a_video_becomes_a_picture_a_frame(write_model: Callable[..., Path], tmp_path: Path) -> None:
    clip = put_video(tmp_path / "clip.mp4", [10, 20, 30])
    options = PredictOptions(score_threshold=0.5, batch=2)
    found = predict_files(write_model(), inputs(clip), tmp_path / "out", options)
    assert names(tmp_path / "out") == ["clip-000000.png", "clip-000001.png", "clip-000002.png", "predictions.json"]
    assert [item.frame for item in found] == [0, 1, 2]
    results = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [(item["image_id"], item["frame"], item["file_name"]) for item in results] == [
        (number + 1, number, str(clip)) for number in range(3)
    ]


def test_a_semantic_model_gives_a_region_a_class(write_semantic: Callable[[], Path], tmp_path: Path) -> None:
    options = PredictOptions(masks=True)
    (found,) = predict_files(write_semantic(), inputs(put(tmp_path / "a.png", 20)), tmp_path / "out", options)
    results = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [(item["category_name"], item["area"]) for item in results] == [("bright", 640.0), ("other", 1408.0)]
    assert set(np.unique(np.asarray(Image.open(found.mask)))) == {1, 2}


def test_images_of_one_name_get_pictures_of_their_own(write_model: Callable[..., Path], tmp_path: Path) -> None:
    images = [put(tmp_path / name, 5) for name in ("a/x.png", "b/x.jpg", "b/x-2.png", "c/x.png")]
    found = predict_files(write_model(), inputs(*images), tmp_path / "out")
    assert [item.overlay.name for item in found] == ["x.png", "x-2.png", "x-2-2.png", "x-3.png"]


def test_all_bad_images_are_named_and_nothing_is_written(write_model: Callable[..., Path], tmp_path: Path) -> None:
    good = put(tmp_path / "good.png", 5)
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "text.jpg").write_text("no image")
    bad = [tmp_path / "cut.png", tmp_path / "text.jpg"]
    with pytest.raises(DataError) as caught:
        predict_files(write_model(), inputs(good, *bad, put(tmp_path / "last.png", 5)), tmp_path / "out")
    assert len(caught.value.problems) == 2
    for path, problem in zip(bad, caught.value.problems, strict=True):
        assert problem.startswith(str(path))
    assert not (tmp_path / "out").exists()


def test_no_images_are_refused(write_model: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images to predict"):
        predict_files(write_model(), [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_overlay_never_replaces_an_image(write_model: Callable[..., Path], tmp_path: Path) -> None:
    image = put(tmp_path / "a.png", 5)
    before = image.read_bytes()
    with pytest.raises(UserError, match="the overlay would replace this image"):
        predict_files(write_model(), inputs(image), tmp_path)
    assert image.read_bytes() == before


def test_a_failure_half_way_leaves_nothing(write_model: Callable[..., Path], tmp_path: Path) -> None:
    images = [put(tmp_path / "in" / f"{number}.png", 5) for number in range(5)]

    def fail(done: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="out: cannot be written: No space left on device"):
        predict_files(write_model(), inputs(*images), tmp_path / "out", progress=fail)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_refused(write_model: Callable[..., Path], tmp_path: Path) -> None:
    image = put(tmp_path / "a.png", 5)
    with pytest.raises(UserError, match=r"a\.png/out: cannot be written: Not a directory"):
        predict_files(write_model(), inputs(image), image / "out")
