from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
import torch
from engine_fixtures import CLASSES, final_logits, model_config, pixels
from torch import Tensor, nn
from torch.nn import functional

from sskd_core.config.loading import load_experiment
from sskd_core.errors import UserError
from sskd_core.export import onnx as exporter
from sskd_core.export.contract import Contract
from sskd_core.export.onnx import export_onnx, forbidden_operators
from sskd_core.export.predictor import OnnxSegmenter
from sskd_core.models.protocol import QueryOutput, SegmentationModel


class Sampler(SegmentationModel):
    """A network of one layer, which samples its input through GridSample if asked to."""

    def __init__(self, samples: bool) -> None:
        super().__init__()
        self.config, self.classes, self.samples = model_config(), CLASSES, samples
        self.head = nn.Linear(3, len(CLASSES) + 1)

    def forward(self, pixels: Tensor) -> QueryOutput:
        print("chatter of the exporter")
        if self.samples:
            grid = torch.zeros(pixels.shape[0], 8, 8, 2)
            pixels = functional.grid_sample(pixels, grid, align_corners=False)
        logits = self.head(pixels.mean((2, 3)))[:, None]
        return QueryOutput([logits], [pixels[:, :1]], pixels)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_file_computes_what_the_network_computes_at_any_batch(
    student: SegmentationModel, exported: Path, batch: int
) -> None:
    inputs = pixels(batch)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    found = session.run(["class_logits", "mask_logits"], {"pixels": inputs.numpy()})
    for ours, theirs in zip(final_logits(student, inputs), found, strict=True):
        np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4)


def test_the_recommended_student_is_standard_onnx_of_the_opset_asked_for_without_grid_sample(exported: Path) -> None:
    graph = onnx.load(exported)
    assert load_experiment("demo").student.family == model_config().family
    assert "GridSample" not in {node.op_type for node in exporter._nodes(graph)}
    onnx.checker.check_model(graph)
    assert [(item.domain, item.version) for item in graph.opset_import] == [("", 18)]
    assert forbidden_operators(graph) == []
    stored = {item.key: item.value for item in graph.metadata_props}
    assert Contract.from_metadata(stored, "exported").classes == CLASSES


def test_the_file_tells_nothing_of_the_machine_that_made_it(exported: Path) -> None:
    data = exported.read_bytes()
    for trace in (b"site-packages", b".py", str(Path(exporter.__file__).parents[2]).encode(), b"stack_trace"):
        assert trace not in data


def test_a_network_with_grid_sample_is_refused_and_nothing_is_written(tmp_path: Path, contract: Contract) -> None:
    with pytest.raises(UserError, match="holds GridSample; choose a student of family dinov2_dpt"):
        export_onnx(Sampler(samples=True), tmp_path / "a.onnx", 18, contract)
    assert list(tmp_path.iterdir()) == []


def test_a_network_with_grid_sample_is_written_for_who_asks_for_it(tmp_path: Path, contract: Contract) -> None:
    export_onnx(Sampler(samples=True), tmp_path / "a.onnx", 20, contract, allow_grid_sample=True)
    assert exporter.forbidden_operators(onnx.load(tmp_path / "a.onnx")) == ["GridSample"]


def test_the_exporter_is_quiet(
    tmp_path: Path, contract: Contract, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, exporter.__name__)
    export_onnx(Sampler(samples=False), tmp_path / "a.onnx", 20, contract)
    assert onnx.load(tmp_path / "a.onnx").opset_import[0].version == 20
    assert capfd.readouterr() == ("", "")
    assert "exporter: chatter of the exporter" in caplog.messages


def test_a_network_beyond_what_one_file_holds_is_refused(
    tmp_path: Path, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "_MAX_WEIGHT_BYTES", 63)
    with pytest.raises(UserError, match="one ONNX file holds 2; choose a smaller student"):
        export_onnx(Sampler(samples=False), tmp_path / "a.onnx", 18, contract)


def test_operators_are_found_in_branches_and_other_domains_are_named() -> None:
    model = onnx.parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 18, "com.microsoft" : 1, "ours" : 1]>
        net (float[1, 1, 4, 4] x, float[1, 2, 2, 2] grid, bool flag) => (float[1, 1, 2, 2] y)
        {
            a = ours.twice (x)
            b = com.microsoft.Gelu (a)
            y = If (flag) <
                then_branch = one () => (float[1, 1, 2, 2] z) { z = GridSample (b, grid) },
                else_branch = two () => (float[1, 1, 2, 2] w) { w = Identity (grid) }
            >
        }
        <domain: "ours", opset_import: ["" : 18]>
        twice (x) => (y) { y = Add (x, x) }
        """
    )
    assert forbidden_operators(model) == ["GridSample", "com.microsoft::Gelu"]


def test_the_semantic_head_of_a_query_network_is_maskformers(student: SegmentationModel, tmp_path: Path) -> None:
    size = student.input
    contract = Contract(
        student.classes, ["#000000"] * 3, size.height, size.width, list(size.mean), list(size.std), task="semantic"
    )
    export_onnx(student, tmp_path / "a.onnx", 18, contract)
    image = np.random.default_rng(0).integers(0, 255, (size.height, size.width, 3)).astype(np.uint8)
    segmenter = OnnxSegmenter(tmp_path / "a.onnx", threads=1)
    classes, masks = final_logits(student, torch.from_numpy(segmenter.prepare([image])[0]))
    queries = len(masks[0])
    shares = sum(classes[0, q].softmax(0)[:-1, None, None] * masks[0, q].sigmoid() for q in range(queries))
    found = segmenter.predict([image])[0]
    shown = functional.interpolate(shares.log()[None], (size.height, size.width), mode="bilinear")[0].softmax(0)
    confidence, category = shown.max(0)
    assert (found.category == category.numpy()).mean() > 0.999
    np.testing.assert_allclose(found.confidence, confidence.numpy(), atol=1e-3)
