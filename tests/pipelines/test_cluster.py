"""The platform's file: strict, and no image by tag unless one insists."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cluster import ClusterConfig, load_cluster
from sskd_core.errors import ConfigError

DIGEST = "sha256:" + "a" * 64


def written(folder: Path, text: str) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(text)
    return path


def test_a_file_says_what_differs(tmp_path: Path):
    cluster = load_cluster(
        written(tmp_path, f"image: r/x@{DIGEST}\ngpu: {{gpus: 2}}\nnodes: {{refine: {{gpus: 1}}}}\n")
    )
    assert cluster.tier("gpu", "distill").gpus == 2
    assert cluster.tier("gpu", "refine").gpus == 1
    assert cluster.tier("gpu", "refine").shared_memory == "16Gi"
    assert cluster.by_digest


def test_an_option_wins_over_the_file(tmp_path: Path):
    path = written(tmp_path, "image: r/x:1\n")
    assert load_cluster(path, image=f"r/y@{DIGEST}").by_digest
    assert load_cluster(path, image=None).image == "r/x:1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imag: x", "unknown key 'imag'; did you mean 'image'?"),
        ("gpu: {memory: lots}", "'gpu.memory'"),
        ("light: {cpu: -1}", "'light.cpu'"),
        ("nodes: {destill: {gpus: 1}}", "no place 'destill' in the pipeline; the places are: configure, prepare"),
        ("secrets: {sskd-s3: {key: 'AWS KEY'}}", "'secrets.sskd-s3"),
        ("run_as_user: 0", "'run_as_user'"),
        ("labels: {'a b': c}", "'labels.a b"),
        ("cache: {path: /x}", "'cache.claim'"),
        ("cache: {claim: images, path: x}", "'cache.path'"),
    ],
)
def test_a_wrong_key_is_one_line(text: str, message: str, tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        load_cluster(written(tmp_path, text))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_nodes_says_is_checked_too():
    cluster = ClusterConfig(nodes={"distill": {"gpu": 1}})
    with pytest.raises(ConfigError, match=r"nodes.distill: unknown key 'gpu'; did you mean 'gpus'"):
        cluster.tier("gpu", "distill")


@pytest.mark.parametrize("image", ["sskd", "sskd:0.1.0", "r/x@sha256:12", f"r/x@{DIGEST} "])
def test_an_image_by_tag_is_refused_with_the_reason(image: str):
    with pytest.raises(ConfigError, match=r"is not given by digest: KFP's cache .* do not see that a tag has moved"):
        ClusterConfig(image=image).require_digests()
    with pytest.raises(ConfigError, match="not given by digest"):
        ClusterConfig(image=f"r/x@{DIGEST}", cpu_image=image).require_digests()
    ClusterConfig(image=f"r/x@{DIGEST}").require_digests()


def test_several_machines_are_for_trainings_and_carry_what_a_pod_needs():
    cluster = ClusterConfig(
        image=f"r/x@{DIGEST}", nodes={"distill": {"machines": 2, "gpus": 8}}, trainer={"runtime": "sskd"}
    )
    job = cluster.train_job(cluster.tier("gpu", "distill"))
    assert job is not None
    assert (job.machines, job.gpus, job.processes, job.runtime) == (2, 8, 16, "sskd")
    assert job.secrets == cluster.secrets
    assert cluster.train_job(cluster.tier("gpu", "refine")) is None
    for wrong in (ClusterConfig(nodes={"evaluate": {"machines": 2}}), ClusterConfig(gpu={"machines": 2})):
        with pytest.raises(
            ConfigError, match="evaluate cannot run on 2 machines, as it is no training; say `machines`"
        ):
            wrong.tier("gpu", "evaluate")
