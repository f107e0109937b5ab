"""SAM 2 as a segmenter of boxes, against the model of `transformers`."""

from __future__ import annotations

import pytest
import torch
from grounding_fixtures import SEGMENTER
from transformers import Sam2Model

from sskd_core.models.sam_masks import BOXES_AT_ONCE, decode_boxes, encode_image, input_side, resize_pixels


@pytest.fixture
def network(teacher_parts) -> Sam2Model:
    return Sam2Model.from_pretrained(teacher_parts[1]).eval()


def squares(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def boxes(count: int) -> torch.Tensor:
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(2)).sort(1).values
    return corners.flatten(1)


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 5, BOXES_AT_ONCE + 3])
def test_boxes_are_segmented_as_by_the_model_itself(network, count):
    expected = network(squares(), input_boxes=(boxes(count) * 64).expand(2, -1, -1), multimask_output=False)
    pyramid = encode_image(network, squares()).pyramid
    for image in range(2):
        masks, quality = decode_boxes(network, [level[image : image + 1] for level in pyramid], boxes(count))
        assert masks.shape == (count, 16, 16)
        assert torch.allclose(masks, expected.pred_masks[image, :, 0], atol=1e-4)
        assert torch.allclose(quality, expected.iou_scores[image, :, 0], atol=1e-5)


@torch.no_grad()
def test_no_box_gives_no_mask(network):
    masks, quality = decode_boxes(network, encode_image(network, squares(1)).pyramid, torch.zeros(0, 4))
    assert masks.shape == (0, 16, 16)
    assert quality.shape == (0,)


@torch.no_grad()
def test_boxes_keep_their_precision_under_autocast(network):
    """bfloat16 holds three digits; neighbouring boxes at a thousandth of the image would be the same."""
    near = torch.tensor([[0.5, 0.5, 0.75, 0.75], [0.5005, 0.5, 0.75, 0.75]])
    pyramid = encode_image(network, squares(1)).pyramid
    expected, _ = decode_boxes(network, pyramid, near)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = decode_boxes(network, [level.bfloat16() for level in pyramid], near)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=0.2)
    assert not torch.equal(found[0], found[1])


@torch.no_grad()
def test_the_levels_are_those_of_the_image_encoder(network):
    features = encode_image(network, squares())
    output = network.vision_encoder(squares())
    assert torch.equal(features.levels[0], output.fpn_hidden_states[-1])
    assert torch.equal(features.levels[1], output.last_hidden_state.permute(0, 3, 1, 2))
    assert [level.shape[2] for level in features.pyramid] == [16, 8, 4]
    part = features.rows(slice(1, None))
    assert torch.equal(part.levels[1], features.levels[1][1:])
    assert torch.equal(part.pyramid[0], features.pyramid[0][1:])


def test_an_image_is_squeezed_to_the_square_input(network):
    assert input_side(network) == SEGMENTER["prompt_encoder_config"]["image_size"]
    pixels = torch.zeros(1, 3, 40, 128)
    pixels[..., :64] = 1.0
    found = resize_pixels(network, pixels)
    assert found.shape == (1, 3, 64, 64)
    assert torch.allclose(found[..., :31], torch.ones(1))
    assert torch.allclose(found[..., 33:], torch.zeros(1))
