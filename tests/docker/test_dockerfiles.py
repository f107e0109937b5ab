"""The images' recipes: hadolint has nothing to say, and each keeps what a locked-down cluster asks for."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
HADOLINT = Path(sys.executable).parent / "hadolint"


def test_there_is_one_image_a_purpose():
    assert [path.name for path in FILES] == ["cpu.Dockerfile", "runtime.Dockerfile", "train.Dockerfile"]


@pytest.mark.skipif(not HADOLINT.is_file(), reason="no hadolint: pip install 'sskd[dev]'")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_hadolint_reports_nothing(path: Path):
    done = subprocess.run([str(HADOLINT), "--no-color", str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_last_stage_is_small_unprivileged_and_labelled(path: Path):
    text = path.read_text(encoding="utf-8")
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)
    last = stages[-1]
    assert len(stages) > 2  # what comes before the first FROM, and two stages at least
    assert last.startswith("${BASE}\n")
    assert "RUN " not in last
    assert re.search(r"^USER 65532:65532$", last, re.MULTILINE)
    assert 'ENTRYPOINT ["sskd"]' in last
    assert f"\nARG VERSION={VERSION}\n" in last
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in last


def test_detectron2_is_pinned_to_a_commit():
    text = (ROOT / "docker" / "train.Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^ARG DETECTRON2_COMMIT=[0-9a-f]{40}$", text, re.MULTILINE)


def test_the_builder_gets_nothing_but_the_sources():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert allowed == {
        "constraints.txt", "pyproject.toml", "README.md", "LICENSE", "sskd_core", "components", "pipelines", "docker",
    }  # fmt: skip


def test_the_predictor_s_requirements_are_pinned_ones():
    listed = (ROOT / "docker" / "runtime.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    names = {line for line in listed if line and not line.startswith("#")}
    assert names <= pinned
    assert not names & {"torch", "torchvision", "transformers", "mlflow"}


def test_the_predictor_needs_nothing_else():
    """Import what the image's commands import, with everything that it lacks taken away."""
    code = (
        "import sys\n"
        "class Gone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'torch', 'torchvision', 'transformers', 'mlflow', 'scipy', 'onnx', 'kfp',\n"
        "                                  'pyarrow', 'matplotlib', 'sklearn', 'safetensors', 'jinja2', 'hotcoco'}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Gone())\n"
        "import sskd_core.cli.main, sskd_core.cli.session, sskd_core.export.predict_files, sskd_core.services.doctor\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
