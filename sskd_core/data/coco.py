"""COCO instance files, read strictly: every problem is found in one pass, and what is sound is kept.

Classes are the categories in the order of their ids, which may have gaps. Boxes and areas of the file are not used:
they follow from the masks.
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sskd_core.data.masks import mask_area, mask_bbox
from sskd_core.data.records import Instance, LabeledImage
from sskd_core.data.segmentation import segmentation_to_rle
from sskd_core.errors import DataError

_Side = Annotated[int, Field(ge=1, lt=2**16)]  # so that no run of a mask passes 32 bits
EntryT = TypeVar("EntryT", bound="_Entry")


class _Entry(BaseModel):
    """An entry of one of the lists; keys that are not used here are allowed."""

    model_config = ConfigDict(strict=True, extra="ignore")
    id: int


class _Category(_Entry):
    name: Annotated[str, Field(min_length=1)]


class _Image(_Entry):
    file_name: Annotated[str, Field(min_length=1)]
    width: _Side
    height: _Side


class _Annotation(_Entry):
    image_id: int
    category_id: int
    segmentation: Any = None
    iscrowd: Annotated[bool, Field(strict=False)] = False


@dataclass
class CocoFile:
    """What a COCO file says.

    Attributes:
        where: the file, for messages.
        classes: class names in index order.
        category_ids: the file's id of each of its own categories, by name.
        images: by file name relative to the image folder; that name is also the `image_id`.
        empty_masks: annotations that were left out because their mask has no pixel.
        problems: what is wrong, one line each.
    """

    where: str
    classes: list[str] = field(default_factory=list)
    category_ids: dict[str, int] = field(default_factory=dict)
    images: dict[str, LabeledImage] = field(default_factory=dict)
    empty_masks: int = 0
    problems: list[str] = field(default_factory=list)


def read_coco(data: bytes, where: str, classes: Sequence[str] | None = None) -> CocoFile:
    """Read a COCO instance file.

    Args:
        data: its bytes.
        where: its name, for the messages.
        classes: the classes that the file's categories are matched with by name: those of the labelled images for a
            file of val or test, or what the configuration lists; None where the file's own categories are the classes.

    Returns:
        What could be read, and all problems. Nothing of it may be used if there is one.
    """
    reader = _Reader(CocoFile(where))
    document = reader.document(data)
    if document is not None:
        reader.read(document, classes)
    return reader.file


class _Reader:
    """Builds a `CocoFile`."""

    def __init__(self, file: CocoFile) -> None:
        self.file = file
        self._index_of_id: dict[int, int | None] = {}
        self._image_of_id: dict[int, LabeledImage | None] = {}

    def document(self, data: bytes) -> dict[str, Any] | None:
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
            self._problem(f"not JSON ({error}); export the annotations again")
            return None
        lists = ("images", "annotations", "categories")
        wrong = [name for name in lists if not isinstance(document, dict) or not isinstance(document.get(name), list)]
        if wrong:
            self._problem(f"not a COCO instance file, it has no list of {', '.join(wrong)}")
            return None
        return document if isinstance(document, dict) else None

    def read(self, document: Mapping[str, Any], classes: Sequence[str] | None) -> None:
        self._categories(document["categories"], classes)
        self._images(document["images"])
        self._annotations(document["annotations"])
        if not document["images"]:
            self._problem("lists no image")
        elif not document["annotations"]:
            self._problem("has no annotation; there is nothing to learn or to measure")

    def _categories(self, items: list[Any], classes: Sequence[str] | None) -> None:
        if not items:
            self._problem("lists no category")
        self._index_of_id = dict.fromkeys(_listed_ids(items))
        found = sorted(self._entries(_Category, items, "categories"), key=lambda entry: entry.id)
        for name, count in Counter(entry.name for entry in found).items():
            if count > 1:
                self._problem(f"{count} categories have the name '{name}'; rename or merge them")
        self.file.classes = list(classes) if classes is not None else [entry.name for entry in found]
        index_of_name = {name: index for index, name in enumerate(self.file.classes)}
        for entry in found:
            self.file.category_ids[entry.name] = entry.id
            self._index_of_id[entry.id] = index_of_name.get(entry.name)
            if entry.name not in index_of_name:
                known = ", ".join(self.file.classes)
                self._problem(f"category '{entry.name}' is none of the classes ({known})")

    def _images(self, items: list[Any]) -> None:
        self._image_of_id = dict.fromkeys(_listed_ids(items))
        for entry in self._entries(_Image, items, "images"):
            try:
                name = _relative_name(entry.file_name)
            except DataError as error:
                self._problem(f"image {entry.id}: {error}")
                continue
            if name in self.file.images:
                self._problem(f"image {entry.id}: file_name '{name}' is listed twice")
                continue
            image = LabeledImage(name, entry.width, entry.height)
            self.file.images[name] = self._image_of_id[entry.id] = image

    def _annotations(self, items: list[Any]) -> None:
        for entry in self._entries(_Annotation, items, "annotations"):
            if entry.image_id not in self._image_of_id:
                self._problem(f"annotation {entry.id}: no image has the id {entry.image_id}")
            if entry.category_id not in self._index_of_id:
                self._problem(f"annotation {entry.id}: no category has the id {entry.category_id}")
            image = self._image_of_id.get(entry.image_id)
            if image is not None:
                self._annotation(entry, image, self._index_of_id.get(entry.category_id))

    def _annotation(self, entry: _Annotation, image: LabeledImage, category: int | None) -> None:
        try:
            rle = segmentation_to_rle(entry.segmentation, image.height, image.width)
        except DataError as error:
            self._problem(f"annotation {entry.id} ('{image.image_id}'): {error}")
            return
        area = mask_area(rle)
        if area == 0:
            self.file.empty_masks += 1
        elif category is not None:
            image.instances.append(
                Instance(category, rle, bbox=mask_bbox(rle), area=float(area), is_crowd=entry.iscrowd)
            )

    def _entries(self, model: type[EntryT], items: list[Any], list_name: str) -> list[EntryT]:
        """Return the sound entries of a list; of several with one id the first."""
        by_id: dict[int, EntryT] = {}
        for number, item in enumerate(items):
            try:
                entry = model.model_validate(item)
            except ValidationError as error:
                for part in error.errors(include_url=False):
                    self._problem(f"{list_name}[{number}]{_called(item)}: {_explain(part)}")
                continue
            if by_id.setdefault(entry.id, entry) is not entry:
                self._problem(f"{list_name}[{number}]: the id {entry.id} occurs twice")
        return list(by_id.values())

    def _problem(self, text: str) -> None:
        self.file.problems.append(f"{self.file.where}: {' '.join(text.split())}")


def _listed_ids(items: list[Any]) -> list[int]:
    """Return the ids that a list uses, those of unsound entries too: what refers to them has no problem of its own."""
    return [item["id"] for item in items if isinstance(item, dict) and type(item.get("id")) is int]


def _relative_name(name: str) -> str:
    """Return a checked `file_name` in its shortest form.

    Raises:
        DataError: it could lead outside the image folder, or is no name of a file.
    """
    if "\\" in name or not name.isprintable():
        raise DataError(f"file_name {name!r} has a backslash or a control character; write folders with '/'")
    if name.startswith("/") or ".." in name.split("/") or name[1:2] == ":":
        raise DataError(f"file_name '{name}' leads outside the image folder; make it relative, without '..'")
    return posixpath.normpath(name)


def _called(item: Any) -> str:
    """Return what helps to find an entry that is not sound."""
    if isinstance(item, dict):
        for key in ("file_name", "name", "id"):
            if isinstance(item.get(key), str | int):
                return f" ({key} {item[key]!r})"
    return ""


def _explain(part: Mapping[str, Any]) -> str:
    key = ".".join(str(step) for step in part["loc"])
    if part["type"] == "missing":
        return f"'{key}' is missing"
    shown = repr(part["input"])
    value = shown if len(shown) <= 40 else f"{shown[:40]}..."
    return f"'{key}' is {value}: {part['msg'][:1].lower()}{part['msg'][1:]}" if key else f"{value} is not an object"
