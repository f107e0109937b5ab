"""The section of the grounded teacher, and where it may stand."""

from __future__ import annotations

import pytest

from sskd_core.config.base import validate
from sskd_core.config.grounding import GroundingConfig
from sskd_core.config.model import ModelConfig
from sskd_core.errors import ConfigError

PARTS = {"detector": "hub/detector", "segmenter": "hub/segmenter"}


def test_the_defaults_are_those_of_the_specification():
    section = GroundingConfig()
    assert section.score_threshold == 0.3
    assert section.max_boxes == 100
    assert section.overlaps == "detection_order"
    assert not section.train_mask_decoder


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"family": "grounded_sam"}, "'grounding' belongs to family grounded_sam, which needs it"),
        ({"family": "mask2former", "grounding": {}}, "'grounding' belongs to family grounded_sam"),
        ({"family": "grounded_sam", "grounding": {"detector": "x"}}, "'grounding': .*set 'segmenter', too"),
        ({"family": "grounded_sam", "grounding": {"segmenter": "x"}}, "set 'detector', too"),
        ({"family": "grounded_sam", "grounding": PARTS, "weights": "x"}, "set 'weights' or 'grounding.detector'"),
        ({"family": "grounded_sam", "grounding": {}, "encoder_weights": "x"}, "takes 'grounding.detector' and"),
        ({"family": "grounded_sam", "grounding": {"phrases": {"car": []}}}, "phrases.car'.*at least 1 item"),
        ({"family": "grounded_sam", "grounding": {"class_thresholds": {"car": 2}}}, "class_thresholds.car'"),
        ({"family": "grounded_sam", "grounding": {"score_treshold": 0.1}}, "did you mean 'score_threshold'"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        validate(ModelConfig, values, "x.yaml")
    assert "\n" not in str(caught.value)
