"""The images are built, and used as a locked-down pod would: as a random UID, with a root that cannot be written.

Needs buildah and debootstrap (Debian's packages of these names), root, and a package index; no daemon. Skipped, with
the reason, where one is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sskd_core.config.storage import StorageConfig
from sskd_core.storage.store import ObjectStore
from tests.micro import micro_data, micro_experiment

ROOT = Path(__file__).parents[2]
UID = 12345
TIMEOUT = 5400
PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT")
PACKAGES = "python3,python3-venv,ca-certificates"
ROOT_VARIABLE = "SSKD_TEST_ROOT_FILES"
"""A folder that holds such a root file system already, to save making one."""
MISSING = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * TIMEOUT),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="chroot isolation needs root"),
]


class Builder:
    """buildah with a storage of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["buildah", "--root", f"{self.folder}/storage", "--runroot", f"{self.folder}/run"]
        command += ["--storage-driver", "vfs", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        assert not check or done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done

    def build(self, name: str, base: str) -> str:
        tag = f"localhost/sskd-{name}:test"
        given = {key: os.environ[key] for key in PIP_VARIABLES if os.environ.get(key)}
        options = [word for key, value in given.items() for word in ("--build-arg", f"{key}={value}")]
        self(
            "build", "--isolation", "chroot", "--network", "host", "--build-arg", f"BASE={base}", *options,
            "-f", str(ROOT / "docker" / f"{name}.Dockerfile"), "-t", tag, str(ROOT),
        )  # fmt: skip
        return tag

    def run(self, image: str, *command: str, mounts: dict[Path, str]) -> subprocess.CompletedProcess[str]:
        """Run a command in a container of an image, as a UID that the image does not know."""
        container = self("from", "--pull=never", image).stdout.strip()
        volumes = [word for source, target in mounts.items() for word in ("--volume", f"{source}:{target}:rw")]
        secrets = [f"--env={name}={os.environ[name]}" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
        options = ["--isolation", "chroot", "--network", "host", "--user", f"{UID}:{UID}"]
        try:
            return self("run", *options, *volumes, *secrets, container, "--", *command, check=False)
        finally:
            self("rm", container)


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    folder = tmp_path_factory.mktemp("buildah")
    yield Builder(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def base(builder: Builder) -> str:
    """A root file system of Debian with Python, as the base image."""
    given = os.environ.get(ROOT_VARIABLE)
    system = Path(given) if given else debian(builder.folder / "debian")
    container = builder("from", "scratch").stdout.strip()
    builder("copy", container, str(system), "/")
    certificates = os.environ.get("PIP_CERT")
    if certificates:  # whom this machine trusts, the build has to trust as well
        builder("copy", container, certificates, certificates)
    builder("commit", container, "localhost/base:test")
    builder("rm", container)
    return "localhost/base:test"


def debian(folder: Path) -> Path:
    """Make a root file system, which takes minutes."""
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout[-2000:]
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """What the container may write."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def experiment_file(endpoint: StorageConfig, folder: Path) -> tuple[Path, ObjectStore]:
    store = ObjectStore(endpoint.model_copy(update={"root": f"{endpoint.root}/images"}))
    path = folder / "experiment.json"
    path.write_text(micro_experiment(store.config, micro_data(store)).model_dump_json())
    path.chmod(0o644)
    return path, store


def check_doctor(builder: Builder, image: str, scratch: Path) -> dict[str, dict[str, object]]:
    done = builder.run(image, "sskd", "doctor", "-e", "/tmp/experiment.json", "--json", mounts={scratch: "/tmp"})
    checks = {item["name"]: item for item in json.loads(done.stdout)["checks"]}
    assert all(checks[f"storage {step}"]["ok"] for step in ("put", "get", "conditional put", "list", "delete"))
    assert checks["devices"]["ok"]
    return checks


def check_unprivileged(builder: Builder, image: str, scratch: Path) -> None:
    code = "import os; print(os.getuid(), os.access('/opt/sskd', os.W_OK), os.access('/', os.W_OK))"
    done = builder.run(image, "python3", "-c", code, mounts={scratch: "/tmp"})
    assert done.stdout.split() == [str(UID), "False", "False"], done.stderr
    configuration = json.loads(builder("inspect", "--type", "image", image).stdout)["OCIv1"]["config"]
    assert configuration["User"] == "65532:65532"
    assert configuration["Entrypoint"] == ["sskd"]
    assert configuration["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_the_runtime_image_sees_its_store_and_has_no_torch(
    builder: Builder, base: str, s3_endpoint: StorageConfig, scratch: Path
):
    image = builder.build("runtime", base)
    check_unprivileged(builder, image, scratch)
    experiment_file(s3_endpoint, scratch)
    checks = check_doctor(builder, image, scratch)
    assert "for predictions only" in str(checks["devices"]["detail"])


def test_the_cpu_image_runs_a_stage(builder: Builder, base: str, s3_endpoint: StorageConfig, scratch: Path):
    image = builder.build("cpu", base)
    check_unprivileged(builder, image, scratch)
    _, store = experiment_file(s3_endpoint, scratch)
    check_doctor(builder, image, scratch)
    done = builder.run(
        image, "sskd", "stage", "prepare", "-e", "/tmp/experiment.json", "--json", mounts={scratch: "/tmp"}
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads(done.stdout)
    assert manifest["stage"] == "prepare"
    assert store.exists(manifest["uri"])
