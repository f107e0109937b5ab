from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import onnxruntime
import pytest
from mlflow.exceptions import MlflowException
from predict_fixtures import bright_columns, put

from sskd_core.data.masks import encode_mask
from sskd_core.errors import UserError
from sskd_core.export.mlflow_model import write_mlflow_model
from sskd_core.export.predictor import OnnxPredictor

LOADED = """
import json, sys
import mlflow.pyfunc, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
found = model.predict(pandas.DataFrame({"image": [open(sys.argv[2], "rb").read()]}), params={"score_threshold": 0.5})
import sskd_core.export.serving as used
heavy = sorted({"torch", "transformers", "boto3", "pycocotools", "kfp"} & set(sys.modules))
from sskd_core.config.finish import ExportConfig  # what the folder does not carry comes from where sskd is installed
print(json.dumps([found, used.__file__, heavy]))
"""


def write(network: Path, folder: Path) -> list[str]:
    from mlflow.models import Model

    description = Model(utc_time_created="2025-01-01T00:00:00+00:00", model_uuid="0" * 32)
    return write_mlflow_model(network.read_bytes(), folder, description)


@pytest.fixture
def model(write_model: Callable[..., Path], tmp_path: Path) -> Path:
    """The folder of the graph that finds bright pixels."""
    write(write_model(), tmp_path / "model")
    return tmp_path / "model"


def test_the_folder_holds_no_pickle_and_equal_arguments_give_equal_bytes(
    write_model: Callable[..., Path], model: Path, tmp_path: Path
) -> None:
    names = write(write_model(), tmp_path / "twin")
    assert {"MLmodel", "model.onnx", "requirements.txt", "code/sskd_core/export/serving.py"} <= set(names)
    assert {Path(name).suffix for name in names} <= {"", ".onnx", ".txt", ".yaml", ".py"}
    for name in names:
        assert (model / name).read_bytes() == (tmp_path / "twin" / name).read_bytes()
    assert "torch" not in (model / "requirements.txt").read_text()


def test_the_onnx_flavour_opens_in_onnxruntime(model: Path) -> None:
    import mlflow.onnx

    loaded = mlflow.onnx.load_model(str(model))
    assert loaded.SerializeToString() == (model / "model.onnx").read_bytes()
    session = onnxruntime.InferenceSession(loaded.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_outputs()] == ["class_logits", "mask_logits"]


def test_a_file_of_somebody_else_is_refused(tmp_path: Path, write_model: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="not a model exported by sskd"):
        write(write_model(stored={}), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_loaded_model_runs_the_code_in_its_folder_without_torch(model: Path, tmp_path: Path) -> None:
    image = put(tmp_path / "a.png", 20)
    command = [sys.executable, "-c", LOADED, str(model), str(image)]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    found, used, heavy = json.loads(finished.stdout.splitlines()[-1])
    assert used == str(model / "code/sskd_core/export/serving.py")
    assert heavy == []
    assert [item["class"] for item in found[0]["instances"]] == ["bright"]


@pytest.fixture
def server(model: Path, tmp_path: Path) -> Iterator[str]:
    """The URL of `mlflow models serve` on the model."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    programs = Path(sys.executable).parent
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local"]
    process = subprocess.Popen(
        [*command, "-h", "127.0.0.1", "-p", str(port), "--workers", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        # MLflow starts uvicorn by name: the environment's programs must be on the path, as in one that is activated.
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        start_new_session=True,
    )
    try:
        # Uvicorn listens only after its "Application startup complete".
        assert any("Uvicorn running on" in line for line in process.stdout)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def request(image: bytes, **params: object) -> bytes:
    """Return the body of a request with one image."""
    encoded = base64.b64encode(image).decode()
    return json.dumps({"dataframe_records": [{"image": encoded}], "params": params}).encode()


def test_the_server_answers_http_requests_with_the_same_instances(server: str, model: Path, tmp_path: Path) -> None:
    image = put(tmp_path / "a.png", 20).read_bytes()
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(server, request(image, score_threshold=0.5), headers), timeout=60) as answer:
        (found,) = json.load(answer)["predictions"]
    (expected,) = OnnxPredictor(model / "model.onnx", 0.5).predict([bright_columns(20)])[0]
    (instance,) = found["instances"]
    assert instance["segmentation"] == encode_mask(expected.mask)
    assert instance["score"] == pytest.approx(expected.score)
    with pytest.raises(HTTPError) as caught:
        urlopen(Request(server, request(b"not an image"), headers), timeout=60)
    assert caught.value.code == 400
    assert "image 0: not an image" in json.load(caught.value)["message"]


@pytest.fixture
def answer(model: Path) -> Callable[[bytes], Any]:
    """Return a function that answers the body of a request as MLflow's server does."""
    from mlflow.pyfunc import load_model
    from mlflow.pyfunc.scoring_server import invocations

    loaded = load_model(str(model))
    schema = loaded.metadata.get_input_schema()
    return lambda body: json.loads(invocations(body, "application/json", loaded, schema).response)["predictions"]


def test_an_answer_holds_run_lengths_and_polygons(answer: Callable[[bytes], Any], tmp_path: Path) -> None:
    image = put(tmp_path / "a.png", 20).read_bytes()
    (found,) = answer(request(image, score_threshold=0.5))
    assert (found["width"], found["height"]) == (64, 32)
    (instance,) = found["instances"]
    assert instance["segmentation"] == encode_mask(bright_columns(20)[..., 0] > 0)
    assert instance["polygons"] == [[0.0, 0.0, 20.0, 0.0, 20.0, 32.0, 0.0, 32.0]]
    assert (instance["class"], instance["bbox"], instance["area"]) == ("bright", [0.0, 0.0, 20.0, 32.0], 640)
    assert len(answer(request(image, score_threshold=0.0))[0]["instances"]) == 2
    assert len(answer(request(image, score_threshold=0.0, max_instances=1))[0]["instances"]) == 1
    assert answer(request(image, polygons=False))[0]["instances"][0]["polygons"] == []
    many = {"inputs": {"image": [base64.b64encode(image).decode()] * 9}}
    assert len(answer(json.dumps(many).encode())) == 9


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{broken", "valid JSON"),
        (b'{"images": []}', "dataframe_records"),
        (b'{"dataframe_records": [{"picture": "AAAA"}]}', "missing inputs ['image']"),
        (request(b""), "image 0: the image file is empty"),
        (request(b"not an image"), "image 0: not an image"),
        (b'{"dataframe_records": [{"image": "***"}]}', "image 0: the image file is empty"),
        (b'{"dataframe_records": [{"image": "A"}]}', "image"),
        (b'{"dataframe_records": [{"image": 5}]}', "image"),
        (request(b"AAAA", score_threshold="high"), "score_threshold"),
        (request(b"AAAA", score_threshold=7.0), "between 0 and 1"),
        (request(b"AAAA", max_instances=0), "at least 1"),
    ],
)
def test_a_bad_body_is_answered_with_400_and_the_reason(
    answer: Callable[[bytes], Any], body: bytes, reason: str
) -> None:
    with pytest.raises(MlflowException) as caught:
        answer(body)
    assert caught.value.get_http_status_code() == 400
    assert reason in caught.value.message
