"""The command's surface, its speed, and its manners when something is wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from sskd_core.cli import main, run
from sskd_core.cli.main import app
from sskd_core.errors import DataError, Interrupted

SURFACE = {
    "demo": "--preset --set --seed --state-dir --json",
    "run": "EXPERIMENT --set --seed --state-dir --json",
    "retrain": "--unlabeled --labeled --test --from --dry-run --watch --submit --host --namespace/-n --token-file "
    "--ca-file --kfp-experiment --service-account --cluster --image --allow-tag --set --experiment/-e --state-dir "
    "--json",
    "stage": "NAME --experiment/-e --input/-i --worker --set --seed --state-dir --json",
    "pretrain": "NETWORK --output/-o --seed --iterations --state-dir",
    "describe": "EXPERIMENT --set --classes --json",
    "schema": "",
    "doctor": "--experiment/-e --state-dir --json",
    "predict": "MODEL IMAGES... --output/-o --score --batch --frame-step --overlays/--no-overlays --masks/--no-masks "
    "--experiment/-e --state-dir --json",
    "card": "MODEL --output/-o --experiment/-e --state-dir",
    "lineage": "MODEL --html --experiment/-e --state-dir --json",
    "models lineage": "MODEL --html --experiment/-e --state-dir --json",
    "models list": "--experiment/-e --state-dir --json",
    "models show": "MODEL --experiment/-e --state-dir --json",
    "models promote": "MODEL --policy --force --reason --experiment/-e --state-dir --json",
    "models rollback": "--reason --experiment/-e --state-dir --json",
    "models diff": "FIRST SECOND --experiment/-e --state-dir --json",
    "compile": "[EXPERIMENT] --output/-o --cluster --image --allow-tag --set --json",
    "submit": "EXPERIMENT --host --namespace/-n --token-file --ca-file --kfp-experiment --service-account --cron "
    "--cluster --image --allow-tag --set --seed --json",
    "runs list": "--limit --host --namespace/-n --token-file --ca-file --json",
    "runs show": "RUN --host --namespace/-n --token-file --ca-file --json",
    "runs logs": "RUN --task --host --namespace/-n --token-file --ca-file",
    "labels inspect": "MANIFEST --sheet --experiment/-e --state-dir --json",
    "services up": "--state-dir --json",
    "services down": "--state-dir --json",
    "services status": "--state-dir --json",
}


def surface(command, prefix: str = "") -> dict[str, str]:
    if hasattr(command, "commands"):
        return {
            key: value
            for name, inner in command.commands.items()
            for key, value in surface(inner, f"{prefix} {name}".strip()).items()
        }
    words = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            words.append(argument_name(parameter))
        elif parameter.name != "help":
            words.append("/".join([*parameter.opts, *parameter.secondary_opts]))
    return {prefix: " ".join(words)}


def argument_name(parameter) -> str:
    return (parameter.metavar or parameter.name.upper()) + ("..." if parameter.nargs == -1 else "")


def test_the_surface_is_frozen():
    assert surface(typer.main.get_command(app)) == SURFACE


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['sskd', '--help']\n"
        "from sskd_core.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'mlflow', 'kfp', 'transformers', 'boto3', 'pyarrow', 'onnxruntime', 'numpy', 'pydantic'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert "HEAVY []" in out
    assert "demo" in out


def test_schema_is_golden(sskd: Callable):
    golden = Path(__file__).parent / "golden" / "schema.json"
    answer = sskd("schema")
    assert answer.code == 0
    assert answer.out == golden.read_text(encoding="utf-8"), "the schema changed; if that is wanted: make golden"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "dmo"), "'dmo': no such file or preset; did you mean 'demo'?"),
        (
            ("run", "demo", "--set", "stages.distil.iterations=1"),
            "unknown key 'stages.distil'; did you mean 'distill'?",
        ),
        (
            ("demo", "--preset", "cityscapes_sskd_5"),
            "--preset cityscapes_sskd_5: no preset for the demo's data; one of demo",
        ),
        (("demo", "--set", "seed=-1"), "'seed': input should be greater than or equal to 0"),
        (("describe", "none.yaml"), "none.yaml: no such file"),
        (("stage", "distill", "-e", "demo", "-i", "data"), "--input data: write it as NAME=URI"),
        (("predict", "none.onnx", "also-none.png", "-o", "x"), "also-none.png: no such file or folder"),
    ],
)
def test_a_user_error_is_one_line_and_code_2(
    sskd: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
):
    monkeypatch.chdir(tmp_path)
    answer = sskd(*arguments)
    assert answer.code == 2
    assert message in answer.err
    assert len(answer.err.splitlines()) == 1
    assert answer.out == ""
    assert list(tmp_path.iterdir()) == [], "something was written before the error"


def test_wrong_usage_is_code_2(sskd: Callable):
    assert sskd("run").code == 2
    assert sskd("demo", "--sed", "1").code == 2


def test_every_problem_of_a_data_set_is_a_line(sskd: Callable, monkeypatch: pytest.MonkeyPatch):
    def refuse() -> None:
        raise DataError([f"problem {number}" for number in range(60)])

    monkeypatch.setattr(main, "app", refuse)
    answer = sskd()
    assert answer.code == 2
    lines = answer.err.splitlines()
    assert lines[0] == "error: problem 0"
    assert lines[-1] == "error: and 10 more"
    assert len(lines) == 51


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_has_the_code_of_its_signal(sskd: Callable, monkeypatch: pytest.MonkeyPatch, number: int):
    def stop() -> None:
        raise Interrupted("stopped", number)

    monkeypatch.setattr(main, "app", stop)
    assert sskd().code == 128 + number


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command(sskd: Callable, monkeypatch: pytest.MonkeyPatch, number: int, code: int):
    monkeypatch.setattr(main, "app", lambda: signal.raise_signal(number))
    answer = sskd()
    assert answer.code == code
    assert "Traceback" not in answer.err


def test_a_defect_keeps_its_traceback(sskd: Callable, monkeypatch: pytest.MonkeyPatch):
    def break_() -> None:
        raise KeyError("x")

    monkeypatch.setattr(main, "app", break_)
    with pytest.raises(KeyError):
        sskd()


def test_describe_counts_parameters(sskd: Callable):
    micro = Path(__file__).parent.parent / "micro.yaml"
    answer = sskd("describe", str(micro), "--classes", "6", "--json")
    assert answer.code == 0
    found = json.loads(answer.out)
    assert [node["name"] for node in found["nodes"]][:2] == ["prepare", "adapt_teacher"]
    assert all(found["models"][role]["parameters"] > 10_000 for role in ("teacher", "student"))
    assert found["experiment"]["name"] == "micro"
    more = json.loads(sskd("describe", str(micro), "--classes", "7", "--json").out)
    assert more["models"]["student"]["parameters"] > found["models"]["student"]["parameters"]


def test_compile_writes_the_pipeline(sskd: Callable, tmp_path: Path):
    target = tmp_path / "new" / "sskd.yaml"
    image = f"registry.example/x@sha256:{'1' * 64}"
    micro = str(Path(__file__).parent.parent / "micro.yaml")
    answer = sskd(
        "compile", micro, "-o", str(target), "--image", image, "--set", "stages.refine.iterations=77", "--json"
    )
    assert answer.code == 0, answer.err
    assert json.loads(answer.out) == {"pipeline": str(target)}
    text = target.read_text()
    assert f"image: {image}" in text
    assert "refine_iterations: int [Default: 77.0]" in text


def test_compile_refuses_an_image_by_tag(sskd: Callable, tmp_path: Path):
    target = tmp_path / "sskd.yaml"
    answer = sskd("compile", "-o", str(target), "--image", "registry.example/x:1")
    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert line.startswith("error: image 'registry.example/x:1' is not given by digest: KFP's cache")
    assert not target.exists()
    assert sskd("compile", "-o", str(target), "--image", "registry.example/x:1", "--allow-tag").code == 0


def test_compile_into_a_place_that_is_no_folder_is_one_line(sskd: Callable, tmp_path: Path):
    (tmp_path / "file").write_text("")
    answer = sskd("compile", "-o", str(tmp_path / "file" / "sskd.yaml"))
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 1


def test_two_trainings_at_a_time_are_the_demos_own(monkeypatch):
    started: dict[bool, int] = {}
    monkeypatch.setattr(run, "_run", lambda experiment, *_, demo: started.update({demo: experiment.side_by_side}))
    run.run("demo")
    run.demo()
    assert started == {False: 1, True: 2}
    run.demo(overrides=["side_by_side=1"])
    assert started[True] == 1
