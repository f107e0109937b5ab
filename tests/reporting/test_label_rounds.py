"""Label rounds: figures from the statistics, classes beside those of the labelled images."""

from __future__ import annotations

import json

import pytest
from report_fixtures import finished_run

from sskd_core.errors import IntegrityError
from sskd_core.reporting.label_rounds import class_shares, read_rounds


@pytest.fixture
def run():
    return finished_run()


def test_both_rounds_know_their_teacher(run):
    first, second = read_rounds(run.manifests, run.read)
    assert (first.node, first.teacher) == ("pseudo_label", "adapt_teacher")
    assert (second.node, second.teacher) == ("relabel", "self_train_teacher")
    assert second.drift == 0.0625
    assert second.statistics.rejected == {"score": 1450, "area": 31}
    assert second.sheet.startswith("data:image/jpeg;base64,")


def test_shares_stand_beside_those_of_the_labelled_images():
    disc, star = class_shares({"disc": 30, "star": 10}, {"disc": 1, "star": 3})
    assert (disc.share, disc.labeled_share) == (0.75, 0.25)
    assert (star.share, star.labeled_share) == (0.25, 0.75)


def test_shares_without_labels_or_without_pseudo_labels():
    assert class_shares({"disc": 3}, {})[0].labeled_share is None
    assert class_shares({"disc": 0}, {"disc": 3})[0].share == 0.0


def test_a_round_without_a_label_has_no_histogram_and_no_bar(run):
    uri = run.manifests["relabel"].output("statistics").uri
    empty = json.loads(run.objects[uri])
    empty |= {"instances": 0, "class_histogram": {}, "score_histogram": [0] * 200, "score_quantiles": {}}
    run.objects[uri] = json.dumps(empty).encode()
    item = read_rounds(run.manifests, run.read)[1]
    assert item.scores is None
    assert item.largest_share == 1


def test_statistics_of_another_shape_are_one_line(run):
    run.objects[run.manifests["relabel"].output("statistics").uri] = b'{"images": 3}'
    with pytest.raises(IntegrityError, match=r"relabel/statistics: not label statistics: ") as error:
        read_rounds(run.manifests, run.read)
    assert "\n" not in str(error.value)


def test_a_run_without_labels_has_no_round(run):
    assert read_rounds({"prepare": run.manifests["prepare"]}, run.read) == []
