"""The labelling worker: fixed shards, resume after a kill at any place, several workers, constant memory."""

from __future__ import annotations

import json
import os
import signal
import tracemalloc

import pytest

from sskd_core.errors import ConfigError, Interrupted, UserError
from sskd_core.labels.schema import decode_shard
from sskd_core.models.build import construct
from sskd_core.models.predict import Predictor
from sskd_core.models.trained import save_trained
from sskd_core.stages import pseudo_label
from sskd_core.stages.contract import execute
from tests.engine_fixtures import model_config


def test_a_worker_labels_every_image_in_the_order_of_the_index(make_labelling, rectangle_teacher):
    labelling, teacher = make_labelling(21), rectangle_teacher()
    config = labelling.config()
    manifest = labelling.work(config, teacher)
    shards = [decode_shard(labelling.store.get(uri), uri) for uri in labelling.shard_uris(config)]
    assert [len(shard) for shard in shards] == [8, 8, 5]
    labels = [image for shard in shards for image in shard]
    assert [image.image_id for image in labels] == [record.image_id for record in labelling.records]
    assert [bool(image.instances) for image in labels] == [bool(number % 5) for number in range(21)]
    assert [image.instances[0].category for image in labels if image.instances] == [
        number % 3 for number in range(21) if number % 5
    ]
    assert teacher.batches == [3, 3, 2, 3, 3, 2, 3, 2], "batches must not reach over the end of a shard"
    assert manifest.facts | {"shards": 3, "images": 21, "worker": 0, "workers": 1} == manifest.facts
    assert manifest.licences == ["CC-BY-4.0"]


def test_the_workers_manifest_does_not_finish_the_stage(make_labelling, rectangle_teacher):
    labelling = make_labelling(4)
    config = labelling.config(worker=1, workers=2)
    manifest = labelling.work(config, rectangle_teacher())
    prefix = labelling.context(config).prefix
    assert (manifest.stage, manifest.uri) == ("pseudo_label_worker", f"{prefix}/workers/1-of-2.json")
    assert labelling.store.manifest(manifest.uri) == manifest
    assert not labelling.store.exists(f"{prefix}/manifest.json")


def test_a_killed_worker_leaves_whole_shards_and_the_next_labels_only_the_rest(make_labelling, rectangle_teacher):
    whole = make_labelling(40)
    config = whole.config()
    whole.work(config, rectangle_teacher())
    expected = whole.shard_uris(config)
    records = [whole.store.get(uri) for uri in _records(whole, config)]
    for uri in [*expected, *_records(whole, config)]:
        whole.store.delete(uri)

    with pytest.raises(RuntimeError, match="went away"):
        whole.work(config, rectangle_teacher(fail_after=20))
    assert whole.shard_uris(config) == expected[:2]
    teacher = rectangle_teacher()
    whole.work(config, teacher)
    assert teacher.seen == 24
    assert whole.shard_uris(config) == expected
    assert [whole.store.get(uri) for uri in _records(whole, config)] == records


def test_one_worker_goes_on_where_three_stopped(make_labelling, rectangle_teacher):
    labelling = make_labelling(40)
    labelling.work(labelling.config(worker=1, workers=3), rectangle_teacher())
    assert [uri.rsplit("/", 1)[1][:5] for uri in labelling.shard_uris(labelling.config())] == ["00001", "00004"]
    teacher = rectangle_teacher()
    labelling.work(labelling.config(), teacher)
    assert teacher.seen == 24
    together = labelling.shard_uris(labelling.config())
    for uri in [*together, *_records(labelling, labelling.config())]:
        labelling.store.delete(uri)
    for worker in range(3):
        labelling.work(labelling.config(worker=worker, workers=3), rectangle_teacher())
    assert labelling.shard_uris(labelling.config()) == together


def test_a_shard_without_record_and_a_record_without_shard_are_labelled_again(make_labelling, rectangle_teacher):
    labelling = make_labelling(24)
    config = labelling.config()
    labelling.work(config, rectangle_teacher())
    shards, records = labelling.shard_uris(config), _records(labelling, config)
    labelling.store.delete(records[0])
    labelling.store.delete(shards[2])
    teacher = rectangle_teacher()
    labelling.work(config, teacher)
    assert teacher.seen == 16
    assert (labelling.shard_uris(config), _records(labelling, config)) == (shards, records)


def test_nothing_is_left_to_do_without_loading_the_teacher(make_labelling, rectangle_teacher):
    labelling = make_labelling(5)
    config = labelling.config()
    labelling.work(config, rectangle_teacher())

    def load(*_):
        raise AssertionError("the teacher was loaded")

    result = pseudo_label.run_worker(config, labelling.inputs, labelling.context(config), load)
    assert result.facts["images"] == 5


def test_a_worker_of_a_finished_stage_returns_its_manifest(make_labelling, rectangle_teacher):
    labelling = make_labelling(5)
    config = labelling.config()
    labelling.work(config, rectangle_teacher())
    collected = labelling.collect(config)
    teacher = rectangle_teacher()
    assert labelling.work(labelling.config(worker=1, workers=2), teacher) == collected
    assert teacher.seen == 0


def test_sigterm_stops_between_batches_and_keeps_finished_shards(make_labelling, rectangle_teacher):
    labelling = make_labelling(24)
    config = labelling.config()

    def stop_in_second_shard(seen: int) -> None:
        if seen == 11:
            os.kill(os.getpid(), signal.SIGTERM)

    teacher = rectangle_teacher(on_batch=stop_in_second_shard)
    with pytest.raises(Interrupted, match="SIGTERM"):
        labelling.work(config, teacher)
    assert teacher.seen == 11
    assert len(labelling.shard_uris(config)) == 1
    teacher = rectangle_teacher()
    labelling.work(config, teacher)
    assert teacher.seen == 16


def test_progress_counts_the_images_that_were_there(make_labelling, rectangle_teacher):
    labelling = make_labelling(20)
    config = labelling.config()
    with pytest.raises(RuntimeError):
        labelling.work(config, rectangle_teacher(fail_after=9))
    file = labelling.workdir / "pseudo_label.jsonl"
    file.unlink()
    labelling.work(config, rectangle_teacher())
    updates = [item for item in map(json.loads, file.read_text().splitlines()) if item["kind"] == "update"]
    assert [item["done"] for item in updates] == [11, 14, 16, 19, 20]
    assert {(item["total"], item["unit"]) for item in updates} == {(20, "images")}


def test_the_statistics_say_what_the_rules_rejected(make_labelling, rectangle_teacher):
    labelling = make_labelling(8)
    config = labelling.config(score_threshold=0.5)
    labelling.work(config, rectangle_teacher())
    (uri,) = _records(labelling, config)
    statistics = json.loads(labelling.store.get(uri))["statistics"]
    assert statistics["class_histogram"] == {"disc": 0, "box": 3, "star": 1}
    assert statistics["rejected"] == {"score": 2}
    assert statistics["best_score"] == pytest.approx(200 / 255)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"worker": 2, "workers": 2}, ConfigError, "worker 2 of 2"),
        ({"class_thresholds": {"cat": 0.5}}, ConfigError, "no class 'cat'"),
    ],
)
def test_a_wrong_configuration_is_refused(make_labelling, rectangle_teacher, change, error, message):
    labelling = make_labelling(3)
    with pytest.raises(error, match=message):
        labelling.work(labelling.config(**change), rectangle_teacher())


def test_a_teacher_with_other_classes_is_refused(make_labelling, rectangle_teacher):
    labelling = make_labelling(3)
    with pytest.raises(UserError, match=r"classes \(box, disc\) are not the data set's \(disc, box, star\)"):
        labelling.work(labelling.config(), rectangle_teacher(classes=["box", "disc"]))


def test_memory_holds_few_images_however_many_there_are(make_labelling, rectangle_teacher):
    labelling, teacher = make_labelling(48, enlarge=20), rectangle_teacher()
    tracemalloc.start()
    labelling.work(labelling.config(batch=2, shard_images=48), teacher)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert teacher.seen == 48
    a_third_of_all = 16 * (20 * 20 * 24 * 32 * 3)
    assert peak < a_third_of_all


def test_the_teacher_is_the_network_that_the_manifest_names(make_labelling):
    labelling = make_labelling(10)
    network = construct(model_config(), labelling.classes, seed=3).eval()
    weights = save_trained(network, labelling.store, f"{labelling.store.root}/teacher")
    labelling.inputs["teacher"] = labelling.inputs["teacher"].model_copy(update={"outputs": weights})
    config = labelling.config(score_threshold=0.1, min_area=1, remove_overlaps=False)
    execute("pseudo_label", pseudo_label.run_worker, config, labelling.inputs, labelling.context(config), "workers/0")

    dataset = pseudo_label.Dataset.load(labelling.inputs["data"], labelling.store)
    predictor = Predictor(network, score_threshold=0.1)
    expected = [
        found
        for start, end in [(0, 3), (3, 6), (6, 8), (8, 10)]
        for found in predictor.predict([dataset.read_image(record) for record in labelling.records[start:end]])
    ]
    labels = [image for uri in labelling.shard_uris(config) for image in decode_shard(labelling.store.get(uri), uri)]
    assert any(expected)
    assert [image.instances for image in labels] == expected


def _records(labelling, config):
    return [item.uri for item in labelling.store.list(f"{labelling.context(config).prefix}/statistics")]
