from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from engine_fixtures import Rectangles, tiny_model

import sskd_core
from sskd_core.errors import UserError
from sskd_core.export.contract import Contract
from sskd_core.export.onnx import export_onnx
from sskd_core.export.predictor import OnnxPredictor, OnnxSegmenter, find_regions, open_predictor
from sskd_core.models.predict import Predictor
from sskd_core.models.protocol import SegmentationModel

WITHOUT_TORCH = """
import json, sys

ALLOWED = {"sskd_core", "numpy", "PIL", "onnxruntime"} | set(sys.stdlib_module_names)

class Refuse:
    def find_spec(self, name, path=None, target=None):
        # Not installed is an ImportError to whoever probes for an optional package.
        if name.partition(".")[0] not in ALLOWED:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)

sys.meta_path.insert(0, Refuse())
import numpy as np
from sskd_core.export.predictor import OnnxPredictor

found = OnnxPredictor(sys.argv[1]).predict([np.load(sys.argv[2])])
print(json.dumps([[item.category, item.score, list(item.mask.shape)] for item in found[0]]))
"""


def photo(height: int = 30, width: int = 45) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (height, width, 3)).astype(np.uint8)


def test_it_runs_without_torch_and_finds_what_torch_finds(exported: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", photo())
    command = [sys.executable, "-c", WITHOUT_TORCH, str(exported), str(tmp_path / "image.npy")]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    expected = Predictor(tiny_model().eval()).predict_raw([photo()])[0]
    assert len(found) == len(expected) > 0
    assert [score for _, score, _ in found] == pytest.approx([item.score for item in expected], abs=1e-4)
    assert {tuple(shape) for _, _, shape in found} == {(30, 45)}


@pytest.mark.parametrize("shape", [(32, 64), (20, 100), (90, 30)])
def test_masks_lie_where_the_objects_are_at_the_images_own_size(
    write_model: Callable[..., Path], shape: tuple[int, int]
) -> None:
    image = np.zeros((*shape, 3), dtype=np.uint8)
    image[shape[0] // 4 : shape[0] // 2, shape[1] // 3 :] = 255
    dark = np.zeros((16, 16, 3), dtype=np.uint8)
    found, nothing = OnnxPredictor(write_model(), score_threshold=0.5, threads=1).predict([image, dark])
    assert nothing == []
    assert [item.category for item in found] == [0]
    wanted = image[..., 0] > 0
    assert found[0].mask.shape == shape
    assert (found[0].mask & wanted).sum() / (found[0].mask | wanted).sum() > 0.8
    assert 0.9 < found[0].score == pytest.approx(found[0].class_score * found[0].mask_score)


def test_the_limits_of_the_caller_hold(write_model: Callable[..., Path]) -> None:
    image = np.full((32, 64, 3), 255, dtype=np.uint8)
    path = write_model()
    assert len(OnnxPredictor(path).predict([image])[0]) == 2
    assert len(OnnxPredictor(path, max_instances=1).predict([image])[0]) == 1
    assert OnnxPredictor(path, score_threshold=0.999).predict([image]) == [[]]
    assert OnnxPredictor(path).predict([]) == []


def test_the_mask_threshold_of_the_file_holds(write_model: Callable[..., Path], contract: Contract) -> None:
    # 128 of 255 is a logit of 0.04, a probability of 0.51.
    image = np.full((32, 64, 3), 128, dtype=np.uint8)
    assert OnnxPredictor(write_model()).predict([image])[0][0].mask.all()
    strict = write_model(replace(contract, mask_threshold=0.6).to_metadata())
    assert OnnxPredictor(strict).predict([image]) == [[]]


def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path, write_model: Callable[..., Path]) -> None:
    (tmp_path / "text.onnx").write_text("not a model")
    for path, reason in (
        (tmp_path / "text.onnx", "onnxruntime cannot load it"),
        (tmp_path / "absent.onnx", "onnxruntime cannot load it"),
        (write_model(stored={}), "not a model exported by sskd: it lacks the metadata sskd.format, sskd.classes, "),
    ):
        with pytest.raises(UserError, match=reason) as caught:
            OnnxPredictor(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_metadata_that_contradicts_the_graph_is_refused(write_model: Callable[..., Path], contract: Contract) -> None:
    for wrong in (replace(contract, height=64), replace(contract, classes=["bright"])):
        with pytest.raises(UserError, match="its metadata tells of"):
            OnnxPredictor(write_model(wrong.to_metadata()))


def test_a_graph_with_other_tensors_is_refused(write_model: Callable[..., Path]) -> None:
    graph = """
    <ir_version: 10, opset_import: ["" : 18]>
    other (float[batch, 3, 32, 64] images) => (float[batch, 3, 32, 64] found) { found = Identity (images) }
    """
    with pytest.raises(UserError, match="its tensors are images, found, not pixels, class_logits, mask_logits"):
        OnnxPredictor(write_model(graph=graph))


def test_a_provider_that_is_not_there_is_refused(write_model: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"onnxruntime has no TensorrtExecutionProvider; it has .*CPUExecutionProvider"):
        OnnxPredictor(write_model(), provider="TensorrtExecutionProvider")


def test_a_provider_that_cannot_start_is_not_replaced_silently(
    write_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(UserError, match="CUDAExecutionProvider"), pytest.warns(UserWarning, match="not in available"):
        OnnxPredictor(write_model(), provider="CUDAExecutionProvider")


def test_a_call_may_have_limits_of_its_own(write_model: Callable[..., Path]) -> None:
    image = np.full((32, 64, 3), 255, dtype=np.uint8)
    predictor = OnnxPredictor(write_model(), score_threshold=0.999)
    assert predictor.predict([image]) == [[]]
    assert len(predictor.predict([image], score_threshold=0.0)[0]) == 2
    assert len(predictor.predict([image], score_threshold=0.0, max_instances=1)[0]) == 1


def test_a_semantic_model_gives_a_class_and_a_confidence_to_every_pixel(write_semantic: Callable[[], Path]) -> None:
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    image[5:15, 10:] = 255
    segmenter = open_predictor(write_semantic(), threads=1)
    assert isinstance(segmenter, OnnxSegmenter)
    (found,) = segmenter.predict([image])
    assert found.category.shape == found.confidence.shape == (20, 30)
    assert (found.category == 0).sum() == pytest.approx((image[..., 0] > 0).sum(), rel=0.1)
    assert found.category[10, 20] == 0
    assert found.category[0, 0] == 1
    # The logits of bright and dark pixels are -10 and 10, and the other class is 0.
    assert found.confidence[10, 25] == pytest.approx(1 / (1 + np.exp(-10)), abs=1e-6)
    assert segmenter.predict([]) == []
    regions = find_regions(segmenter, [image], 0.5, 10)[0]
    assert [item.category for item in regions] == [0, 1]
    assert (regions[0].mask == (found.category == 0)).all()


def test_a_model_of_the_other_task_is_refused(
    write_model: Callable[..., Path], write_semantic: Callable[[], Path]
) -> None:
    with pytest.raises(UserError, match=r"a model for semantic segmentation, not for instance segmentation"):
        OnnxPredictor(write_semantic())
    with pytest.raises(UserError, match=r"a model for instance segmentation, not for semantic segmentation"):
        OnnxSegmenter(write_model())
    assert isinstance(open_predictor(write_model()), OnnxPredictor)


@pytest.mark.slow
def test_a_clean_environment_of_three_packages_agrees_with_the_training_side(
    trained_student: SegmentationModel, tmp_path: Path
) -> None:
    path, images = tmp_path / "student.onnx", [Rectangles()[index].image for index in range(5)]
    size = trained_student.input
    export_onnx(
        trained_student,
        path,
        18,
        Contract(trained_student.classes, ["#000000"] * 3, size.height, size.width, list(size.mean), list(size.std)),
    )
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    pinned = [f"{name}=={version(name)}" for name in ("numpy", "pillow", "onnxruntime")]
    subprocess.run([python, "-m", "pip", "install", "-q", *pinned], check=True, timeout=500)
    np.savez(tmp_path / "images.npz", *images)
    code = """
import sys
import numpy as np
from sskd_core.export.predictor import OnnxPredictor
images = list(np.load(sys.argv[2]).values())
found = OnnxPredictor(sys.argv[1], 0.5).predict(images)
flat = [(number, item) for number, items in enumerate(found) for item in items]
figures = [np.array([number, item.category, item.score]) for number, item in flat]
np.savez(sys.argv[3], *figures, **{f"mask_{index}": item.mask for index, (_, item) in enumerate(flat)})
"""
    command = [python, "-c", code, str(path), str(tmp_path / "images.npz"), str(tmp_path / "found.npz")]
    source = Path(sskd_core.__file__).parents[1]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(source)}, cwd=tmp_path, timeout=300)
    found = np.load(tmp_path / "found.npz")
    expected = [
        (number, item)
        for number, items in enumerate(Predictor(trained_student, 0.5).predict_raw(images))
        for item in items
    ]
    assert len(expected) == len(found.files) // 2 >= 5
    for index, (number, item) in enumerate(expected):
        image, category, score = found[f"arr_{index}"]
        assert (image, category) == (number, item.category)
        assert score == pytest.approx(item.score, abs=1e-4)
        mask = found[f"mask_{index}"]
        assert (mask & item.mask).sum() / (mask | item.mask).sum() >= 0.99
