"""The digest of the sources: the same for equal data, another for any change of names, sizes or annotations."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sskd_core.config.data import DataConfig, LabeledSource
from sskd_core.config.storage import StorageConfig
from sskd_core.data.pin import pin_sources, sources_digest
from sskd_core.errors import DataError
from sskd_core.storage.store import ObjectStore

STORE = ObjectStore(StorageConfig(root="s3://never-asked"))


def make(place: Path) -> DataConfig:
    for name in ("images/a.png", "unlabeled/deep/b.jpg", "unlabeled/c.jpg"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"12345")
    (place / "labels.json").write_text("{}")
    source = LabeledSource(annotations=f"{place}/labels.json", images=f"{place}/images")
    return DataConfig(labeled=source, unlabeled=[f"{place}/unlabeled"])


def test_a_copy_of_the_data_has_the_same_digest(tmp_path):
    config = make(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert sources_digest(config, STORE) == sources_digest(make(tmp_path / "b"), STORE)


@pytest.mark.parametrize(
    "change",
    [
        lambda place: (place / "labels.json").write_text("[]"),
        lambda place: (place / "unlabeled/new.jpg").write_bytes(b"12345"),
        lambda place: (place / "unlabeled/c.jpg").unlink(),
        lambda place: (place / "unlabeled/c.jpg").rename(place / "unlabeled/d.jpg"),
        lambda place: (place / "images/a.png").write_bytes(b"123456"),
    ],
    ids=["annotations", "new", "gone", "renamed", "resized"],
)
def test_any_change_changes_the_digest(tmp_path, change):
    config = make(tmp_path)
    before = sources_digest(config, STORE)
    change(tmp_path)
    assert sources_digest(config, STORE) != before


def test_files_that_are_no_images_change_nothing(tmp_path):
    config = make(tmp_path)
    before = sources_digest(config, STORE)
    (tmp_path / "unlabeled/readme.txt").write_text("text")
    assert sources_digest(config, STORE) == before


def test_a_pinned_configuration_is_left_alone(tmp_path):
    pinned = pin_sources(make(tmp_path), STORE)
    (tmp_path / "unlabeled/new.jpg").write_bytes(b"12345")
    assert pin_sources(pinned, STORE) == pinned


def test_missing_places_are_all_named(tmp_path):
    config = make(tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(DataError) as caught:
        pin_sources(config, STORE)
    keys = ["data.labeled.annotations", "data.labeled.images", "data.unlabeled[0]"]
    assert [problem.split(":")[0] for problem in caught.value.problems] == keys
