from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from predict_fixtures import put, put_video

from sskd_core.errors import DataError
from sskd_core.export.inputs import find_inputs, read_pictures
from sskd_core.storage.store import ObjectStore


def found(*locations: object, store: ObjectStore | None = None) -> list[str]:
    return [item.file.location for item in find_inputs([str(item) for item in locations], store)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with images at two depths, a hidden one, and a text."""
    for name in ("b.png", "a.PNG", "deep/c.jpg", ".hidden/d.png"):
        put(tmp_path / "in" / name, 5)
    (tmp_path / "in/readme.txt").write_text("no image")
    return tmp_path / "in"


def test_files_folders_and_patterns_come_once_and_sorted(folder: Path) -> None:
    a, b, c = folder / "a.PNG", folder / "b.png", folder / "deep/c.jpg"
    assert found(folder) == [str(a), str(b), str(c)]
    assert found(b, folder) == [str(b), str(a), str(c)]
    assert found(folder / "*.png") == [str(b)]
    assert found(folder / "**/*.jpg") == [str(c)]
    assert found(folder / "[ab].*") == [str(a), str(b)]
    assert found(folder / "d*/?.jpg") == [str(c)]


def test_relative_patterns_and_names_with_brackets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert found("*.png") == [str(folder / "b.png")]
    bracket = put(folder / "x[1].png", 5)
    assert found("x[1].png") == [str(bracket)]


def test_a_file_that_is_named_counts_whatever_its_ending(folder: Path) -> None:
    (folder / "camera.raw").write_bytes((folder / "b.png").read_bytes())
    assert found(folder / "camera.raw") == [str(folder / "camera.raw")]


@pytest.mark.parametrize(
    "location", ["none.png", "in/*.tif", "in/deep/*.png", "empty", "http://a/b.png", "s3://a/b.png"]
)
def test_what_is_not_there_is_refused(folder: Path, location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    (folder.parent / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        find_inputs([location], None)
    assert str(caught.value).startswith(location)


def test_objects_prefixes_and_patterns_of_a_store(store: ObjectStore, folder: Path) -> None:
    for name in ("a.png", "b.jpg", "deep/c.png", "notes.txt"):
        store.put(f"{store.root}/in/{name}", (folder / "b.png").read_bytes())
    base = f"{store.root}/in"
    assert found(base, store=store) == [f"{base}/a.png", f"{base}/b.jpg", f"{base}/deep/c.png"]
    assert found(f"{base}/b.jpg", store=store) == [f"{base}/b.jpg"]
    assert found(f"{base}/*.png", store=store) == [f"{base}/a.png", f"{base}/deep/c.png"]
    picture = next(read_pictures(find_inputs([f"{base}/a.png"], store)[0]))
    assert (picture.location, picture.frame, picture.stem) == (f"{base}/a.png", None, "a")
    np.testing.assert_array_equal(picture.pixels, np.asarray(Image.open(folder / "b.png")))


def test_a_video_is_read_frame_by_frame(tmp_path: Path) -> None:
    (item,) = find_inputs([str(put_video(tmp_path / "clip.mp4", [5, 20, 40, 60]))], None)
    assert item.is_video
    frames = list(read_pictures(item))
    assert [(frame.frame, frame.stem) for frame in frames] == [(n, f"clip-{n:06d}") for n in range(4)]
    bright = [round(float((frame.pixels[..., 0] > 128).mean() * 64)) for frame in frames]
    assert bright == pytest.approx([5, 20, 40, 60], abs=1)
    assert frames[0].pixels.shape == (32, 64, 3)
    assert [frame.frame for frame in read_pictures(item, 3)] == [0, 3]


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"not a video at all")
    (item,) = find_inputs([str(tmp_path / "clip.mp4")], None)
    with pytest.raises(DataError, match=r"clip\.mp4: no video, or a damaged one"):
        list(read_pictures(item))


def test_without_a_decoder_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (item,) = find_inputs([str(put_video(tmp_path / "clip.mp4", [5]))], None)
    monkeypatch.setitem(sys.modules, "av", None)  # as Python marks a module that cannot be imported
    with pytest.raises(DataError, match=r"needs PyAV; pip install 'sskd\[video\]'"):
        list(read_pictures(item))
