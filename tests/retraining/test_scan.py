"""New is what no known image is, byte for byte."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sskd_core.config.retrain import RetrainConfig
from sskd_core.data.index import decode_index
from sskd_core.errors import DataError
from sskd_core.retraining.scan import Scan, keep_scan, scan
from sskd_core.storage.digest import digest_bytes
from sskd_core.storage.store import ObjectStore


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 6, 3), value, dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def look(store: ObjectStore, *places: str, known: set[str] | None = None, copy: bool = True, **limits: float) -> Scan:
    return scan(list(places), known or set(), store, RetrainConfig(**limits), 10_000, 3, copy)


def test_renamed_and_copied_files_are_not_new(store: ObjectStore, tmp_path: Path):
    (tmp_path / "deep").mkdir()
    for name, value in (("new.png", 1), ("copy-of-new.PNG", 1), ("deep/renamed.png", 2), ("deep/other.png", 3)):
        (tmp_path / name).write_bytes(png(value))
    found = look(store, str(tmp_path), known={digest_bytes(png(2))})
    assert [record.image_id for record in found.new] == ["+3/0/copy-of-new.PNG", "+3/0/deep/other.png"]
    assert (found.known, found.copies, found.images) == (1, 1, 4)
    assert (found.new[0].width, found.new[0].height) == (6, 8)


def test_places_of_all_kinds_are_one_scan(store: ObjectStore, tmp_path: Path):
    store.put(f"{store.root}/camera/a.png", png(1))
    store.put(f"{store.root}/camera/b.png", png(2))
    (tmp_path / "c.png").write_bytes(png(1))
    found = look(store, f"{store.root}/camera", str(tmp_path / "c.png"))
    assert [(record.image_id, record.uri) for record in found.new] == [
        ("+3/0/a.png", f"{store.root}/camera/a.png"),
        ("+3/0/b.png", f"{store.root}/camera/b.png"),
    ]
    assert found.copies == 1


def test_what_cannot_be_read_is_listed_and_skipped(store: ObjectStore, tmp_path: Path):
    for number in range(12):
        (tmp_path / f"{number:02d}.png").write_bytes(png(number))
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_bytes(b"hello")
    (tmp_path / "cut.png").write_bytes(png(99)[:50])
    bomb = io.BytesIO()
    Image.new("1", (200, 200)).save(bomb, "PNG")
    (tmp_path / "bomb.png").write_bytes(bomb.getvalue())
    (tmp_path / "notes.txt").write_text("of the day")
    (tmp_path / "huge.png").write_bytes(b"\0" * 3_000)
    found = look(store, str(tmp_path), max_unreadable_share=0.5, max_file_mb=0.002)
    assert len(found.new) == 12
    lines = sorted(Path(line.split(":")[0]).name for line in found.unreadable)
    assert lines == ["bomb.png", "cut.png", "empty.png", "huge.png", "text.jpg"]
    assert any("200 x 200 pixels exceed" in line for line in found.unreadable)
    assert any("exceed retrain.max_file_mb" in line for line in found.unreadable)
    assert [Path(item).name for item in found.others] == ["notes.txt"]


def test_a_source_that_is_mostly_broken_is_refused_with_every_problem(store: ObjectStore, tmp_path: Path):
    (tmp_path / "good.png").write_bytes(png(1))
    for number in range(3):
        (tmp_path / f"bad{number}.png").write_bytes(b"no image")
    with pytest.raises(
        DataError, match=r"3 of 4 image files cannot be read, more than .*max_unreadable_share = 0\.7"
    ) as caught:
        look(store, str(tmp_path), max_unreadable_share=0.7)
    assert len(caught.value.problems) == 4
    assert len(look(store, str(tmp_path), max_unreadable_share=0.75).new) == 1


def test_nothing_is_written_for_a_plan(store: ObjectStore, tmp_path: Path):
    (tmp_path / "a.png").write_bytes(png(1))
    planned = look(store, str(tmp_path), copy=False)
    reference = keep_scan(planned, store, write=False)
    assert list(store.list(store.root)) == []
    done = look(store, str(tmp_path))
    assert keep_scan(done, store, write=True) == reference, "a plan and its run speak of the same"
    assert decode_index(store.get(reference.uri, reference.digest), "here") == done.new
    assert store.get(done.new[0].uri) == png(1)
    assert keep_scan(Scan(), store, write=True) is None


def test_a_place_that_does_not_exist_is_one_line(store: ObjectStore, tmp_path: Path):
    with pytest.raises(DataError, match="no such file or folder"):
        look(store, str(tmp_path / "nowhere"))
    assert look(store, f"{store.root}/not-yet").images == 0, "a prefix is there as soon as something is in it"
