"""Who may reach whom: denied by default, then what the table of docs/cluster.md says, and no more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from chart_objects import Object, Pod, named, of_kind, pods, selects

from tests.charts.conftest import SETS

PAGE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
LOCKED_DOWN = {
    "openshift-dns": "names",
    "192.0.2.10/32": "store",
    "192.0.2.20/32": "identity",
    "192.0.2.30/32": "Kubernetes",
    "kubeflow": "KFP",
    "mlflow": "MLflow",
    "rank": "ranks",
}
SELF_CONTAINED = {"kube-system": "names", "seaweedfs": "store", "mlflow": "MLflow", "kubeflow": "KFP",
                  "0.0.0.0/0": "Kubernetes"}  # fmt: skip


def stage_pods(objects: list[Object]) -> Pod:
    """The pods of the runs, which KFP makes with the labels of the platform's file."""
    import yaml

    cluster = yaml.safe_load(named(objects, "ConfigMap", "sskd-files")["data"]["cluster.yaml"])
    return Pod("KFP/stage", cluster["labels"], {})


def policies_of(pod: Pod, objects: list[Object]) -> list[Object]:
    return [item for item in of_kind(objects, "NetworkPolicy") if selects(item["spec"]["podSelector"], pod.labels)]


@pytest.mark.parametrize("name", SETS)
def test_each_pod_is_denied_everything_and_then_allowed_its_own(name: str, objects: dict[str, list[Object]]):
    for pod in [*pods(objects[name]), stage_pods(objects[name])]:
        found = policies_of(pod, objects[name])
        deny = [item for item in found if not item["spec"].get("ingress") and not item["spec"].get("egress")]
        assert "sskd-default-deny" in {item["metadata"]["name"] for item in deny}, pod.owner
        assert {item["metadata"]["name"] for item in found} == {"sskd-default-deny", f"sskd-{pod.component}"}
        for item in found:
            assert item["spec"]["policyTypes"] == ["Ingress", "Egress"]
            assert all(rule.get("to") for rule in item["spec"].get("egress", [])), "a rule without peers lets all out"
            assert all(rule.get("from") for rule in item["spec"].get("ingress", [])), "a rule without peers lets all in"


def reached(objects: list[Object], component: str, names: dict[str, str]) -> dict[str, set[int]]:
    """Return what a pod may reach, in the words of the page, and on which ports."""
    found: dict[str, set[int]] = {}
    for rule in named(objects, "NetworkPolicy", f"sskd-{component}")["spec"].get("egress", []):
        for peer in rule["to"]:
            where = names.get(place(peer))
            if where is not None:
                found.setdefault(where, set()).update(port["port"] for port in rule.get("ports", []))
    return found


def place(peer: Object) -> str:
    match peer:
        case {"ipBlock": {"cidr": cidr}}:
            return str(cidr)
        case {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space}}}:
            return str(space)
        case {"podSelector": {"matchLabels": {"app.kubernetes.io/component": component}}}:
            return str(component)
    raise AssertionError(f"a peer that the tests do not know: {peer}")


def table() -> dict[str, dict[str, str]]:
    """Return the page's table: pod -> what it may reach -> condition."""
    section = PAGE.split("## What each pod may reach")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
    heads = rows[0]
    return {row[0].strip("`"): dict(zip(heads[1:], row[1:], strict=True)) for row in rows[2:] if len(row) == len(heads)}


@pytest.mark.parametrize("component", ["stage", "rank", "retrain", "doctor", "mlflow", "seaweedfs"])
def test_the_page_s_table_is_what_the_policies_say(component: str, objects: dict[str, list[Object]]):
    row = table()[component]
    said = {word for word, cell in row.items() if cell != "-"}
    if component == "seaweedfs":
        assert said == set() == set(reached(objects["self-contained"], component, SELF_CONTAINED))
        return
    found = set(reached(objects["locked-down"], component, LOCKED_DOWN))
    assert found == said - {"hub"}, component


def test_ports_are_those_of_the_services(objects: dict[str, list[Object]]):
    assert reached(objects["self-contained"], "stage", SELF_CONTAINED) == {
        "names": {53},
        "store": {8333},
        "MLflow": {5000},
        "KFP": {8887, 8888, 8080, 8333, 9000},
        "Kubernetes": {443, 6443},
    }
    assert reached(objects["locked-down"], "retrain", LOCKED_DOWN)["KFP"] == {8888}, "its API and no more"
    inside = {"kube-system": "names", "storage": "store", "tracking": "MLflow"}
    assert reached(objects["several-nodes"], "rank", inside) == {"names": {53}, "store": {9000}, "MLflow": {8080}}
    rules = named(objects["retrain"], "NetworkPolicy", "sskd-retrain")["spec"]["egress"]
    assert [[port["port"] for port in rule["ports"]] for rule in rules] == [[53, 53], [443], [8443]]


def test_only_clients_get_in(objects: dict[str, list[Object]]):
    store = named(objects["self-contained"], "NetworkPolicy", "sskd-seaweedfs")["spec"]["ingress"]
    assert [[place(peer) for peer in rule["from"]] for rule in store] == [["doctor", "stage", "mlflow"]]
    assert [port["port"] for rule in store for port in rule["ports"]] == [8333]
    server = named(objects["locked-down"], "NetworkPolicy", "sskd-mlflow")["spec"]["ingress"]
    assert [[place(peer) for peer in rule["from"]] for rule in server] == [
        ["doctor", "rank", "retrain", "stage", "ingress"]
    ]
    for name in SETS:
        for component in ("stage", "doctor"):
            assert "ingress" not in named(objects[name], "NetworkPolicy", f"sskd-{component}")["spec"]


def test_nothing_reaches_every_address_when_that_is_forbidden(texts: dict[str, str]):
    assert not re.search(r"0\.0\.0\.0/0|::/0", texts["locked-down"])
