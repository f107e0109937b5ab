"""What the user brings: few labelled images, many unlabelled ones, and how to split them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from sskd_core.config.base import StrictModel
from sskd_core.config.reference import InputRef

Location = Annotated[str, Field(min_length=1, description="a local path, file:// or s3:// URI")]


class LabeledSource(StrictModel):
    """A COCO instance file and the folder or prefix that its `file_name`s are relative to."""

    annotations: Location
    images: Location


class AddedData(StrictModel):
    """What comes to a data set that is there already; nothing of that is read again."""

    images: InputRef | None = Field(None, description="index of the new unlabelled images, as a scan has found them")
    labeled: list[LabeledSource] = Field(default_factory=list, description="joins the labelled images")
    test: LabeledSource | None = Field(None, description="takes the place of the test split")

    def annotated(self) -> dict[str, LabeledSource]:
        """Return the annotated sources by their configuration key."""
        found = {f"data.added.labeled[{number}]": source for number, source in enumerate(self.labeled)}
        return found if self.test is None else {**found, "data.added.test": self.test}


class DataConfig(StrictModel):
    """The data set.

    Without `val` or `test` a share of the labelled images is set apart for it by a seeded split, so that selection
    (val) and report (test) never see a training image.
    """

    labeled: LabeledSource
    unlabeled: list[Location] = Field(min_length=1, description="folders, prefixes or single images; no annotations")
    classes: list[str] | None = Field(
        None, min_length=1, description="names of the categories in index order; null takes those of the labelled file"
    )
    val: LabeledSource | None = None
    test: LabeledSource | None = None
    val_fraction: float = Field(0.15, gt=0, lt=0.5, description="share of the labelled images when `val` is absent")
    test_fraction: float = Field(0.15, gt=0, lt=0.5, description="share of the labelled images when `test` is absent")
    max_labeled: int | None = Field(None, ge=1, description="use only the first N labelled images of a seeded shuffle")
    max_pixels: int = Field(100_000_000, ge=1, description="larger images are refused as decompression bombs")
    licence: str | None = Field(None, description="SPDX id or name of the data's licence, inherited by the model")
    sources_digest: str | None = Field(
        None, pattern=r"^sha256:[0-9a-f]{64}$", description="of what the sources hold; a run pins it when it starts"
    )
    added: AddedData | None = Field(None, description="set by a retrain, for the data set that it goes on from")


class PrepareConfig(StrictModel):
    """The `prepare` stage: read every image once, check everything, write an index."""

    data: DataConfig
    seed: int = Field(0, ge=0)
    shard_images: int = Field(5_000, ge=1, description="images a shard of the index and of the ground truth")

    @model_validator(mode="after")
    def _fractions_leave_training_images(self) -> PrepareConfig:
        taken = (self.data.val_fraction if self.data.val is None else 0.0) + (
            self.data.test_fraction if self.data.test is None else 0.0
        )
        if taken >= 0.8:
            raise ValueError("val_fraction + test_fraction must leave a fifth of the labelled images to train on")
        return self
