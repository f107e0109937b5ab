"""The layers of weights that know classes, for a data set with other ones."""

from __future__ import annotations

from torch import Tensor

from sskd_core.errors import IntegrityError
from sskd_core.models.protocol import SegmentationModel

CLASS_HEADS = {"mask2former": "network.class_predictor", "dinov2_dpt": "class_head"}
"""The linear layer, one row a class and "no object" last, of the families that have no other such layer."""


def match_class_rows(
    model: SegmentationModel, head: str, tensors: dict[str, Tensor], known: list[str], where: str
) -> None:
    """Rewrite the class head in `tensors` for the model's classes: rows by name, that of "no object" always.

    Args:
        model: its own values fill the rows of classes that the weights do not know.
        head: name of the layer.
        tensors: of the weights.
        known: their classes.
        where: for messages.

    Raises:
        IntegrityError: the head scores another number of classes than are known.
    """
    own = model.state_dict()
    for name in (f"{head}.weight", f"{head}.bias"):
        if name not in tensors:
            continue  # for `copy_into` to refuse
        if len(tensors[name]) != len(known) + 1:
            raise IntegrityError(
                f"{where}: the class head scores {len(tensors[name]) - 1} classes, config.json names {len(known)}; "
                "one of the two files is another model's"
            )
        if known != model.classes and not tensors[name].is_meta:
            rows = own[name].clone()
            for index, label in enumerate(model.classes):
                if label in known:
                    rows[index] = tensors[name][known.index(label)]
            rows[-1] = tensors[name][-1]
            tensors[name] = rows


def restart_class_layers(
    model: SegmentationModel,
    tensors: dict[str, Tensor],
    narrow: dict[str, Tensor],
    wide: dict[str, Tensor],
    where: str,
) -> None:
    """Give every layer in `tensors` whose size depends on the number of classes the model's own values.

    Args:
        model: for the classes of the data set.
        tensors: of the weights.
        narrow: of a network of that architecture for the weights' classes.
        wide: the same for one class more: what differs in shape depends on the number of classes.
        where: for messages.

    Raises:
        IntegrityError: such a layer has not the size that the weights' classes give it.
    """
    own = model.state_dict()
    for name, tensor in narrow.items():
        if tensor.shape != wide[name].shape and name in tensors:
            if tensors[name].shape != tensor.shape:
                raise IntegrityError(
                    f"{where}: tensor '{name}' has shape {list(tensors[name].shape)}, the classes that config.json "
                    f"names give it {list(tensor.shape)}; one of the two files is another model's"
                )
            tensors[name] = own[name].clone()
