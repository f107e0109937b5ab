"""`prepare` on real folders and real prefixes: what it writes, what it refuses, what it leaves out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sskd_core.config.data import DataConfig, LabeledSource, PrepareConfig
from sskd_core.data.dataset import LABELED_SPLITS, SPLITS, Dataset
from sskd_core.data.ingest import ImageReader
from sskd_core.data.masks import decode_mask
from sskd_core.data.pin import pin_sources
from sskd_core.errors import DataError
from sskd_core.progress import Progress
from sskd_core.stages import prepare
from sskd_core.stages.contract import StageContext, execute, stage_fingerprint, stage_prefix
from sskd_core.storage.digest import digest_bytes
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.run import NullRun

WIDTH, HEIGHT = 12, 8
BOX = [[2, 1, 7, 1, 7, 4, 2, 4]]


def picture(number: int, kind: str = "PNG", **options: Any) -> bytes:
    """An image like no other: its number is in its pixels."""
    pixels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


@dataclass
class UserData:
    """A data set as a user has it: files by name, and COCO documents."""

    files: dict[str, bytes] = field(default_factory=dict)
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)

    def labeled(self, key: str, numbers: range, classes: tuple[str, ...] = ("cat", "dog")) -> dict[str, Any]:
        """Add annotated images, `<key>/images/NNN.png`; image n has one object of class n modulo classes."""
        images, annotations = [], []
        for number in numbers:
            name = f"{number:03d}.png"
            self.files[f"{key}/images/{name}"] = picture(number)
            images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
            category = 10 * (number % len(classes))
            annotations.append({"id": number, "image_id": number, "category_id": category, "segmentation": BOX})
        categories = [{"id": 10 * index, "name": name} for index, name in enumerate(classes)]
        document = {"images": images, "annotations": annotations, "categories": categories}
        self.documents[f"{key}/annotations.json"] = document
        return document

    def unlabeled(self, numbers: range) -> None:
        """Add bare images in nested folders, below `unlabeled/`."""
        for number in numbers:
            self.files[f"unlabeled/{number % 3}/deep/{number:03d}.png"] = picture(number)

    def everything(self) -> dict[str, bytes]:
        documents = {name: json.dumps(value).encode() for name, value in self.documents.items()}
        return {**self.files, **documents}

    def on_disk(self, folder: Path) -> str:
        for name, data in self.everything().items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return str(folder)

    def in_store(self, store: ObjectStore) -> str:
        prefix = f"{store.root}/user"
        for name, data in self.everything().items():
            store.put(f"{prefix}/{name}", data)
        return prefix

    def config(self, place: str, **data: Any) -> PrepareConfig:
        sources = {
            key: LabeledSource(annotations=f"{place}/{key}/annotations.json", images=f"{place}/{key}/images")
            for key in LABELED_SPLITS
            if f"{key}/annotations.json" in self.documents
        }
        values = {"unlabeled": [f"{place}/unlabeled"], **sources, **data}
        return PrepareConfig(data=DataConfig(**values), shard_images=5)


class RecordingRun(NullRun):
    """Keeps the data sets that it is told of."""

    def __init__(self) -> None:
        self.inputs: dict[str, tuple[str, str, str]] = {}

    def log_input(self, name: str, uri: str, digest: str, context: str) -> None:
        self.inputs[name] = (uri, digest, context)


@dataclass
class Runner:
    """Runs the stage as the pipeline does."""

    store: ObjectStore
    workdir: Path
    run: RecordingRun = field(default_factory=RecordingRun)

    def __call__(self, config: PrepareConfig) -> Manifest:
        identity = stage_fingerprint("prepare", config, {})
        self.prefix = stage_prefix(self.store, "prepare", identity)
        progress = Progress("prepare", self.workdir)
        context = StageContext(self.store, self.run, progress, self.prefix, self.workdir, identity)
        return execute("prepare", prepare.run, config, {}, context)

    def problems(self, config: PrepareConfig) -> list[str]:
        """Run on bad data; return the problems, and make sure that nothing was committed."""
        with pytest.raises(DataError) as caught:
            self(config)
        assert list(self.store.list(self.prefix)) == []
        assert not any("\n" in problem for problem in caught.value.problems)
        return caught.value.problems

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.workdir / "prepare.jsonl").read_text().splitlines()]


@pytest.fixture
def run_prepare(store: ObjectStore, tmp_path: Path) -> Runner:
    return Runner(store, tmp_path / "work")


@pytest.fixture
def data() -> UserData:
    """Twenty labelled images and twelve others."""
    result = UserData()
    result.labeled("labeled", range(20))
    result.unlabeled(range(100, 112))
    return result


def contents(dataset: Dataset) -> dict[str, dict[str, str]]:
    return {split: {item.image_id: item.digest for item in dataset.images(split)} for split in SPLITS}


def test_local_data_is_split_indexed_and_copied_by_content(data, run_prepare, store, tmp_path):
    manifest = run_prepare(data.config(data.on_disk(tmp_path / "user"), licence="CC-BY-4.0"))
    dataset = Dataset.load(manifest, store)
    found = contents(dataset)
    assert {split: len(images) for split, images in found.items()} == {
        "labeled": 14,
        "unlabeled": 12,
        "val": 3,
        "test": 3,
    }
    names = [name for split in LABELED_SPLITS for name in found[split]]
    assert sorted(names) == [f"{number:03d}.png" for number in range(20)]
    assert list(found["unlabeled"]) == sorted(name[10:] for name in data.files if name.startswith("unlabeled/"))
    for split in SPLITS:
        for record in dataset.images(split):
            hexadecimal = record.digest.removeprefix("sha256:")
            assert record.uri == f"{store.root}/data/{hexadecimal[:2]}/{hexadecimal}"
            assert (record.width, record.height) == (WIDTH, HEIGHT)
            assert record.bytes == len(store.get(record.uri))
    record = dataset.images("unlabeled")[0]
    original = Image.open(BytesIO(data.files[f"unlabeled/{record.image_id}"]))
    np.testing.assert_array_equal(dataset.read_image(record), np.asarray(original))
    assert manifest.licences == ["CC-BY-4.0"]
    assert [ref.name for ref in manifest.outputs_like("images/labeled/")] == [
        f"images/labeled/{number:05d}" for number in range(3)
    ]


def test_the_facts_are_those_of_the_data(data, run_prepare, store, tmp_path):
    facts = run_prepare(data.config(data.on_disk(tmp_path / "user"))).facts
    assert facts["classes"] == ["cat", "dog"]
    assert facts["category_ids"] == [0, 10]
    assert facts["counts"]["labeled"] == {"images": 14, "instances": 14, "crowd_regions": 0}
    assert facts["counts"]["unlabeled"] == {"images": 12}
    assert sum(facts["class_histogram"].values()) == 14
    assert set(facts["class_histogram"]) == {"cat", "dog"}
    assert facts["left_out"] == {}
    assert {name: digest for name, (_, digest, _) in run_prepare.run.inputs.items()} == {
        f"data.{split}": facts["digests"][split] for split in SPLITS
    }


def test_ground_truth_is_that_of_the_annotation_file(data, run_prepare, store, tmp_path):
    labels = Dataset.load(run_prepare(data.config(data.on_disk(tmp_path / "user"))), store).ground_truth("labeled")
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[1:4, 2:7] = True
    for name, image in labels.items():
        (instance,) = image.instances
        assert instance.category == int(name[:3]) % 2
        np.testing.assert_array_equal(decode_mask(instance.rle), expected)


def test_data_in_the_store_is_referred_to_in_place_with_the_same_digests(data, run_prepare, store, tmp_path):
    prefix = data.in_store(store)
    remote = Dataset.load(run_prepare(data.config(prefix)), store)
    assert not list(store.list(f"{store.root}/data"))
    assert all(record.uri.startswith(f"{prefix}/") for split in SPLITS for record in remote.images(split))
    local = Dataset.load(run_prepare(data.config(data.on_disk(tmp_path / "user"))), store)
    assert contents(local) == contents(remote)


def test_a_second_run_is_cached_and_reads_nothing(data, run_prepare, tmp_path):
    place = tmp_path / "user"
    config = data.config(data.on_disk(place))
    first = run_prepare(config)
    for path in (place / "unlabeled").rglob("*.png"):
        path.unlink()
    assert run_prepare(config) == first


def test_bytes_that_are_there_are_not_copied_again(data, run_prepare, store, tmp_path, monkeypatch):
    place = data.on_disk(tmp_path / "user")
    run_prepare(data.config(place))
    written: list[str] = []
    put = ObjectStore.put
    monkeypatch.setattr(ObjectStore, "put", lambda self, uri, *rest: (written.append(uri), put(self, uri, *rest))[1])
    run_prepare(data.config(place, val_fraction=0.2))
    assert written
    assert not [uri for uri in written if uri.startswith(f"{store.root}/data/")]


def test_own_val_and_test_are_used_whole_and_matched_by_name(data, run_prepare, store, tmp_path):
    data.labeled("val", range(30, 34), classes=("dog", "cat"))
    data.labeled("test", range(40, 45))
    dataset = Dataset.load(run_prepare(data.config(data.on_disk(tmp_path / "user"))), store)
    assert {split: len(images) for split, images in contents(dataset).items()} == {
        "labeled": 20,
        "unlabeled": 12,
        "val": 4,
        "test": 5,
    }
    # In the file of val the first category is the dog.
    assert dataset.ground_truth("val")["030.png"].instances[0].category == dataset.classes.index("dog")
    assert dataset.ground_truth("test")["040.png"].instances[0].category == dataset.classes.index("cat")


def test_the_seed_decides_the_split(data, run_prepare, store, tmp_path):
    config = data.config(data.on_disk(tmp_path / "user"))
    other = config.model_copy(update={"seed": 1})
    first, second = (contents(Dataset.load(run_prepare(item), store)) for item in (config, other))
    assert first["test"] != second["test"]
    assert first["unlabeled"] == second["unlabeled"]


def test_max_labeled_keeps_that_many_and_a_larger_number_keeps_those_too(data, run_prepare, store, tmp_path):
    place = data.on_disk(tmp_path / "user")
    kept = {}
    for number in (4, 8):
        manifest = run_prepare(data.config(place, max_labeled=number))
        kept[number] = set(contents(Dataset.load(manifest, store))["labeled"])
        assert manifest.facts["left_out"] == {"over_max_labeled": 14 - number}
    assert len(kept[4]) == 4
    assert len(kept[8]) == 8
    assert kept[4] < kept[8]


def test_labelled_images_that_are_not_used_are_unlabelled_if_they_lie_there(data, run_prepare, store, tmp_path):
    for number in range(20):
        data.files[f"unlabeled/copy-{number:03d}.png"] = picture(number)
    manifest = run_prepare(data.config(data.on_disk(tmp_path / "user"), max_labeled=4))
    found = contents(Dataset.load(manifest, store))
    assert len(found["unlabeled"]) == 12 + 10
    assert not set(found["unlabeled"].values()) & {d for split in LABELED_SPLITS for d in found[split].values()}
    assert manifest.facts["left_out"] == {"over_max_labeled": 10, "unlabeled_in_other_splits": 10}


def test_a_folder_that_holds_both_sides_is_read_once(data, run_prepare, store, tmp_path, monkeypatch):
    for name in [name for name in data.files if name.startswith("unlabeled/")]:
        data.files[name.replace("unlabeled/", "labeled/images/")] = data.files.pop(name)
    place = data.on_disk(tmp_path / "user")
    reads: list[str] = []
    read = ImageReader._read
    monkeypatch.setattr(ImageReader, "_read", lambda *args: (reads.append(args[1].file.location), read(*args))[1])
    manifest = run_prepare(data.config(place, unlabeled=[f"{place}/labeled/images"]))
    assert len(contents(Dataset.load(manifest, store))["unlabeled"]) == 12
    assert manifest.facts["left_out"] == {"unlabeled_in_other_splits": 20}
    assert len(reads) == len(set(reads)) == 32


def test_equal_unlabelled_images_are_kept_once(data, run_prepare, store, tmp_path):
    data.files["unlabeled/again.png"] = picture(100)
    manifest = run_prepare(data.config(data.on_disk(tmp_path / "user")))
    assert len(Dataset.load(manifest, store).images("unlabeled")) == 12
    assert manifest.facts["left_out"] == {"unlabeled_duplicates": 1}
    assert any(item["kind"] == "note" and "unlabeled duplicates: 1" in item["detail"] for item in run_prepare.records())


def test_an_image_is_on_one_side_only_test_before_val_before_training(data, run_prepare, store, tmp_path):
    data.labeled("val", range(19, 24))
    data.labeled("test", range(22, 26))
    manifest = run_prepare(data.config(data.on_disk(tmp_path / "user")))
    found = contents(Dataset.load(manifest, store))
    assert {split: len(images) for split, images in found.items()} == {
        "labeled": 19,
        "unlabeled": 12,
        "val": 3,
        "test": 4,
    }
    assert manifest.facts["left_out"] == {"labeled_in_other_splits": 1, "val_in_other_splits": 2}


def test_equal_labelled_images_stay_on_one_side(data, run_prepare, store, tmp_path):
    for number in range(10, 20):
        data.files[f"labeled/images/{number:03d}.png"] = picture(number - 10)
    for seed in range(3):
        config = data.config(data.on_disk(tmp_path / "user")).model_copy(update={"seed": seed})
        found = contents(Dataset.load(run_prepare(config), store))
        sides = [set(found[split].values()) for split in LABELED_SPLITS]
        assert sum(len(side) for side in sides) == len(set().union(*sides)) == 10


def test_several_unlabelled_sources_keep_equal_names_apart(data, run_prepare, store, tmp_path):
    place = data.on_disk(tmp_path / "user")
    config = data.config(
        place,
        unlabeled=[f"{place}/unlabeled/0", f"file://{place}/unlabeled/1/deep", f"{place}/unlabeled/2/deep/101.png"],
    )
    found = contents(Dataset.load(run_prepare(config), store))["unlabeled"]
    assert {name.split("/")[0] for name in found} == {"0", "1", "2"}
    assert "2/101.png" in found


def test_images_that_no_file_lists_are_ignored_and_counted(data, run_prepare, store, tmp_path):
    data.files["labeled/images/extra/999.png"] = b"never read"
    data.files["labeled/images/notes.txt"] = b"no image"
    manifest = run_prepare(data.config(data.on_disk(tmp_path / "user")))
    assert manifest.facts["left_out"] == {"not_in_annotation_file": 1}


def test_empty_masks_are_left_out_and_counted(data, run_prepare, store, tmp_path):
    document = data.documents["labeled/annotations.json"]
    document["annotations"].append(
        {
            "id": 99,
            "image_id": 0,
            "category_id": 0,
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]},
        }
    )
    assert run_prepare(data.config(data.on_disk(tmp_path / "user"))).facts["left_out"] == {"empty_masks": 1}


def test_an_image_annotated_as_shown_is_legal_whatever_its_exif_says(data, run_prepare, store, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data.files["labeled/images/000.png"] = picture(0, exif=exif)
    document = data.documents["labeled/annotations.json"]
    document["images"][0] |= {"width": HEIGHT, "height": WIDTH}
    document["annotations"][0]["segmentation"] = [[1, 9, 4, 9, 4, 11, 1, 11]]
    dataset = Dataset.load(run_prepare(data.config(data.on_disk(tmp_path / "user"))), store)
    (record,) = (item for split in LABELED_SPLITS for item in dataset.images(split) if item.image_id == "000.png")
    assert (record.width, record.height) == (HEIGHT, WIDTH)
    assert dataset.read_image(record).shape == (WIDTH, HEIGHT, 3)


def test_an_image_annotated_before_its_exif_rotation_is_refused(data, run_prepare, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data.files["labeled/images/000.png"] = picture(0, exif=exif)
    (problem,) = run_prepare.problems(data.config(data.on_disk(tmp_path / "user")))
    assert (
        "image '000.png' is annotated as 12 x 8, its size before the EXIF rotation; viewers show it as 8 x 12"
        in problem
    )


def test_all_problems_are_reported_at_once_and_nothing_is_committed(data, run_prepare, store, tmp_path):
    document = data.documents["labeled/annotations.json"]
    document["images"][0]["width"] = 13
    document["images"][1]["file_name"] = "gone.png"
    document["annotations"][2]["image_id"] = 77
    document["annotations"][3]["segmentation"] = [[1, 1, 2, 2]]
    document["images"].append({"id": 50, "file_name": "cut.png", "width": WIDTH, "height": HEIGHT})
    data.files["labeled/images/cut.png"] = picture(50)[:150]
    data.labeled("test", range(40, 44), classes=("cat", "cow"))
    data.files["unlabeled/empty.png"] = b""
    data.files["unlabeled/text.jpg"] = b"hello"
    data.unlabeled(range(200, 230))
    place = data.on_disk(tmp_path / "user")
    problems = run_prepare.problems(data.config(place, unlabeled=[f"{place}/unlabeled", f"{place}/nowhere"]))
    expected = [
        "image '000.png' is annotated as 13 x 8, but the file has 12 x 8 pixels",
        "image 'gone.png' is not in data.labeled.images",
        "annotation 2: no image has the id 77",
        "annotation 3 ('003.png'): polygon 1 has 2 points",
        "labeled/images/cut.png: truncated or corrupt image",
        "category 'cow' is none of the classes (cat, dog)",
        "unlabeled/empty.png: the image file is empty",
        "unlabeled/text.jpg: not an image",
        "data.unlabeled[1]: ",
    ]
    for words in expected:
        assert sum(words in problem for problem in problems) == 1, (words, problems)
    assert len(problems) == len(expected)
    assert not list(store.list(f"{store.root}/data"))


def test_missing_places_are_all_named(run_prepare, tmp_path):
    place = str(tmp_path / "user")
    source = LabeledSource(annotations=f"{place}/a.json", images=f"{place}/images")
    config = PrepareConfig(data=DataConfig(labeled=source, val=source, unlabeled=[f"{place}/u"]))
    problems = run_prepare.problems(config)
    keys = [
        "data.labeled.annotations",
        "data.labeled.images",
        "data.val.annotations",
        "data.val.images",
        "data.unlabeled[0]",
    ]
    assert [problem.split(":")[0] for problem in problems] == keys


def test_an_empty_prefix_and_a_folder_in_place_of_a_file_are_named(data, run_prepare, store):
    prefix = data.in_store(store)
    config = data.config(prefix, unlabeled=[f"{prefix}/nothing"])
    labeled = config.data.labeled.model_copy(update={"annotations": f"{prefix}/labeled"})
    problems = run_prepare.problems(PrepareConfig(data=config.data.model_copy(update={"labeled": labeled})))
    assert any(f"data.unlabeled[0]: {prefix}/nothing has no image (" in problem for problem in problems)
    assert any(
        "data.labeled.annotations" in problem and "a folder; name the JSON file" in problem for problem in problems
    )


def test_no_labelled_image_is_refused(data, run_prepare, tmp_path):
    data.documents["labeled/annotations.json"] |= {"images": [], "annotations": []}
    (problem,) = run_prepare.problems(data.config(data.on_disk(tmp_path / "user")))
    assert "lists no image" in problem


def test_too_few_labelled_images_to_split_are_refused(run_prepare, tmp_path):
    data = UserData()
    data.labeled("labeled", range(2))
    data.unlabeled(range(100, 103))
    (problem,) = run_prepare.problems(data.config(data.on_disk(tmp_path / "user")))
    assert "2 different labelled images are too few to set test and val apart" in problem


def test_unlabelled_images_that_are_all_labelled_are_refused(data, run_prepare, tmp_path):
    place = data.on_disk(tmp_path / "user")
    (problem,) = run_prepare.problems(data.config(place, unlabeled=[f"{place}/labeled/images"]))
    assert "no unlabelled image is left" in problem


def test_a_split_without_an_object_is_refused(data, run_prepare, tmp_path):
    document = data.documents["labeled/annotations.json"]
    document["annotations"] = document["annotations"][:1]
    problems = run_prepare.problems(data.config(data.on_disk(tmp_path / "user")))
    assert [problem.split(" has ")[0] for problem in problems] == ["split 'test'", "split 'val'"]


def test_too_many_pixels_are_refused(data, run_prepare, tmp_path):
    problems = run_prepare.problems(data.config(data.on_disk(tmp_path / "user"), max_pixels=WIDTH * HEIGHT - 1))
    assert len(problems) == 32
    assert all("12 x 8 pixels exceed data.max_pixels = 95" in problem for problem in problems)


def test_progress_ends_with_every_image_read(data, run_prepare, tmp_path):
    run_prepare(data.config(data.on_disk(tmp_path / "user")))
    updates = [item for item in run_prepare.records() if item["kind"] == "update"]
    assert [(item["done"], item["unit"]) for item in updates] == [(number, "images") for number in range(1, 33)]
    assert {item["total"] for item in updates} == {32}


def test_a_class_without_a_labelled_object_is_noted(data, run_prepare, tmp_path):
    data.documents["labeled/annotations.json"]["categories"].append({"id": 77, "name": "yak"})
    manifest = run_prepare(data.config(data.on_disk(tmp_path / "user")))
    assert manifest.facts["class_histogram"]["yak"] == 0
    assert any("no labelled object of: yak" in item.get("detail", "") for item in run_prepare.records())


def test_pinned_sources_that_change_are_refused_and_pin_another_run(data, run_prepare, store, tmp_path):
    place = tmp_path / "user"
    config = data.config(data.on_disk(place))
    pinned = config.model_copy(update={"data": pin_sources(config.data, store)})
    assert pin_sources(pinned.data, store) == pinned.data
    (place / "unlabeled" / "new.png").write_bytes(picture(500))
    (problem,) = run_prepare.problems(pinned)
    assert "the data sources changed after this run had started" in problem
    again = config.model_copy(update={"data": pin_sources(config.data, store)})
    assert again.data.sources_digest != pinned.data.sources_digest
    assert digest_bytes(picture(500)) in contents(Dataset.load(run_prepare(again), store))["unlabeled"].values()
