"""`sskd describe` with a teacher that is made of two networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from grounding_fixtures import grounded_config, tiny_teacher

MICRO = Path(__file__).parent.parent / "micro.yaml"


@pytest.fixture
def teacher(sskd: Callable, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that describes an experiment with some teacher, and returns what it says of the teacher."""

    def describe(**values: Any) -> dict[str, Any]:
        experiment = yaml.safe_load(MICRO.read_text()) | {"teacher": values}
        (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(experiment))
        answer = sskd("describe", str(tmp_path / "experiment.yaml"), "--json")
        assert answer.code == 0, answer.err
        return json.loads(answer.out)["models"]["teacher"]

    return describe


def test_the_architecture_is_that_of_the_published_parts(teacher, teacher_parts):
    found = teacher(**grounded_config(*teacher_parts).model_dump(mode="json"))
    expected = tiny_teacher(*teacher_parts)
    assert found["parameters"] == sum(parameter.numel() for parameter in expected.parameters())
    assert found["weights"] == " + ".join(map(str, teacher_parts))
    assert found["input"] == [64, 96]


def test_without_parts_it_has_its_real_size(teacher):
    places = {"detector": "s3://bucket/detector", "segmenter": "s3://bucket/segmenter"}
    found = teacher(family="grounded_sam", grounding=places, input={"height": 800, "width": 1333})
    assert found["parameters"] == pytest.approx(568e6, rel=0.05)
    assert found["weights"] == "s3://bucket/detector + s3://bucket/segmenter"
