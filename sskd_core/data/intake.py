"""Everything that a user's sources hold, read in one pass: annotated images first, then the bare ones.

Problems are collected, not raised. The first one decides that there will be no data set; the rest is still read, for
its own problems, but no longer copied to the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

from sskd_core.config.data import DataConfig
from sskd_core.data.annotated import AnnotatedImage, open_annotated, read_annotated
from sskd_core.data.images import SUFFIXES
from sskd_core.data.ingest import ImageFile, ImageReader
from sskd_core.data.records import ImageRecord
from sskd_core.errors import DataError
from sskd_core.storage.source import open_source
from sskd_core.storage.store import ObjectStore


class Intake:
    """The sources of a data set. Opening lists them and reads the annotation files, but no image.

    Attributes:
        annotated: `labeled`, and `val` and `test` where they have sources of their own.
        total: images to read.
        left_out: reason -> images or annotations that no split will have.

    Args:
        data: the sources.
        store: reads `s3://` locations and takes the bytes of local images.
        step: called after each image with (images read, images in all).

    Raises:
        StorageError: the store failed.
    """

    def __init__(self, data: DataConfig, store: ObjectStore, step: Callable[[int, int], None]) -> None:
        self.left_out: Counter[str] = Counter()
        self._problems: list[str] = []
        self._step = step
        self._done = 0
        self._reader = ImageReader(store, data.max_pixels)
        self.annotated = {"labeled": open_annotated(data.labeled, "data.labeled", store, data.classes)}
        coco = self.annotated["labeled"].coco
        classes = coco.classes
        if coco.category_ids:
            absent = [name for name in classes if name not in coco.category_ids]
            self._problems += [f"data.classes: '{name}' is no category of {coco.where}" for name in absent]
        for key, source in (("val", data.val), ("test", data.test)):
            if source is not None:
                # Without known classes a file of val or test has none to match; its own problems still count.
                self.annotated[key] = open_annotated(source, f"data.{key}", store, classes or None)
        self._unlabeled = self._list_unlabeled(data.unlabeled, store)
        self._known: dict[str, ImageRecord] = {}
        listed = {image.file.location for source in self.annotated.values() for image in source.files}
        bare = {image.file.location for image in self._unlabeled}
        self.total = sum(len(source.files) for source in self.annotated.values()) + len(bare - listed)
        unlisted = set().union(*(source.unlisted for source in self.annotated.values())) - listed - bare
        self.left_out["not_in_annotation_file"] = len(unlisted)
        self.left_out["empty_masks"] = sum(source.coco.empty_masks for source in self.annotated.values())
        self._reader.copying = self.sound

    @property
    def sound(self) -> bool:
        """Whether no problem was found so far."""
        return not self._problems and not any(source.problems for source in self.annotated.values())

    @property
    def problems(self) -> list[str]:
        """All problems found so far, one line each."""
        return [*(line for source in self.annotated.values() for line in source.problems), *self._problems]

    def refuse(self, problems: Sequence[str]) -> None:
        """Add problems that were found elsewhere."""
        self._problems += problems
        self._reader.copying = False

    def read_annotated(self) -> dict[str, list[AnnotatedImage]]:
        """Read the annotated images; key -> what could be read."""
        found: dict[str, list[AnnotatedImage]] = {}
        for key, source in self.annotated.items():
            found[key] = []
            for image in read_annotated(source, self._reader, self._advance):
                found[key].append(image)
            locations = {image.image_id: image.file.location for image in source.files}
            self._known |= {locations[image.record.image_id]: image.record for image in found[key]}
        return found

    def read_unlabeled(self, taken: Collection[str]) -> Iterator[ImageRecord]:
        """Yield the unlabelled images, each content once.

        Args:
            taken: digests of the images of the other splits, which are left out.
        """
        seen: set[str] = set()
        for record in self._unlabeled_records():
            if record.digest in taken:
                self.left_out["unlabeled_in_other_splits"] += 1
            elif record.digest in seen:
                self.left_out["unlabeled_duplicates"] += 1
            else:
                seen.add(record.digest)
                yield record

    def _unlabeled_records(self) -> Iterator[ImageRecord]:
        fresh: list[ImageFile] = []
        for image in self._unlabeled:
            known = self._known.get(image.file.location)
            if known is None:
                fresh.append(image)
            else:
                yield replace(known, image_id=image.image_id)
        for read in self._reader.read_all(fresh):
            self._advance()
            if isinstance(read, DataError):
                self.refuse(read.problems)
            else:
                yield read.record

    def _advance(self) -> None:
        self._done += 1
        self._reader.copying = self.sound
        self._step(self._done, self.total)

    def _list_unlabeled(self, locations: Sequence[str], store: ObjectStore) -> list[ImageFile]:
        """List the bare images; of several sources the ids start with the number of the source."""
        found: dict[str, ImageFile] = {}
        for number, location in enumerate(locations):
            key = f"data.unlabeled[{number}]"
            try:
                source = open_source(location, store)
                files = list(source.files(SUFFIXES))
            except DataError as error:
                self._problems += [f"{key}: {problem}" for problem in error.problems]
                continue
            if not files:
                kinds = ", ".join(sorted(SUFFIXES))
                self._problems.append(f"{key}: {location} has no image ({kinds})")
            for file in files:
                image_id = file.name if len(locations) == 1 else f"{number}/{file.name}"
                if file.location in found:
                    self.left_out["unlabeled_duplicates"] += 1
                else:
                    found[file.location] = ImageFile(image_id, source, file)
        return list(found.values())
