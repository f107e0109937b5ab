"""The chart's own services, started for real with the very arguments that their containers have."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from chart_objects import Object, pods

from sskd_core.config.storage import StorageConfig
from sskd_core.services.doctor import check_storage
from sskd_core.services.environment import store_environment
from sskd_core.services.ports import choose
from sskd_core.services.server import binary
from sskd_core.services.state import Credentials
from sskd_core.storage.client import make_client

READY = "Uvicorn running on"
KEYS = Credentials(access_key="of-a-test", secret_key="of-a-test-too")


def container(objects: list[Object], component: str) -> Object:
    (pod,) = [pod for pod in pods(objects) if pod.component == component]
    return pod.spec["containers"][0]


@contextmanager
def started(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output, subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ | environment,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def test_seaweedfs_starts_with_its_bucket_and_asks_for_the_key(objects: dict[str, list[Object]], tmp_path: Path):
    ports = choose()
    given = container(objects["self-contained"], "seaweedfs")
    (port,) = given["ports"]
    assert port["containerPort"] == 8333
    data = tmp_path / "data"
    data.mkdir()
    command = [binary(), *given["command"][1:]]
    command = [word.replace("-dir=/data", f"-dir={data}").replace("=8333", f"={ports.s3}") for word in command]
    assert f"-s3.port={ports.s3}" in command
    command = ["-ip.bind=127.0.0.1" if word == "-ip.bind=0.0.0.0" else word for word in command]
    # All else keeps its place in the pod, where nobody else has these ports.
    command += [f"-s3.port.grpc={ports.s3_grpc}", f"-master.port={ports.master}", f"-filer.port={ports.filer}"]
    command += [f"-master.port.grpc={ports.master_grpc}", f"-filer.port.grpc={ports.filer_grpc}"]
    command += [f"-volume.port={ports.volume}", f"-volume.port.grpc={ports.volume_grpc}"]
    command += [f"-admin.port={ports.admin}", f"-admin.port.grpc={ports.admin_grpc}"]
    variables = {item["name"] for item in given["env"]}
    assert variables == set(KEYS.environment())
    storage = StorageConfig(root="s3://sskd/sskd", endpoint_url=f"http://127.0.0.1:{ports.s3}", addressing_style="path")
    with started(command, tmp_path / "log", KEYS.environment()) as process, store_environment(KEYS):
        wait_for_store(storage, process)
        assert [check.detail for check in check_storage(storage) if not check.ok] == []
        assert answers(f"http://127.0.0.1:{ports.s3}{given['readinessProbe']['httpGet']['path']}") == 200
        with store_environment(Credentials(access_key="of-a-test", secret_key="another")):
            (refusal,) = check_storage(storage)
        assert not refusal.ok


def wait_for_store(storage: StorageConfig, process: subprocess.Popen[bytes]) -> None:
    client = make_client(storage, attempts=1)
    while process.poll() is None:
        try:
            client.put_object(Bucket="sskd", Key=".ready", Body=b"")
            return
        except (ClientError, BotoCoreError):
            continue
    raise AssertionError("SeaweedFS ended at its start")


@pytest.mark.slow
def test_mlflow_answers_under_its_service_s_names_alone(objects: dict[str, list[Object]], tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = container(objects["self-contained"], "mlflow")
    command = [sys.executable, *given["command"][1:]]
    command = [word.replace("sqlite:////data", f"sqlite:///{tmp_path}") for word in command]
    own = {"--port=5000": f"--port={port}", "--host=0.0.0.0": "--host=127.0.0.1"}
    command = [own.get(word, word) for word in command]
    assert f"--port={port}" in command
    plain = {item["name"]: item["value"] for item in given["env"] if "value" in item} | {"HOME": str(tmp_path)}
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    with started(command, tmp_path / "log", plain) as process:
        url = f"http://127.0.0.1:{port}"
        while READY not in (tmp_path / "log").read_text():
            assert process.poll() is None, (tmp_path / "log").read_text()
        assert answers(f"{url}{given['readinessProbe']['httpGet']['path']}") == 200
        assert answers(f"{url}{search}", host="sskd-mlflow.vision.svc.cluster.local:5000") == 200
        assert answers(f"{url}{search}", host="sskd-mlflow:5000") == 200
        assert answers(f"{url}{search}", host="evil.example:5000") == 403


def answers(url: str, host: str | None = None) -> int | None:
    """Return the status of a GET; None without an answer."""
    request = urllib.request.Request(url, headers={} if host is None else {"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None
