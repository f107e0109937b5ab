"""Which of a teacher's queries become pseudo-instances, and what is counted of the others."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from sskd_core.config.teaching import OnlineLabelConfig
from sskd_core.errors import ConfigError
from sskd_core.labels.online import OnlineFilter
from sskd_core.models.protocol import QueryOutput

CLASSES = ["disc", "box"]
HEIGHT, WIDTH = 6, 8
SURE = 20.0


def query(
    label: int | None, probability: float, cells: list[tuple[int, int]], inside: float = 0.999, outside: float = 0.0
):
    """Return class and mask logits of one query: the class's probability, and that of the mask in and out of cells."""
    rest = (1.0 - probability) / 2
    classes = torch.full((3,), rest)
    classes[2 if label is None else label] = probability
    mask = torch.full((HEIGHT, WIDTH), outside).clamp_min(1e-9)
    for row, column in cells:
        mask[row, column] = inside
    return classes.log(), torch.logit(mask)


def output(*images) -> QueryOutput:
    classes = torch.stack([torch.stack([item[0] for item in image]) for image in images])
    masks = torch.stack([torch.stack([item[1] for item in image]) for image in images])
    return QueryOutput([torch.zeros_like(classes), classes], [torch.zeros_like(masks), masks], [])


def block(cells: int, row: int = 0) -> list[tuple[int, int]]:
    return [(row + number // WIDTH, number % WIDTH) for number in range(cells)]


def keep(*images, **rules):
    return OnlineFilter(OnlineLabelConfig(**{"soft_area": 3.0, **rules}), CLASSES)(output(*images))


def counts(found) -> dict[str, int]:
    return {reason: int(number) for reason, number in found.rejected.items() if number}


def test_an_object_above_both_thresholds_is_kept_with_its_hard_mask():
    found = keep(
        [query(1, 0.9, block(10)), query(None, 0.9, block(10)), query(0, 0.6, block(10)), query(0, 0.9, block(2))]
    )
    (target,) = found.targets
    assert target.labels.tolist() == [1]
    assert target.masks.shape == (1, HEIGHT, WIDTH)
    assert target.masks.sum() == 10
    assert set(target.masks.unique().tolist()) == {0.0, 1.0}
    assert target.teaches_mask is None
    assert counts(found) == {"no_object": 1, "score": 1, "soft_area": 1}
    assert found.instances == 1
    assert found.best_scores.tolist() == pytest.approx([0.9])


@pytest.mark.parametrize(("threshold", "kept"), [(1.0, 0), (0.9999, 1)])
def test_the_class_threshold_is_strict(threshold, kept):
    # A difference of 200 makes a probability of exactly 1 in single precision.
    answer = QueryOutput([torch.tensor([[[200.0, 0.0, 0.0]]])], [torch.full((1, 1, HEIGHT, WIDTH), SURE)], [])
    assert OnlineFilter(OnlineLabelConfig(class_threshold=threshold), CLASSES)(answer).instances == kept


@pytest.mark.parametrize(("cells", "kept"), [(5, 0), (6, 1)])
def test_the_soft_area_is_strict_and_in_cells_of_the_logits(cells, kept):
    mask = torch.full((HEIGHT, WIDTH), -200.0)
    mask.view(-1)[:cells] = 200.0
    answer = QueryOutput([torch.tensor([[[SURE, 0.0, 0.0]]])], [mask[None, None]], [])
    assert OnlineFilter(OnlineLabelConfig(soft_area=5.0), CLASSES)(answer).instances == kept


def test_faint_background_passes_the_soft_area_with_an_empty_mask_and_is_counted():
    faint = query(0, 0.9, [], outside=0.2)
    found = keep([faint])
    assert (found.instances, int(found.empty_masks)) == (1, 1)
    assert float(found.targets[0].masks.sum()) == 0.0
    strict = keep([faint], hard_area=0.0)
    assert (strict.instances, int(strict.empty_masks), counts(strict)) == (0, 0, {"area": 1})


def test_the_mask_score_is_the_mean_probability_inside():
    doubtful, sure = query(0, 0.9, block(8), inside=0.6), query(0, 0.9, block(8, row=3), inside=0.95)
    found = keep([doubtful, sure], mask_score=0.8)
    assert (found.instances, counts(found)) == (1, {"mask_score": 1})
    assert found.targets[0].masks[0, 3].sum() == 8


def test_a_doubtful_mask_teaches_its_class_alone():
    doubtful, sure = query(0, 0.9, block(8), inside=0.6), query(1, 0.9, block(8, row=3), inside=0.95)
    (target,) = keep([doubtful, sure], mask_loss_score=0.8).targets
    assert target.labels.tolist() == [0, 1]
    assert target.teaches_mask.tolist() == [False, True]


def test_doubles_of_a_class_go_to_the_better_one():
    first, double = query(0, 0.8, block(10)), query(0, 0.9, block(9))
    other_class, apart = query(1, 0.85, block(10)), query(0, 0.75, block(10, row=3))
    found = keep([first, double, other_class, apart], nms_iou=0.5)
    assert counts(found) == {"overlap": 1}
    assert found.targets[0].labels.tolist() == [0, 1, 0]
    assert found.targets[0].masks.flatten(1).sum(1).tolist() == [9, 10, 10]
    assert keep([first, double], nms_iou=0.95).instances == 2


def test_doubles_across_classes_go_to_the_better_one():
    weak, best, apart = query(1, 0.85, block(10)), query(0, 0.9, block(9)), query(0, 0.75, block(10, row=3))
    found = keep([weak, best, apart], nms_iou=0.5, nms_across_classes=True)
    assert counts(found) == {"overlap": 1}
    assert found.targets[0].labels.tolist() == [0, 0]
    with pytest.raises(ValidationError, match="nms_across_classes needs nms_iou"):
        OnlineLabelConfig(nms_across_classes=True)


def test_a_class_may_have_a_threshold_of_its_own():
    images = [query(0, 0.8, block(8)), query(1, 0.8, block(8, row=3))]
    assert keep(images, class_thresholds={"box": 0.85}).targets[0].labels.tolist() == [0]
    with pytest.raises(
        ConfigError, match=r"teaching.filter.class_thresholds: no class 'ring'; the classes are: disc, box"
    ):
        keep(images, class_thresholds={"ring": 0.5})


def test_images_are_judged_by_themselves():
    found = keep([query(0, 0.9, block(8))], [query(None, 0.9, block(8))])
    assert [len(item.labels) for item in found.targets] == [1, 0]
    assert found.targets[1].masks.shape == (0, HEIGHT, WIDTH)
