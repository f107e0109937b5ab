"""What the chart makes of five sets of values: as before (`golden/`), and as Kubernetes takes it.

After a wanted change: `make golden`, and read the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from chart_objects import Object, named, of_kind, pods

from tests.charts.conftest import CHART, HERE, NAMESPACE, SETS, Helm
from tests.charts.kubernetes import problems

KINDS = {
    "external": {"ConfigMap", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "Job"},
    "self-contained": {"PersistentVolumeClaim", "StatefulSet", "Deployment", "Service", "PodDisruptionBudget"},
    "several-nodes": {"TrainingRuntime", "PersistentVolumeClaim"},
    "retrain": {"CronJob"},
    "locked-down": {"TrainingRuntime", "CronJob", "Deployment", "PodDisruptionBudget"},
}


@pytest.mark.parametrize("name", SETS)
def test_helm_lint_has_nothing_to_say(name: str, helm: Helm):
    done = helm("lint", "--strict", str(CHART), "--values", str(HERE / "values" / f"{name}.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


@pytest.mark.parametrize("name", SETS)
def test_golden(name: str, texts: dict[str, str]):
    golden = HERE / "golden" / f"{name}.yaml"
    if os.environ.get("SSKD_WRITE_GOLDEN"):
        golden.write_text(texts[name], encoding="utf-8")
    assert texts[name] == golden.read_text(encoding="utf-8"), "the chart changed; if that is wanted: make golden"


@pytest.mark.parametrize("name", SETS)
def test_every_object_is_one_of_kubernetes(name: str, objects: dict[str, list[Object]]):
    assert KINDS[name] <= {item["kind"] for item in objects[name]}
    for item in objects[name]:
        assert problems(item) == [], f"{item['kind']}/{item['metadata']['name']}"


def test_a_misspelt_field_would_be_seen(objects: dict[str, list[Object]]):
    item = yaml.safe_load(yaml.safe_dump(of_kind(objects["self-contained"], "Deployment")[0]))
    item["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    assert problems(item)


def test_names_are_unique_and_no_object_leaves_the_namespace(rendered: list[Object]):
    found = [(item["kind"], item["metadata"]["name"]) for item in rendered]
    assert len(found) == len(set(found))
    assert all(item["metadata"].get("namespace", NAMESPACE) == NAMESPACE for item in rendered)
    assert not any(kind.startswith("Cluster") for kind, _ in found)


def test_a_long_release_name_still_names_its_own_service(helm: Helm):
    name = "a-release-with-quite-a-long-name-for-a-test"
    values = str(HERE / "values" / "self-contained.yaml")
    done = helm("template", name, str(CHART), "--namespace", NAMESPACE, "--values", values)
    assert done.returncode == 0, done.stderr
    rendered = [item for item in yaml.safe_load_all(done.stdout) if item]
    assert all(len(item["metadata"]["name"]) <= 63 for item in rendered)
    services = {item["metadata"]["name"] for item in of_kind(rendered, "Service")}
    files = next(item["data"] for item in of_kind(rendered, "ConfigMap") if "experiment.yaml" in item["data"])
    endpoint = yaml.safe_load(files["experiment.yaml"])["storage"]["endpoint_url"]
    assert endpoint.removeprefix("http://").split(".")[0] in services


def test_what_pods_refer_to_is_there(rendered: list[Object]):
    """Config maps, accounts and claims are the chart's own; secrets and named claims exist before it."""
    own = {kind: {item["metadata"]["name"] for item in of_kind(rendered, kind)} for kind in
           ("ConfigMap", "ServiceAccount", "PersistentVolumeClaim")}  # fmt: skip
    for pod in pods(rendered):
        assert pod.spec["serviceAccountName"] in own["ServiceAccount"], pod.owner
        for volume in pod.spec["volumes"]:
            if "configMap" in volume:
                assert volume["configMap"]["name"] in own["ConfigMap"], pod.owner
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert claim in own["PersistentVolumeClaim"] | {"mlflow-data", "images"}, pod.owner
        for container in pod.spec["containers"]:
            for source in container.get("envFrom", []):
                assert source["configMapRef"]["name"] in own["ConfigMap"], pod.owner
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod.spec["volumes"]}, pod.owner


@pytest.mark.parametrize("name", SETS)
def test_notes_tell_how_to_go_on(name: str, helm: Helm, objects: dict[str, list[Object]]):
    options = ["--values", str(HERE / "values" / f"{name}.yaml"), "--set", "distributed.enabled=false"]
    done = helm("install", "sskd", str(CHART), "--namespace", NAMESPACE, *options, "--dry-run=client")
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    assert "helm test sskd -n vision --logs" in notes
    assert "get configmap sskd-files -n vision" in notes
    assert "--service-account sskd-runs" in notes
    assert ("svc/sskd-mlflow 5000" in notes) == bool(of_kind(objects[name], "Deployment"))
    assert ("cronjob/sskd-retrain" in notes) == bool(of_kind(objects[name], "CronJob"))
    assert ("--namespace vision" in notes) == (name == "locked-down")


def test_trainings_on_several_nodes_name_the_chart_s_own_runtime(helm: Helm):
    values = str(HERE / "values" / "several-nodes.yaml")
    done = helm.template("--values", values, "--set", "cluster.nodes.distill.machines=4")
    rendered = [item for item in yaml.safe_load_all(done.stdout) if item]
    cluster = yaml.safe_load(named(rendered, "ConfigMap", "sskd-files")["data"]["cluster.yaml"])
    assert cluster["nodes"]["distill"] == {"machines": 4}
    (runtime,) = of_kind(rendered, cluster["trainer"]["kind"])
    assert runtime["metadata"]["name"] == cluster["trainer"]["runtime"]


def test_the_chart_is_of_the_package_s_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = (CHART.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{chart["appVersion"]}"' in project
    assert Path(CHART / "values.schema.json").exists()
