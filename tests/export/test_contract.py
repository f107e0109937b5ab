from __future__ import annotations

from dataclasses import replace

import pytest

from sskd_core.errors import UserError
from sskd_core.export.contract import Contract


def test_every_entry_comes_back(contract: Contract) -> None:
    written = replace(
        contract,
        classes=["säge", "a,b"],
        mask_threshold=0.4,
        family="dinov2_dpt",
        manifest_uri="s3://bucket/stages/refine/1/manifest.json",
        manifest_digest="sha256:1",
        licences=["Apache-2.0"],
        figures={"val_mask_ap": 41.25},
    )
    metadata = written.to_metadata()
    assert metadata["sskd.height"] == "32"
    assert all(isinstance(value, str) for value in metadata.values())
    assert Contract.from_metadata({**metadata, "producer": "not JSON"}, "a.onnx") == written


def test_a_file_of_somebody_else_is_refused() -> None:
    with pytest.raises(UserError, match=r"^a\.onnx: not a model exported by sskd"):
        Contract.from_metadata({"author": "x"}, "a.onnx")


def test_a_file_of_another_version_is_refused(contract: Contract) -> None:
    with pytest.raises(UserError, match=r"'sskd-onnx/9'.*'sskd-onnx/1'"):
        Contract.from_metadata({**contract.to_metadata(), "sskd.format": '"sskd-onnx/9"'}, "a.onnx")


@pytest.mark.parametrize("damage", [{"sskd.mean": "[0.5,"}, {"sskd.mean": None}])
def test_a_damaged_entry_is_named(contract: Contract, damage: dict[str, str | None]) -> None:
    stored = {key: value for key, value in {**contract.to_metadata(), **damage}.items() if value is not None}
    with pytest.raises(UserError, match=r"'sskd\.mean' is missing or no JSON"):
        Contract.from_metadata(stored, "a.onnx")
