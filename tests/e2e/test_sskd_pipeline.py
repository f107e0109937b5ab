"""The whole pipeline as a user runs it: real processes, a real S3 server, a real MLflow store, tiny networks.

One run is shared. Its storage is not the embedded one but a bucket and prefix of its own, named by configuration
alone; the labelled side of its data is local, the unlabelled side lies in the bucket, outside of the run's prefix.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import yaml

from sskd_core.config.graph import SSKD as NODES
from sskd_core.config.loading import read_mapping
from sskd_core.config.storage import StorageConfig
from sskd_core.data.demo import DemoSizes, write_demo_dataset
from sskd_core.reporting.results import Results
from sskd_core.stages.configure import configure
from sskd_core.stages.finished import finished_nodes
from sskd_core.storage.manifest import MAX_BYTES, Manifest
from sskd_core.storage.store import ObjectStore
from tests.micro import FILE

SSKD = str(Path(sys.executable).parent / "sskd")
BUCKET, PREFIX = "another-bucket", "team/models"
SIZES = DemoSizes(labeled=4, unlabeled=6, val=2, test=2)
PATIENCE = 900
pytestmark = pytest.mark.timeout(2 * PATIENCE)


@dataclasses.dataclass
class Site:
    """A user's place: experiment file, state folder, store."""

    folder: Path
    store: ObjectStore

    def command(self, *arguments: str) -> list[str]:
        return [SSKD, *arguments, "--state-dir", str(self.folder / "state")]

    def sskd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=PATIENCE, cwd=self.folder
        )

    def sskd_anywhere(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command that keeps no state."""
        return subprocess.run([SSKD, *arguments], capture_output=True, text=True, timeout=PATIENCE, cwd=self.folder)

    def start(self) -> subprocess.Popen[str]:
        command = self.command("run", "mine.yaml", "--json")
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder)

    def progress(self, node: str) -> list[dict[str, Any]]:
        """Return what a node told in the newest run."""
        newest = max((self.folder / "state" / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        file = newest / "progress" / f"{node}.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line) for line in lines]

    def manifest(self, node: str) -> Manifest:
        document = json.loads((self.folder / "state/reports/micro-seed0/results.json").read_text())
        return self.store.manifest(document["stages"][node]["manifest"], document["stages"][node]["digest"])


def local_copy(store: ObjectStore, prefix: str, folder: Path) -> str:
    for item in store.list(prefix):
        target = folder / item.uri.removeprefix(f"{prefix}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(store.get(item.uri))
    return str(folder)


def write_site(endpoint: StorageConfig, folder: Path, prefix: str) -> Site:
    """Put data where a user would have it, and write the experiment file."""
    outside = ObjectStore(endpoint.model_copy(update={"root": f"s3://{BUCKET}/cameras"}))
    found = write_demo_dataset(outside, seed=0, sizes=SIZES)
    base = found.unlabeled[0].removesuffix("/unlabeled/images")
    values = read_mapping(FILE)
    values["data"] = {
        split: {"annotations": f"{split}/annotations.json", "images": f"{split}/images"}
        for split in ("labeled", "val", "test")
    }
    for split in values["data"]:
        local_copy(outside, f"{base}/{split}", folder / split)
    values["data"]["unlabeled"] = found.unlabeled
    root = f"s3://{BUCKET}/{prefix}"
    values["storage"] = {"root": root, "endpoint_url": endpoint.endpoint_url, "addressing_style": "path"}
    values["stages"]["distill"] |= {"iterations": 40, "checkpoint_seconds": 0.0, "val_every": 10}
    (folder / "mine.yaml").write_text(yaml.safe_dump(values))
    return Site(folder, ObjectStore(endpoint.model_copy(update={"root": root})))


@pytest.fixture(scope="module")
def bucket(s3_endpoint: StorageConfig) -> StorageConfig:
    boto3.client("s3", endpoint_url=s3_endpoint.endpoint_url, region_name="us-east-1").create_bucket(Bucket=BUCKET)
    return s3_endpoint


@pytest.fixture(scope="module")
def site(bucket: StorageConfig, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A finished run."""
    made = write_site(bucket, tmp_path_factory.mktemp("site"), PREFIX)
    done = made.sskd("run", "mine.yaml")
    assert done.returncode == 0, done.stderr
    assert "refined student" in done.stdout
    assert "report.html" in done.stdout
    return made


def test_the_results_are_complete(site: Site):
    results = Results.model_validate_json((site.folder / "state/reports/micro-seed0/results.json").read_bytes())
    assert results.missing == []
    assert len(results.models) == 5
    assert results.verdict is not None
    assert all(stage.seconds > 0 and stage.peak_memory_mb > 0 for stage in results.stages.values())
    page = (site.folder / "state/reports/micro-seed0/report.html").read_text()
    assert "</html>" in page
    # The baseline ran beside distill, and KFP's task found it.
    ends = [record["status"] for record in site.progress("train_supervised") if record["kind"] == "end"]
    assert ends == ["done", "cached"]


def test_everything_was_written_below_the_configured_prefix(site: Site, s3_endpoint: StorageConfig):
    client = boto3.client("s3", endpoint_url=s3_endpoint.endpoint_url, region_name="us-east-1")
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert {key.split("/")[0] for key in keys} == {"cameras", "team"}
    assert all(key.startswith((f"{PREFIX}/", "cameras/demo-data/")) for key in keys)


def test_a_second_run_does_no_work_and_says_the_same(site: Site):
    before = json.loads((site.folder / "state/reports/micro-seed0/results.json").read_text())
    done = site.sskd("run", "mine.yaml", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert Path(answer.pop("files")["report"]).is_file()
    assert answer == before
    for node in answer["stages"]:
        assert site.progress(node)[-1]["status"] == "cached", node


def test_what_kfp_keeps_of_a_task_is_a_manifest_its_figures_or_a_page(site: Site):
    kept = [path for path in site.folder.glob("state/runs/*/kfp/**/*") if path.is_file()]
    assert {"manifest", "page", "summary", "plan"} <= {path.name for path in kept}
    assert {path.name for path in kept if path.stat().st_size > MAX_BYTES} <= {"page"}


def test_the_compiled_pipeline_would_call_the_same_stages(site: Site):
    """The form of the compiled file, checked as its first task does, leads to the very results of the local run."""
    done = site.sskd_anywhere("compile", "mine.yaml", "-o", "compiled.yaml", "--allow-tag")
    assert done.returncode == 0, done.stderr
    document = next(yaml.safe_load_all((site.folder / "compiled.yaml").read_text(encoding="utf-8")))
    fields = document["root"]["inputDefinitions"]["parameters"]
    experiment = configure({name: field["defaultValue"] for name, field in fields.items()}, "cluster", {}, check=False)
    found = finished_nodes(experiment, site.store)
    assert list(found) == [node.name for node in NODES]
    assert all(found[node.name] == site.manifest(node.name) for node in NODES)


def test_the_champion_predicts_from_the_registry(site: Site):
    image = site.folder / "test/images/000000.jpg"
    done = site.sskd(
        "predict",
        "models:/sskd-student@champion",
        str(image),
        "-o",
        "overlays",
        "-e",
        "mine.yaml",
        "--score",
        "0",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    assert [Path(item["image"]).name for item in json.loads(done.stdout)["images"]] == ["000000.jpg"]
    assert (site.folder / "overlays/000000.png").is_file()
    assert (site.folder / "overlays/predictions.json").is_file()
    missing = site.sskd("predict", "models:/sskd-student@nobody", str(image), "-o", "none", "-e", "mine.yaml")
    assert missing.returncode == 2
    assert len(missing.stderr.splitlines()) == 1
    assert not (site.folder / "none").exists()


def test_labels_can_be_inspected(site: Site):
    uri = site.manifest("relabel").uri
    done = site.sskd("labels", "inspect", uri, "-e", "mine.yaml", "--sheet", "sheet.png", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == SIZES.unlabeled
    assert (site.folder / "sheet.png").read_bytes().startswith(b"\x89PNG")
    wrong = site.sskd("labels", "inspect", site.manifest("prepare").uri, "-e", "mine.yaml")
    assert wrong.returncode == 2


def test_a_stage_by_hand_finds_the_pipeline_s_result(site: Site):
    inputs = {"data": "prepare", "student": "refine"}
    options = [word for name, node in inputs.items() for word in ("-i", f"{name}={site.manifest(node).uri}")]
    done = site.sskd("stage", "export_onnx", "-e", "mine.yaml", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == site.manifest("export_onnx").uri


def runner_of(command: subprocess.Popen[str]) -> psutil.Process:
    return next(child for child in psutil.Process(command.pid).children() if "pipelines" in child.cmdline())


def kill_command(command: subprocess.Popen[str], runner: psutil.Process) -> None:
    """Kill the command alone; its pipeline must end by itself."""
    group = [runner, *runner.children(recursive=True)]
    command.kill()
    assert command.wait() == -signal.SIGKILL
    _, alive = psutil.wait_procs(group, timeout=PATIENCE)
    assert alive == []


def kill_pipeline(command: subprocess.Popen[str], runner: psutil.Process) -> None:
    """Kill runner and stages; the command must say so."""
    os.killpg(runner.pid, signal.SIGKILL)
    _, errors = command.communicate(timeout=PATIENCE)
    assert command.returncode == 1
    assert "stage distill ended without a word" in errors


def press_ctrl_c(command: subprocess.Popen[str], runner: psutil.Process) -> None:
    """Interrupt the command; the stage saves its state and all processes are gone."""
    group = [runner, *runner.children(recursive=True)]
    command.send_signal(signal.SIGINT)
    _, errors = command.communicate(timeout=PATIENCE)
    assert command.returncode == 130, errors
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(group, timeout=PATIENCE)
    assert alive == []


def wait_for_step(site: Site, command: subprocess.Popen[str], step: int) -> int:
    """Wait until distillation has passed a step; return the first step that it did."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        steps = [record["done"] for record in site.progress("distill") if record["kind"] == "update"]
        if steps and steps[-1] >= step:
            return int(steps[0])
        assert command.poll() is None, command.communicate()
        time.sleep(0.01)
    raise AssertionError(f"distillation did not reach step {step}")


def test_however_it_is_stopped_it_goes_on_and_ends_with_the_same_student(site: Site):
    uninterrupted = site.manifest("distill")
    for item in site.store.list(uninterrupted.uri.removesuffix("/manifest.json")):
        site.store.delete(item.uri)
    first_steps = []
    blows: list[tuple[int, Callable[[subprocess.Popen[str], psutil.Process], None]]] = [
        (8, kill_command),
        (16, kill_pipeline),
        (24, press_ctrl_c),
    ]
    for step, blow in blows:
        with site.start() as command:
            first_steps.append(wait_for_step(site, command, step))
            blow(command, runner_of(command))
        assert not site.store.exists(uninterrupted.uri), "it finished before it was stopped"
    done = site.sskd("run", "mine.yaml")
    assert done.returncode == 0, done.stderr
    first_steps.append(next(record["done"] for record in site.progress("distill") if record["kind"] == "update"))
    assert first_steps[0] <= blows[0][0]  # from the start; the first record comes after half a second
    assert all(after > step for after, (step, _) in zip(first_steps[1:], blows, strict=True)), first_steps
    again = site.manifest("distill")
    assert again.output("model/model.safetensors").digest == uninterrupted.output("model/model.safetensors").digest
    assert site.progress("refine")[-1]["status"] == "cached"


@pytest.fixture
def broken_site(bucket: StorageConfig, tmp_path: Path) -> Site:
    made = write_site(bucket, tmp_path, "broken")
    (tmp_path / "labeled/images/000000.jpg").write_bytes(b"not an image")
    (tmp_path / "labeled/images/000001.jpg").unlink()
    return made


def test_bad_data_is_refused_with_every_problem_and_only_the_report_is_written(broken_site: Site):
    done = broken_site.sskd("run", "mine.yaml")
    assert done.returncode == 2
    problems = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert any("000000.jpg" in line for line in problems)
    assert any("000001.jpg" in line for line in problems)
    assert "Traceback" not in done.stderr
    written = {
        item.uri.removeprefix(f"{broken_site.store.root}/") for item in broken_site.store.list(broken_site.store.root)
    }
    assert {uri.split("/")[0] for uri in written} == {"runs", "stages"}
    assert {uri.split("/")[1] for uri in written if uri.startswith("stages/")} == {"report"}
    (uri,) = [uri for uri in written if uri.endswith("results.json")]
    results = Results.model_validate_json(broken_site.store.get(f"{broken_site.store.root}/{uri}"))
    assert results.missing[0] == "prepare"
