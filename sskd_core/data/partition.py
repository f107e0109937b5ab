"""From what was read to the labelled splits: each image on one side only, whatever the sources say.

Images are compared by digest. Test takes precedence over val and val over training, because a figure must not be
measured on what was trained on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sskd_core.config.data import DataConfig
from sskd_core.data.annotated import AnnotatedImage
from sskd_core.data.splits import REST, Unit, seeded_order, split_units
from sskd_core.errors import DataError

Splits = dict[str, list[AnnotatedImage]]


def partition(
    given: Mapping[str, Sequence[AnnotatedImage]], data: DataConfig, seed: int
) -> tuple[Splits, Counter[str]]:
    """Make the splits `labeled`, `val` and `test`.

    Args:
        given: `labeled`, and `val` and `test` where they have sources of their own.
        data: fractions for those that have not, and `max_labeled`.
        seed: of the run.

    Returns:
        The splits, each sorted by image id, and how many images were left out for which reason.

    Raises:
        DataError: too few images, or a split without an object.
    """
    left_out: Counter[str] = Counter()
    splits: Splits = {}
    taken: set[str] = set()
    for name in ("test", "val", REST):
        images = [image for image in given.get(name, []) if image.record.digest not in taken]
        left_out[f"{name}_in_other_splits"] = len(given.get(name, [])) - len(images)
        splits[name] = images
        taken.update(image.record.digest for image in images)
    fractions = {
        name: fraction
        for name, fraction in (("test", data.test_fraction), ("val", data.val_fraction))
        if name not in given
    }
    by_id = {image.record.image_id: image for image in splits[REST]}
    if fractions:
        shares = split_units(_units(by_id.values()), fractions, seed)
        splits |= {name: [by_id[item] for item in shares[name]] for name in shares}
    if data.max_labeled is not None:
        order = seeded_order((image.record.image_id for image in splits[REST]), seed, "max_labeled")
        left_out["over_max_labeled"] = max(0, len(order) - data.max_labeled)
        splits[REST] = [by_id[item] for item in sorted(order[: data.max_labeled])]
    _check(splits)
    return splits, left_out


def _units(images: Iterable[AnnotatedImage]) -> list[Unit]:
    """Join images of equal bytes."""
    by_digest: dict[str, list[AnnotatedImage]] = defaultdict(list)
    for image in images:
        by_digest[image.record.digest].append(image)
    return [
        Unit(
            tuple(sorted(image.record.image_id for image in group)),
            frozenset(item.category for image in group for item in image.labels.instances if not item.is_crowd),
        )
        for group in by_digest.values()
    ]


def _check(splits: Splits) -> None:
    problems = []
    for name, images in splits.items():
        if not any(not item.is_crowd for image in images for item in image.labels.instances):
            problems.append(f"split '{name}' has {len(images)} images and no object on them; annotate more images")
    if problems:
        raise DataError(problems)
