"""Labels that stand from an earlier data set, and which images are left to label.

A data set that was extended lists its old unlabelled images first. Labels of the old ones hold for as long as teacher
and rules are the same, so a labelling stage that is handed them labels the new images alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from sskd_core.config.label import PseudoLabelConfig, PseudoLabelStageConfig
from sskd_core.data.records import ImageRecord
from sskd_core.errors import IntegrityError
from sskd_core.storage.manifest import Manifest, ObjectRef

INPUT = "earlier"


def left_to_label(
    records: Sequence[ImageRecord], config: PseudoLabelStageConfig, inputs: Mapping[str, Manifest]
) -> Sequence[ImageRecord]:
    """Return the unlabelled images that the earlier labels do not cover; all of them without earlier labels.

    Args:
        records: the unlabelled images of the data set.
        config: of the stage.
        inputs: `data`, `teacher` and, perhaps, `earlier`, a manifest of collected labels.

    Raises:
        IntegrityError: the earlier labels are of another teacher, by other rules, or of another data set.
    """
    earlier = inputs.get(INPUT)
    if earlier is None:
        return records
    if earlier.facts.get("labeller") != inputs["teacher"].fingerprint:
        problem = "are of another teacher"
    elif not made_by(earlier, config.label):
        problem = "were made by other rules"
    elif earlier.inputs["data"] != inputs["data"].inputs.get(INPUT):
        problem = "are of a data set that this one does not go on from"
    else:
        return records[int(earlier.metrics["images"]) :]
    raise IntegrityError(f"the labels of {earlier.uri} {problem}, so they do not hold here; label all images anew")


def made_by(earlier: Manifest, rules: PseudoLabelConfig) -> bool:
    """Return whether labels were made by these rules; a rule that came with a later release had its default then."""
    try:
        before = PseudoLabelConfig.model_validate(earlier.config.get("label"))
    except ValidationError:
        return False
    return before.fingerprint_dict() == rules.fingerprint_dict()


def joined_shards(earlier: Sequence[ObjectRef], new: Sequence[ObjectRef]) -> list[ObjectRef]:
    """Return all shards in the order of the data set, the new ones numbered after the earlier ones."""
    return [ref.model_copy(update={"name": f"shards/{number:05d}"}) for number, ref in enumerate((*earlier, *new))]
