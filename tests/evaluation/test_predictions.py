from __future__ import annotations

from engine_fixtures import Rectangles

from sskd_core.data.records import Instance, Rle
from sskd_core.evaluation.predictions import predict_split


def test_images_are_read_and_predicted_batch_by_batch() -> None:
    data = Rectangles(5)
    events: list[object] = []

    def read(record):
        events.append(record.image_id)
        return data.read(record)

    def predict(images):
        events.append(len(images))
        # The pixel sum tells which image an answer belongs to.
        return [[Instance(0, Rle(size=[1, 1], counts="1"), score=float(image.sum()))] for image in images]

    found = predict_split(predict, data.records(), read, 2, lambda done: events.append(f"{done} done"))
    assert events == ["0", "1", 2, "2 done", "2", "3", 2, "4 done", "4", 1, "5 done"]
    assert {key: items[0].score for key, items in found.items()} == {
        record.image_id: float(data.read(record).sum()) for record in data.records()
    }
