"""Putting a platform's choices on a task, with kfp and kfp-kubernetes."""

from __future__ import annotations

from typing import Any

from kfp import kubernetes

from pipelines.cluster import ClusterConfig, Tier
from sskd_core.config.storage import CACHE_VARIABLE

GPU_VARIABLE = "SSKD_GPUS"
TRAIN_JOB_VARIABLE = "SSKD_TRAIN_JOB"
LIGHT, CPU, GPU = "light", "cpu", "gpu"
_SCRATCH, _SHARED_MEMORY = "/tmp", "/dev/shm"  # noqa: S108 (mount points in the task's own pod)
_LONGEST_BACKOFF = "3600s"


def placed(task: Any, cluster: ClusterConfig, kind: str, node: str, cached: bool = True) -> Any:
    """Return a task with everything that a cluster has to know about it.

    Args:
        task: a KFP task.
        cluster: the platform's choices.
        kind: `light`, `cpu` or `gpu`.
        node: name of its place in the pipeline, also shown in the UI.
        cached: whether KFP may take its result from an earlier run. It never does for an image by tag, whose digest
            it does not see.
    """
    tier = cluster.tier(kind, node)
    several = cluster.train_job(tier)
    image = cluster.image_of(tier)
    if several is not None:
        # The task only waits for the machines, so it needs none of what they have.
        task.set_env_variable(TRAIN_JOB_VARIABLE, several.model_dump_json())
        tier = cluster.light.model_copy(update={"timeout_minutes": tier.timeout_minutes, "retries": tier.retries})
    task.set_display_name(node).set_caching_options(cached and cluster.by_digest)
    task.set_container_image(image)
    task.set_retry(tier.retries, f"{cluster.backoff_seconds}s", 2.0, _LONGEST_BACKOFF)
    _give_resources(task, cluster, tier)
    _give_environment(task, cluster)
    kubernetes.set_timeout(task, tier.timeout_minutes * 60)
    kubernetes.set_security_context(task, cluster.run_as_user, cluster.run_as_group, run_as_non_root=True)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    for key, value in cluster.labels.items():
        kubernetes.add_pod_label(task, key, value)
    if cluster.pull_secrets:
        kubernetes.set_image_pull_secrets(task, cluster.pull_secrets)
    return task


def _give_resources(task: Any, cluster: ClusterConfig, tier: Tier) -> None:
    task.set_cpu_limit(tier.cpu).set_cpu_request(tier.cpu_request or tier.cpu)
    task.set_memory_limit(tier.memory).set_memory_request(tier.memory_request or tier.memory)
    if tier.gpus:
        task.set_accelerator_type(cluster.gpu_type).set_accelerator_limit(tier.gpus)
        task.set_env_variable(GPU_VARIABLE, str(tier.gpus))
    # The root file system may be read-only, and a container's own /dev/shm is too small for loader workers.
    kubernetes.empty_dir_mount(task, "scratch", _SCRATCH, size_limit=tier.scratch)
    kubernetes.empty_dir_mount(task, "shared-memory", _SHARED_MEMORY, medium="Memory", size_limit=tier.shared_memory)
    if cluster.cache is not None:
        kubernetes.mount_pvc(task, cluster.cache.claim, cluster.cache.path)
        task.set_env_variable(CACHE_VARIABLE, cluster.cache.path)
    if tier.tolerations:
        given = [item.model_dump(exclude_none=True) for item in tier.tolerations]
        kubernetes.add_toleration_json(task, given)
    if tier.node_affinity:
        kubernetes.add_node_affinity_json(task, tier.node_affinity)


def _give_environment(task: Any, cluster: ClusterConfig) -> None:
    # Optional, so that the first task starts without them and says what is missing, instead of waiting for ever.
    for name, keys in cluster.secrets.items():
        kubernetes.use_secret_as_env(task, name, keys, optional=True)
    for name, keys in cluster.config_maps.items():
        kubernetes.use_config_map_as_env(task, name, keys, optional=True)
