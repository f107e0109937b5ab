"""Sums, shares and words among two real processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ranks import leave, left, run_ranks

from sskd_core.distributed import group
from sskd_core.distributed.batch_norm import synchronise
from sskd_core.errors import ConfigError

SCALES = torch.tensor([1.0, -2.0, 3.0])


def rows_of(rank: int) -> torch.Tensor:
    """Return two rows for the first process and three for the second."""
    return torch.arange(6.0 + 3.0 * rank).view(2 + rank, 3) + 100 * rank


def images() -> torch.Tensor:
    """Return a batch of four whose halves have different statistics."""
    values = torch.randn(4, 3, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return values * 2 + torch.arange(4.0)[:, None, None, None]


def normalisation() -> torch.nn.Module:
    torch.manual_seed(0)
    layer = torch.nn.BatchNorm2d(3, momentum=0.3).double()
    torch.nn.init.normal_(layer.weight)
    return torch.nn.Sequential(layer)


def normalised(layer: torch.nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return output and the gradient of an uneven loss."""
    batch = batch.clone().requires_grad_()
    result = layer(batch)
    (result**3 * SCALES[:, None, None]).sum().backward()
    return result, batch.grad


def use_group(folder: Path) -> None:
    rank, found = group.rank(), {}
    found["total"] = group.total(torch.tensor([1.0 + rank, 5.0]))
    share = group.share(2 + 3 * rank)
    found["share"] = torch.tensor([share.first, share.count, share.total])
    counts, first = group.all_counts([rank, 7])
    found["counts"] = torch.tensor([*counts, first])
    rows = rows_of(rank).requires_grad_()
    found["gathered"] = group.gathered(rows)
    (found["gathered"] * (rank + 1.0)).sum().backward()
    found["gradient"] = rows.grad
    found["empty"] = group.gathered(torch.ones(rank, 2))
    found["agreed"] = torch.tensor([group.agreed(False), group.agreed(rank == 1), group.agreed(True)])
    word = group.told("straße" if group.leads() else None)
    found["word"] = torch.tensor(list(word.encode()))
    figures = group.means({"both": 1.0 + rank, "leader": 5.0} if group.leads() else {"both": 1.0 + rank, "other": 7.0})
    found["figures"] = torch.tensor([figures["both"], figures["leader"], figures["other"], len(figures)])
    part = group.own_part(6, "labeled_batch")
    found["part"] = torch.tensor([part.start, part.stop])
    with pytest.raises(ConfigError, match="labeled_batch of 9 images a step cannot be divided among 2 processes"):
        group.own_part(9, "labeled_batch")
    layer = normalisation()
    synchronise(layer)
    result, gradient = normalised(layer, images()[2 * rank : 2 * rank + 2])
    found |= {"result": result, "images": gradient, "weight": layer[0].weight.grad, "bias": layer[0].bias.grad}
    found |= {"mean": layer[0].running_mean, "var": layer[0].running_var}
    leave(folder, found)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("group")
    run_ranks(use_group, folder)
    return left(folder)


def test_sums_and_places(found):
    for rank, own in enumerate(found):
        assert own["total"].tolist() == [3.0, 10.0]
        assert own["share"].tolist() == [[0, 2, 7], [2, 5, 7]][rank]
        assert own["counts"].tolist() == [0, 7, 1, 7, 2 * rank]
        assert own["part"].tolist() == [3 * rank, 3 * rank + 3]
        assert own["agreed"].tolist() == [False, True, True]


def test_rows_of_all_come_in_order_and_their_gradients_are_summed(found):
    expected = torch.cat([rows_of(0), rows_of(1)])
    for own in found:
        assert torch.equal(own["gathered"], expected)
        assert torch.equal(own["gradient"], torch.full_like(own["gradient"], 3.0))  # 1 of the one and 2 of the other
        assert own["empty"].shape == (1, 2)


def test_all_hear_the_leader_and_average_what_each_has(found):
    for own in found:
        assert bytes(own["word"].tolist()).decode() == "straße"
        assert own["figures"].tolist() == [1.5, 5.0, 7.0, 3.0]


def test_batch_normalisation_sees_the_whole_batch(found):
    """Against `nn.BatchNorm2d` on the joined batch: values, gradients of images and parameters, running statistics."""
    layer = normalisation()
    result, gradient = normalised(layer, images())
    for name, expected in (("result", result), ("images", gradient)):
        assert torch.allclose(torch.cat([own[name] for own in found]), expected, atol=1e-10)
    assert torch.allclose(found[0]["weight"] + found[1]["weight"], layer[0].weight.grad)
    assert torch.allclose(found[0]["bias"] + found[1]["bias"], layer[0].bias.grad)
    for own in found:
        assert torch.allclose(own["mean"], layer[0].running_mean)
        assert torch.allclose(own["var"], layer[0].running_var)


def test_alone_everything_is_as_it_was():
    rows = rows_of(0)
    assert group.gathered(rows) is rows
    assert group.total(rows) is rows
    assert group.share(4) == group.Share(0, 4, 4)
    assert group.all_counts([3, 1]) == ([3, 1], 0)
    assert group.told("word") == "word"
    assert group.means({"a": 2.0}) == {"a": 2.0}
    assert group.own_part(5, "batch") == slice(0, 5)
    layer = normalisation()
    synchronise(layer)
    assert type(layer[0]) is torch.nn.BatchNorm2d
