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


def test_a_file_of_somebody_else_is_refused_and_told_what_it_lacks() -> None:
    with pytest.raises(UserError, match=r"^a\.onnx: not a model exported by sskd: it lacks .*") as caught:
        Contract.from_metadata({"author": "x", "sskd.std": "[1, 1, 1]"}, "a.onnx")
    for name in ("format", "classes", "colors", "height", "width", "mean", "resize_rule", "score_rule", "licences"):
        assert f"sskd.{name}" in str(caught.value)
    assert "sskd.std" not in str(caught.value)


def test_a_file_of_another_version_is_refused(contract: Contract) -> None:
    with pytest.raises(UserError, match=r"'sskd-onnx/9'.*'sskd-onnx/2'"):
        Contract.from_metadata({**contract.to_metadata(), "sskd.format": '"sskd-onnx/9"'}, "a.onnx")


def test_missing_and_damaged_entries_are_named(contract: Contract) -> None:
    stored = contract.to_metadata()
    with pytest.raises(UserError, match=r"'sskd\.mean' is no JSON"):
        Contract.from_metadata({**stored, "sskd.mean": "[0.5,"}, "a.onnx")
    with pytest.raises(UserError, match=r"lacks the metadata sskd\.mean, sskd\.std; export it again"):
        Contract.from_metadata({key: stored[key] for key in stored if key not in ("sskd.mean", "sskd.std")}, "a.onnx")


def test_a_task_of_the_future_is_refused(contract: Contract) -> None:
    with pytest.raises(UserError, match="its task is 'depth'; this version of sskd knows instance, semantic"):
        Contract.from_metadata({**contract.to_metadata(), "sskd.task": '"depth"'}, "a.onnx")
