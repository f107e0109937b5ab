"""Collecting label shards: all there, healthy, summed up, shown, and readable through the manifest alone."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from sskd_core.errors import IntegrityError, UserError
from sskd_core.labels import store as label_store
from sskd_core.labels.store import inspect_labels, label_shards, load_labels


@pytest.fixture
def labelled(make_labelling, rectangle_teacher):
    """A data set of 20 images with all its shards written, and its configuration."""
    labelling = make_labelling(20)
    config = labelling.config()
    labelling.work(config, rectangle_teacher())
    return labelling, config


def test_the_manifest_leads_to_every_label(labelled):
    labelling, config = labelled
    manifest = labelling.collect(config)
    assert (manifest.stage, manifest.uri) == ("pseudo_label", f"{labelling.context(config).prefix}/manifest.json")
    assert [item.name for item in manifest.outputs] == [
        "shards/00000",
        "shards/00001",
        "shards/00002",
        "statistics",
        "sheet",
    ]
    labels = load_labels(manifest, labelling.store)
    assert list(labels) == [record.image_id for record in labelling.records]
    assert sum(len(image.instances) for image in labels.values()) == 16
    assert manifest.metrics == {
        "images": 20,
        "instances": 16,
        "instances_per_image": 0.8,
        "empty_rate": 0.2,
        "class_drift": pytest.approx((abs(5 - 16 / 3) + abs(6 - 16 / 3) + abs(5 - 16 / 3)) / 16 / 2),
    }
    assert manifest.facts["class_histogram"] == {"disc": 5, "box": 6, "star": 5}
    assert manifest.facts["worker_seconds"] > 0
    assert manifest.facts["worker_peak_memory_mb"] > 0
    assert manifest.facts["labeller"] == labelling.inputs["teacher"].fingerprint
    assert manifest.licences == ["CC-BY-4.0"]


def test_the_sheet_is_a_picture_of_all_images_when_they_are_few(labelled):
    labelling, config = labelled
    data = labelling.store.read(labelling.collect(config).output("sheet"))
    assert Image.open(io.BytesIO(data)).size == (6 * 326 + 6, 4 * 266 + 6)


def test_no_shard_but_those_of_the_sheet_is_read(make_labelling, rectangle_teacher):
    labelling = make_labelling(40)
    config = labelling.config(shard_images=4)
    labelling.work(config, rectangle_teacher())
    shown = {0, 3, 6, 9}
    for index, uri in enumerate(labelling.shard_uris(config)):
        if index not in shown:
            labelling.store.put(uri, b"\0" * len(labelling.store.get(uri)))
    manifest = labelling.collect(config)
    assert manifest.metrics["images"] == 40
    with pytest.raises(IntegrityError, match="00001"):
        load_labels(manifest, labelling.store)


def test_a_missing_shard_is_named_and_nothing_is_committed(labelled):
    labelling, config = labelled
    labelling.store.delete(labelling.shard_uris(config)[1])
    with pytest.raises(UserError, match="1 of 3 label shards are missing, the first is 00001; run the pseudo_label"):
        labelling.collect(config)
    assert not labelling.store.exists(f"{labelling.context(config).prefix}/manifest.json")


def test_a_record_that_is_none_is_refused(labelled):
    labelling, config = labelled
    uri = f"{labelling.context(config).prefix}/statistics/00002.json"
    labelling.store.put(uri, b"{}")
    with pytest.raises(IntegrityError, match=r"00002\.json: not a shard record"):
        labelling.collect(config)


def test_labels_that_teach_nothing_stop_the_run(make_labelling, rectangle_teacher):
    labelling = make_labelling(6)
    config = labelling.config(score_threshold=0.9)
    labelling.work(config, rectangle_teacher())
    with pytest.raises(UserError, match=r"no pseudo-label on any of 6 images: best candidate score 0\.784"):
        labelling.collect(config)
    assert not labelling.store.exists(f"{labelling.context(config).prefix}/manifest.json")


def test_raising_a_health_limit_judges_the_same_shards_again(make_labelling, rectangle_teacher):
    labelling = make_labelling(6)
    strict = labelling.config(max_empty_rate=0.1)
    labelling.work(strict, rectangle_teacher())
    with pytest.raises(UserError, match="max_empty_rate"):
        labelling.collect(strict)
    assert labelling.collect(labelling.config(max_empty_rate=0.5)).metrics["images"] == 6


def test_many_shards_are_listed_outside_of_the_manifest(labelled, monkeypatch):
    labelling, config = labelled
    monkeypatch.setattr(label_store, "LISTED_SHARDS", 2)
    manifest = labelling.collect(config)
    assert [item.name for item in manifest.outputs] == ["shards", "statistics", "sheet"]
    assert [item.uri for item in label_shards(manifest, labelling.store)] == labelling.shard_uris(config)
    assert len(load_labels(manifest, labelling.store)) == 20


def test_a_manifest_of_another_stage_is_no_source_of_labels(labelled):
    labelling, _ = labelled
    with pytest.raises(IntegrityError, match="the prepare stage has no output 'shards'"):
        load_labels(labelling.inputs["data"], labelling.store)


def test_inspection_reads_statistics_and_tells_the_rules(labelled):
    labelling, config = labelled
    manifest = labelling.collect(config)
    for uri in labelling.shard_uris(config):
        labelling.store.delete(uri)
    summary = inspect_labels(manifest, labelling.store)
    assert summary["digest"] == manifest.digest
    assert (summary["shards"], summary["images"], summary["instances"]) == (3, 20, 16)
    assert summary["empty_rate"] == 0.2
    assert summary["class_histogram"] == {"disc": 5, "box": 6, "star": 5}
    assert summary["score_quantiles"]["1"] == pytest.approx(200 / 255, abs=0.005)
    assert summary["config"]["score_threshold"] == 0.3
    assert summary["labeller"] == labelling.inputs["teacher"].fingerprint


def test_labels_of_old_images_stand_and_the_new_ones_are_labelled_alone(make_labelling, rectangle_teacher):
    old = make_labelling(19)
    config = old.config()
    old.work(config, rectangle_teacher())
    earlier = old.collect(config)
    new = make_labelling(26)  # the same images, and seven more
    data = new.inputs["data"].model_copy(
        update={"inputs": {"earlier": earlier.inputs["data"]}, "uri": f"{new.store.root}/more.json"}
    )
    new.inputs = {**new.inputs, "data": data, "earlier": earlier}
    teacher = rectangle_teacher()
    new.work(config, teacher)
    manifest = new.collect(config)
    assert teacher.seen == 7
    shards = label_shards(manifest, new.store)
    assert [ref.uri for ref in shards[:3]] == [ref.uri for ref in label_shards(earlier, new.store)]
    assert list(load_labels(manifest, new.store)) == [f"{number:04d}.png" for number in range(26)]
    assert manifest.metrics["images"] == 26
    assert manifest.metrics["new_images"] == 7
    assert manifest.metrics["new_empty_rate"] == pytest.approx(2 / 7)
    everything = make_labelling(26)
    everything.work(config, rectangle_teacher())
    alone = everything.collect(config)
    assert alone.metrics["instances"] == manifest.metrics["instances"]
    assert alone.facts["class_histogram"] == manifest.facts["class_histogram"]


def test_without_a_new_image_the_earlier_labels_are_all(make_labelling, rectangle_teacher):
    labelling = make_labelling(9)
    config = labelling.config()
    labelling.work(config, rectangle_teacher())
    earlier = labelling.collect(config)
    data = labelling.inputs["data"].model_copy(update={"inputs": {"earlier": earlier.inputs["data"]}})
    labelling.inputs = {**labelling.inputs, "data": data, "earlier": earlier}
    teacher = rectangle_teacher(fail_after=0)
    labelling.work(config, teacher)
    manifest = labelling.collect(config)
    assert manifest.metrics["images"] == 9
    assert manifest.metrics["new_images"] == 0
    assert "new_empty_rate" not in manifest.metrics
