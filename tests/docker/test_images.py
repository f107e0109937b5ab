"""The images are built and used in a locked-down pod: a random UID, a root that is read-only, no shell.

Needs buildah, debootstrap (Debian's packages of these names) and root, but no daemon. Skipped, with the reason, where
something is missing. Takes about half an hour on two cores, and up to 30 GB of disk, which it gives back.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from engine_fixtures import CLASSES, tiny_model
from predict_fixtures import put

from components.readme import load
from sskd_core.config.loading import load_experiment, read_mapping
from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.export.contract import Contract
from sskd_core.export.mlflow_model import write_mlflow_model
from sskd_core.export.onnx import export_onnx
from sskd_core.export.predict_files import RESULTS
from sskd_core.stages.configure import pinned
from sskd_core.stages.entry import run_node
from sskd_core.storage.digest import digest_bytes
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.client import connect
from sskd_core.tracking.registry import FILE_TAG, Registration, ensure_version
from tests.image_builder import TIMEOUT, Builder, Image, missing
from tests.locked_pod import UID, LockedPod, stop
from tests.micro import FILE, micro_data, micro_experiment
from tests.mlflow_server import free_port, mlflow_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * TIMEOUT)]
FOREVER = 1_000_000
PICTURES = ("overlay", "mask")


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    folder = tmp_path_factory.mktemp("buildah")
    reasons = missing(folder)
    if reasons:
        pytest.skip(f"cannot build images here: {'; '.join(reasons)}")
    try:
        yield Builder(folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def image(request: pytest.FixtureRequest, builder: Builder) -> Iterator[Image]:
    """The image whose name the test is parametrized with."""
    with builder.image(request.param) as built:
        yield built


on_both = pytest.mark.parametrize("image", ["runtime", "cpu"], indirect=True)
on_runtime = pytest.mark.parametrize("image", ["runtime"], indirect=True)
on_cpu = pytest.mark.parametrize("image", ["cpu"], indirect=True)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """What the pod may write."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    os.chown(folder, UID, UID)
    return folder


@pytest.fixture
def pod(image: Image, scratch: Path, s3_endpoint: StorageConfig) -> LockedPod:
    """The image with the store's credentials, as a task gets them."""
    secrets = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    return LockedPod(image, scratch, {name: os.environ[name] for name in secrets})


@pytest.fixture
def own_store(s3_endpoint: StorageConfig, tmp_path: Path) -> ObjectStore:
    """A store with a root of the test's own and no folder that the pod does not have."""
    return ObjectStore(s3_endpoint.model_copy(update={"root": f"{s3_endpoint.root}/{tmp_path.name}"}))


def put_experiment(store: ObjectStore, folder: Path, **values: Any) -> str:
    """Write an experiment where the pod finds it; return its path there."""
    experiment = micro_experiment(store.config, micro_data(store), **values)
    (folder / "experiment.json").write_text(experiment.model_dump_json())
    return "/tmp/experiment.json"


@on_both
def test_it_is_unprivileged_and_says_what_it_is(image: Image, pod: LockedPod):
    code = (
        "import os, subprocess\n"
        "print(os.getpid(), os.getuid(), os.getgid(), os.getgroups())\n"
        "print([item for item in ('/', '/opt/sskd', '/var/tmp', '/etc') if os.access(item, os.W_OK)])\n"
        "try: subprocess.run(['sh', '-c', 'true'])\n"
        "except OSError as error: print('no shell')\n"
    )
    done = pod.run("python3", "-c", code)
    assert done.stdout.splitlines() == [f"1 {UID} {UID} []", "[]", "no shell"], done.stderr
    assert image.config["User"] == "65532:65532"
    assert image.config["Entrypoint"] == ["sskd"]
    assert image.config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert image.config["Labels"]["org.opencontainers.image.version"] == "0.1.0"
    installed = {path.name for path in (image.files / "opt/sskd/lib").glob("python3*/site-packages/*")}
    assert {"sskd_core", "components", "pipelines"} <= installed


@on_both
def test_the_doctor_is_content(image: Image, pod: LockedPod, own_store: ObjectStore, scratch: Path):
    done = pod.run("sskd", "doctor", "-e", put_experiment(own_store, scratch), "--json")
    assert done.stdout, done.stderr
    checks = {item["name"]: item for item in json.loads(done.stdout)["checks"]}
    assert [item for item in checks.values() if not item["ok"]] == []
    assert {f"storage {step}" for step in ("put", "get", "conditional put", "list", "delete")} <= checks.keys()
    title = image.config["Labels"]["org.opencontainers.image.title"]
    expected = {"sskd-runtime": "no torch, so for predictions only", "sskd-cpu": "no CUDA device; torch 2."}
    assert expected[title] in checks["devices"]["detail"]


@on_both
def test_what_is_wrong_is_one_line_and_exit_code_2(pod: LockedPod):
    done = pod.run("sskd", "doctor", "-e", "/tmp/nothing.yaml")
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert "/tmp/nothing.yaml" in line


@on_runtime
def test_the_runtime_image_predicts_as_this_machine_does(pod: LockedPod, scratch: Path, student: bytes, tmp_path: Path):
    (scratch / "student.onnx").write_bytes(student)
    put(scratch / "images" / "a.png", 20)
    put(scratch / "images" / "b.png", 40)
    options = ["--score", "0", "--masks", "--json", "--state-dir"]
    done = pod.run("sskd", "predict", "/tmp/student.onnx", "/tmp/images", "-o", "/tmp/out", *options, "/tmp/state")
    assert done.returncode == 0, done.stderr
    here = [
        str(Path(sys.executable).with_name("sskd")),
        "predict",
        str(scratch / "student.onnx"),
        str(scratch / "images"),
        "-o",
        str(tmp_path / "out"),
    ]
    subprocess.run([*here, *options, str(tmp_path / "state")], check=True, capture_output=True)
    found, expected = (json.loads((folder / "out" / RESULTS).read_text()) for folder in (scratch, tmp_path))
    for instance in found:
        instance["file_name"] = instance["file_name"].replace("/tmp", str(scratch), 1)
    assert found == expected != []
    drawn = [scratch / Path(item[kind]).relative_to("/tmp") for item in reports(done.stdout) for kind in PICTURES]
    assert [path.stat().st_uid for path in drawn] == [UID] * 4


@on_runtime
def test_the_runtime_image_predicts_with_the_champion(
    pod: LockedPod, own_store: ObjectStore, tracking: TrackingConfig, student: bytes, scratch: Path, tmp_path: Path
):
    place = f"{own_store.root}/student.onnx"
    own_store.put(place, student)
    put(scratch / "images" / "a.png", 20)
    with mlflow_server(str(tracking.uri), free_port(), tmp_path / "server.log") as url:
        remote = TrackingConfig(uri=url)
        tags = {FILE_TAG: f"{place} {digest_bytes(student)}"}
        client = connect(remote, own_store.config)
        version = ensure_version(client, Registration("student", own_store.root, None, "sha256:1", tags))
        client.set_registered_model_alias("student", "champion", version.version)
        file = put_experiment(own_store, scratch, tracking=remote.model_dump())
        done = pod.run(
            "sskd", "predict", "models:/student@champion", "/tmp/images", "-o", "/tmp/out", "--score", "0", "-e", file,
            "--json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert [item["instances"] > 0 for item in reports(done.stdout)] == [True]
        checked = pod.run("sskd", "doctor", "-e", file)
        assert f"experiments at {url}; mode own" in checked.stdout


@on_runtime
def test_the_runtime_image_serves_and_stops_when_told(pod: LockedPod, student: bytes, scratch: Path):
    from mlflow.models import Model

    write_mlflow_model(student, scratch / "model", Model())
    port = str(free_port())
    serving = replace(pod, variables={"__pyfunc_model_path__": "/tmp/model"})
    with serving.started("uvicorn", "mlflow.pyfunc.scoring_server.app:app", "--port", port) as process:
        wait_for("Uvicorn running on", process)
        image = base64.b64encode(put(scratch / "a.png", 20).read_bytes()).decode()
        body = {"dataframe_records": [{"image": image}], "params": {"score_threshold": 0.0}}
        asked = Request(f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode())
        asked.add_header("Content-Type", "application/json")
        with urlopen(asked, timeout=60) as answer:
            (found,) = json.load(answer)["predictions"]
        stop(process, signal.SIGTERM)
        process.communicate(timeout=TIMEOUT)
    assert found["instances"] != []


@on_cpu
def test_a_task_of_the_pipeline_runs_as_the_compiled_file_starts_it(
    pod: LockedPod, own_store: ObjectStore, scratch: Path
):
    file = scratch / Path(put_experiment(own_store, scratch)).name
    done = pod.run(*task("prepare", {"experiment": file.read_text()}, {}))
    assert done.returncode == 0, done.stderr
    manifest = Manifest.model_validate_json((scratch / "manifest").read_bytes())
    assert manifest.stage == "prepare"
    assert own_store.exists(manifest.uri)

    # What it made is what a task that trains reads.
    trained = pod.run(*task("train_supervised", {"experiment": file.read_text()}, {"data": "/tmp/manifest"}))
    assert trained.returncode == 0, trained.stderr
    found = Manifest.model_validate_json((scratch / "manifest").read_bytes())
    assert (found.stage, found.facts["iterations"]) == ("train_supervised", 4)


@on_cpu
def test_sigterm_reaches_the_stage_which_saves_its_state_and_goes_on(
    pod: LockedPod, own_store: ObjectStore, scratch: Path
):
    stages = read_mapping(FILE)["stages"]
    stages["train_supervised"] |= {"iterations": FOREVER, "val_every": FOREVER}
    file = put_experiment(own_store, scratch, stages=stages)
    experiment = load_experiment(str(scratch / Path(file).name))
    data = run_node(pinned(experiment, own_store), "prepare", {})
    command = ["sskd", "stage", "train_supervised", "-e", file, "-i", f"data={data.uri}"]
    for expected in ("train_supervised update", "resumed at iteration"):
        with pod.started(*command) as process:
            wait_for(expected, process)
            stop(process, signal.SIGTERM)
            _, rest = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 143, rest
        assert rest.splitlines()[-1] == "stopped by SIGTERM; run the same command again to go on"


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A tiny network with random values as the export writes it."""
    network = tiny_model().eval()
    size = network.input
    contract = Contract(
        classes=CLASSES, colors=["#ff0000", "#00ff00", "#0000ff"], height=size.height, width=size.width,
        mean=list(size.mean), std=list(size.std),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("student") / "student.onnx"
    export_onnx(network, path, 18, contract)
    return path.read_bytes()


def wait_for(words: str, process: subprocess.Popen[str]) -> None:
    """Read what a process says up to a line with these words."""
    said = []
    for line in process.stderr:
        said.append(line)
        if words in line:
            return
    pytest.fail("".join(said))


def reports(printed: str) -> list[dict[str, Any]]:
    """Return what `sskd predict --json` says of each image."""
    found: list[dict[str, Any]] = json.loads(printed)["images"]
    return found


def task(name: str, parameters: dict[str, Any], manifests: dict[str, str]) -> list[str]:
    """Return the command line that KFP's launcher starts for a task."""
    container = load(name).component_spec.implementation.container

    def artifact(kind: str, file: str) -> dict[str, Any]:
        return {"artifacts": [{"name": kind, "type": {"schemaTitle": f"system.{kind}"}, "uri": file}]}

    executed = {
        "inputs": {
            "parameterValues": parameters,
            "artifacts": {key: artifact("Artifact", file) for key, file in manifests.items()},
        },
        "outputs": {
            "artifacts": {
                "manifest": artifact("Artifact", "/tmp/manifest"),
                "metrics": artifact("Metrics", "/tmp/metrics"),
            },
            "outputFile": "/tmp/executor_output.json",
        },
    }
    return [*container.command, *(json.dumps(executed) if item == "{{$}}" else item for item in container.args)]
