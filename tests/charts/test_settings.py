"""What the chart hands to the code is what the code reads: variables by name, files by its own loaders."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from chart_objects import Object, named, of_kind, pods

from pipelines.cluster import ClusterConfig, Tier, load_cluster
from pipelines.compile import compile_pipeline
from sskd_core.config.loading import load_experiment
from tests.charts.conftest import CHART, SETS
from tests.pipelines.test_sskd import leaves

ROOT = Path(__file__).parents[2]
# What boto3 and MLflow read from the environment on their own; the tests of `tracking` and `storage` rely on it, too.
CREDENTIALS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
MLFLOW = {"MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
OF_A_SERVER = {"HOME", "AWS_DEFAULT_REGION", "MLFLOW_S3_ENDPOINT_URL", "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE",
               "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"}  # fmt: skip


def names_read(tree: ast.Module) -> Iterator[str]:
    """Yield the strings by which a module looks into the environment, also through a constant of its own."""
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    yield from (value for name, value in constants.items() if name.endswith("_VARIABLE"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("environ.get"):
            key = node.args[0]
            yield from [key.value] if isinstance(key, ast.Constant) else []
        if isinstance(node, ast.keyword) and node.arg == "envvar" and isinstance(node.value, ast.Constant):
            yield str(node.value.value)


@pytest.fixture(scope="module")
def read_by_the_code() -> set[str]:
    files = [path for folder in ("sskd_core", "components", "pipelines") for path in (ROOT / folder).rglob("*.py")]
    return {name for path in files for name in names_read(ast.parse(path.read_text(encoding="utf-8")))}


@pytest.mark.parametrize("name", SETS)
def test_every_variable_of_the_config_map_is_read(
    name: str, objects: dict[str, list[Object]], read_by_the_code: set[str]
):
    assert {"MLFLOW_TRACKING_URI", "SSKD_KFP_HOST", "SSKD_CACHE_DIR", "SSKD_STATE_DIR"} <= read_by_the_code
    data = named(objects[name], "ConfigMap", "sskd-environment")["data"]
    assert data
    assert set(data) <= read_by_the_code
    assert ("SSKD_CACHE_DIR" in data) == bool([c for c in of_kind(objects[name], "CronJob") if "cache" in str(c)]
                                              or name == "several-nodes")  # fmt: skip


def test_every_variable_of_a_pod_is_one_that_somebody_reads(rendered: list[Object], read_by_the_code: set[str]):
    # Its source, because to import MLflow takes longer than all else here.
    package = find_spec("mlflow")
    assert package is not None
    read_by_mlflow = (Path(str(package.origin)).parent / "environment_variables.py").read_text(encoding="utf-8")
    boto3 = {variable for _, variable, *_ in BOTOCORE_DEFAUT_SESSION_VARIABLES.values() if isinstance(variable, str)}
    known = read_by_the_code | CREDENTIALS
    for pod in pods(rendered):
        for container in pod.spec["containers"]:
            own = {variable["name"] for variable in container.get("env", [])}
            assert own <= known | MLFLOW | (OF_A_SERVER if pod.component == "mlflow" else set()), pod.owner
    for name in OF_A_SERVER - {"HOME", "AWS_DEFAULT_REGION"} | MLFLOW:
        assert f'"{name}"' in read_by_mlflow, name
    assert "AWS_DEFAULT_REGION" in boto3


@pytest.mark.parametrize("name", SETS)
def test_the_platform_s_file_is_one_and_names_what_is_there(
    name: str, objects: dict[str, list[Object]], tmp_path: Path
):
    path = tmp_path / "cluster.yaml"
    path.write_text(named(objects[name], "ConfigMap", "sskd-files")["data"]["cluster.yaml"])
    cluster = load_cluster(path)
    cluster.require_digests()
    maps = {item["metadata"]["name"]: item["data"] for item in of_kind(objects[name], "ConfigMap")}
    for config_map, keys in cluster.config_maps.items():
        assert set(keys) <= set(maps[config_map])
        assert all(key == variable for key, variable in keys.items())
    assert "MLFLOW_TRACKING_URI" in {variable for keys in cluster.config_maps.values() for variable in keys.values()}
    assert cluster.labels["app.kubernetes.io/component"] == "stage"
    for node in cluster.nodes:
        cluster.tier("gpu", node)


def test_the_platform_s_file_says_what_the_values_say(objects: dict[str, list[Object]], tmp_path: Path):
    def cluster(name: str) -> ClusterConfig:
        path = tmp_path / f"{name}.yaml"
        path.write_text(named(objects[name], "ConfigMap", "sskd-files")["data"]["cluster.yaml"])
        return load_cluster(path)

    locked = cluster("locked-down")
    assert (locked.run_as_user, locked.secrets, locked.pull_secrets) == (None, {}, ["registry"])
    assert locked.cache is not None
    assert (locked.cache.claim, locked.cache.path) == ("images", "/var/cache/sskd")
    spread = cluster("several-nodes")
    assert spread.tier("gpu", "distill").gpus == 8
    assert spread.tier("gpu", "relabel worker").gpus == 1
    assert spread.image_of(spread.tier("light", "configure")).startswith("registry.example/sskd-cpu@")
    assert cluster("retrain").secrets == {
        "sskd-s3": {"access-key": "AWS_ACCESS_KEY_ID", "secret-key": "AWS_SECRET_ACCESS_KEY"},
        "mlflow": {"user": "MLFLOW_TRACKING_USERNAME", "password": "MLFLOW_TRACKING_PASSWORD"},
    }


def test_the_tasks_carry_the_labels_by_which_they_are_selected(objects: dict[str, list[Object]], tmp_path: Path):
    path = tmp_path / "cluster.yaml"
    path.write_text(named(objects["locked-down"], "ConfigMap", "sskd-files")["data"]["cluster.yaml"])
    compile_pipeline(tmp_path / "sskd.yaml", load_cluster(path))
    document, platform = yaml.safe_load_all((tmp_path / "sskd.yaml").read_text())
    tasks = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    policy = named(objects["locked-down"], "NetworkPolicy", "sskd-stage")["spec"]["podSelector"]["matchLabels"]
    assert {task["executor"] for task in leaves(document).values()} == set(tasks)
    for name, task in tasks.items():
        assert policy.items() <= task["podMetadata"]["labels"].items(), name
        assert [(item["constant"], item["mountPath"]) for item in task["pvcMount"]] == [("images", "/var/cache/sskd")]
        environment = document["deploymentSpec"]["executors"][name]["container"]["env"]
        assert {"name": "SSKD_CACHE_DIR", "value": "/var/cache/sskd"} in environment


@pytest.mark.parametrize("name", SETS)
def test_the_experiment_file_reaches_the_store(name: str, objects: dict[str, list[Object]], tmp_path: Path):
    path = tmp_path / "experiment.yaml"
    path.write_text(named(objects[name], "ConfigMap", "sskd-files")["data"]["experiment.yaml"])
    storage = load_experiment(str(path)).storage
    expected = {
        "external": ("s3://factory/sskd", None, "auto"),
        "self-contained": ("s3://sskd/sskd", "http://sskd-seaweedfs.vision.svc.cluster.local:8333", "path"),
        "several-nodes": ("s3://factory/sskd", "http://minio.storage.svc.cluster.local:9000", "path"),
        "retrain": ("s3://factory/sskd", None, "auto"),
        "locked-down": ("s3://factory/sskd", "https://s3.example", "auto"),
    }
    assert (storage.root, storage.endpoint_url, storage.addressing_style) == expected[name]


def test_the_schema_knows_the_tiers_fields():
    schema = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))
    assert set(schema["definitions"]["tier"]["properties"]) >= set(Tier.model_fields)
    said_elsewhere = {"image", "cpu_image", "pull_secrets", "secrets", "config_maps", "labels", "cache", "run_as_user",
                      "run_as_group", "trainer"}  # fmt: skip
    assert set(schema["properties"]["cluster"]["properties"]) == set(ClusterConfig.model_fields) - said_elsewhere


def test_the_schema_knows_every_value_and_no_other():
    schema = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert set(schema["properties"]) - {"global"} == set(values)
    for key, value in values.items():
        inner = schema["properties"][key].get("properties")
        if inner is not None and key != "cluster":
            assert set(inner) == set(value), key


@pytest.mark.parametrize("name", ["retrain", "locked-down"])
def test_the_retrain_s_arguments_are_the_command_s(name: str, objects: dict[str, list[Object]]):
    from typer.main import get_command

    from sskd_core.cli.main import app

    command = get_command(app).commands["retrain"]  # type: ignore[attr-defined]
    (job,) = of_kind(objects[name], "CronJob")
    container = pods([job])[0].spec["containers"][0]
    assert container["command"] == ["sskd", "retrain"]
    context = command.make_context("retrain", list(container["args"]))
    assert context.params["submit"] == (name == "locked-down")
    assert (
        context.params["unlabeled"] == ["s3://factory/line-1", "s3://factory/line-2"][: 2 if name == "retrain" else 1]
    )
    assert context.params["experiment"] == "/etc/sskd/experiment.yaml"
    if name == "locked-down":
        assert context.params["namespace"] == "vision"
        assert context.params["service_account"] == "sskd-runs"
        assert str(context.params["cluster"]) == "/etc/sskd/cluster.yaml"
    else:
        assert context.params["overrides"] == ["retrain.min_new_images=500"]
