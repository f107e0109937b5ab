"""What a platform decides about a pipeline, once, when it compiles it: images, resources, secrets, placement.

Read from a YAML file. Nothing in it is secret: secrets and ConfigMaps are named, never quoted.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from sskd_core.config.base import StrictModel, validate
from sskd_core.config.graph import GRAPHS, TRAINING_STAGES, Node
from sskd_core.config.loading import read_mapping
from sskd_core.config.train_job import TrainJobConfig
from sskd_core.errors import ConfigError

_BY_DIGEST = re.compile(r"^[^\s@]+@sha256:[0-9a-f]{64}$")
_KUBERNETES_NAME = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_TRAININGS = list(
    dict.fromkeys(node.name for graph in GRAPHS.values() for node in graph if node.stage in TRAINING_STAGES)
)
Name = Annotated[str, Field(pattern=_KUBERNETES_NAME)]
Variable = Annotated[str, Field(pattern=_VARIABLE)]
Cpu = Annotated[str, Field(pattern=r"^([0-9]+|[0-9]*\.[0-9]+|[0-9]+m)$")]
Size = Annotated[str, Field(pattern=r"^[0-9]+(Ki|Mi|Gi|Ti|K|M|G|T)$")]
LabelKey = Annotated[str, Field(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")]


class Toleration(StrictModel):
    """As in a pod's specification."""

    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class CacheVolume(StrictModel):
    """A volume claim on which tasks keep the images that they have read."""

    claim: Name = Field(description="of a volume that tasks on several nodes can mount")
    path: str = Field("/var/cache/sskd", pattern=r"^/[A-Za-z0-9._/-]+$", description="where it is mounted")


class Tier(StrictModel):
    """What one kind of task gets."""

    cpu: Cpu = Field("1", description="limit, and request unless `cpu_request` says less")
    cpu_request: Cpu | None = None
    memory: Size = Field("4Gi", description="limit, and request unless `memory_request` says less")
    memory_request: Size | None = None
    gpus: int = Field(0, ge=0, le=64, description="of each machine")
    machines: int = Field(
        1, ge=1, le=1024, description="of a training; from 2 on the task makes a TrainJob of so many and waits for it"
    )
    shared_memory: Size = Field("1Gi", description="memory-backed /dev/shm, which counts as memory")
    scratch: Size = Field("20Gi", description="disk-backed /tmp")
    timeout_minutes: int = Field(60, ge=1, description="of the task's pod, from its start")
    retries: int = Field(2, ge=0, le=20)
    tolerations: list[Toleration] = Field(default_factory=list)
    node_affinity: dict[str, Any] = Field(default_factory=dict, description="a pod's nodeAffinity, as JSON")


def _light() -> Tier:
    return Tier(cpu="1", memory="4Gi", timeout_minutes=30)


def _cpu() -> Tier:
    return Tier(cpu="4", memory="16Gi", scratch="100Gi", timeout_minutes=720)


def _gpu() -> Tier:
    taint = Toleration(key="nvidia.com/gpu", effect="NoSchedule")
    return Tier(
        cpu="8",
        memory="64Gi",
        gpus=1,
        shared_memory="16Gi",
        scratch="100Gi",
        timeout_minutes=2880,
        retries=5,
        tolerations=[taint],
    )


class TrainerConfig(StrictModel):
    """The training runtime of Kubeflow Trainer, for trainings on several machines."""

    runtime: Name = "torch-distributed"
    kind: Literal["ClusterTrainingRuntime", "TrainingRuntime"] = "ClusterTrainingRuntime"


class ClusterConfig(StrictModel):
    """A platform's choices.

    `nodes` changes single tasks: the name of a place in the pipeline, and what of its tier is different there.
    """

    image: str = Field("sskd:0.1.0", min_length=1, description="of all tasks that have no other")
    cpu_image: str | None = Field(None, min_length=1, description="of tasks without a GPU; null for `image`")
    pull_secrets: list[Name] = Field(default_factory=list)
    secrets: dict[Name, dict[str, Variable]] = Field(
        default_factory=lambda: {"sskd-s3": {"access-key": "AWS_ACCESS_KEY_ID", "secret-key": "AWS_SECRET_ACCESS_KEY"}},
        description="secret -> its key -> environment variable",
    )
    config_maps: dict[Name, dict[str, Variable]] = Field(
        default_factory=dict, description="ConfigMap -> its key -> environment variable"
    )
    gpu_type: str = Field("nvidia.com/gpu", min_length=1, description="resource name of the GPU")
    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, description="of all tasks' pods, for network policies and quotas to select them by"
    )
    cache: CacheVolume | None = Field(None, description="shared by the tasks; null for a scratch folder of each")
    run_as_user: int | None = Field(None, ge=1, description="UID of all tasks; null leaves it to the image or platform")
    run_as_group: int | None = Field(None, ge=1, description="GID of all tasks, for the cache's volume; null likewise")
    light: Tier = Field(default_factory=_light, description="configure, collecting labels, register, report")
    cpu: Tier = Field(default_factory=_cpu, description="prepare, export_onnx")
    gpu: Tier = Field(default_factory=_gpu, description="training, labelling, evaluate")
    trainer: TrainerConfig = Field(default_factory=TrainerConfig)
    nodes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    backoff_seconds: int = Field(30, ge=1, description="before the first retry; doubled each time, up to an hour")

    @field_validator("cpu", "gpu", "light", mode="before")
    @classmethod
    def _over_defaults(cls, value: Any, info: Any) -> Any:
        """Lay a tier of the file over the tier's own defaults, so that it says only what differs."""
        if not isinstance(value, dict):
            return value
        default: Tier = cls.model_fields[info.field_name].default_factory()  # type: ignore[call-arg, misc]
        return default.model_dump() | value

    @field_validator("nodes")
    @classmethod
    def _known(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        places = (name for graph in GRAPHS.values() for node in graph for name in _places(node))
        known = list(dict.fromkeys(["configure", *places, "report"]))
        unknown = sorted(value.keys() - set(known))
        if unknown:
            raise ValueError(f"no place '{unknown[0]}' in the pipeline; the places are: {', '.join(known)}")
        return value

    @property
    def by_digest(self) -> bool:
        """Whether every image is given by digest."""
        return all(_BY_DIGEST.match(image) for image in self._images())

    def require_digests(self) -> None:
        """Refuse an image by tag.

        Raises:
            ConfigError: names it and says why.
        """
        for image in self._images():
            if not _BY_DIGEST.match(image):
                raise ConfigError(
                    f"image '{image}' is not given by digest: KFP's cache and its retries do not see that a tag has "
                    "moved, so one run can mix two versions; write NAME@sha256:…, or --allow-tag for a trial"
                )

    def tier(self, kind: str, node: str) -> Tier:
        """Return what the tasks of a place get.

        Args:
            kind: `light`, `cpu` or `gpu`.
            node: name of the place.

        Raises:
            ConfigError: what `nodes` says of it is wrong.
        """
        base: Tier = getattr(self, kind)
        found = validate(Tier, base.model_dump() | self.nodes.get(node, {}), f"cluster: nodes.{node}")
        if found.machines > 1 and node not in _TRAININGS:
            raise ConfigError(
                f"cluster: {node} cannot run on {found.machines} machines, as it is no training; say `machines` under "
                f"nodes, of: {', '.join(_TRAININGS)}"
            )
        return found

    def train_job(self, tier: Tier) -> TrainJobConfig | None:
        """Return the machines of a training that runs on several, or None."""
        if tier.machines == 1:
            return None
        return TrainJobConfig(
            machines=tier.machines,
            gpus=tier.gpus,
            gpu_type=self.gpu_type,
            cpu=tier.cpu,
            memory=tier.memory,
            image=self.image_of(tier),
            runtime=self.trainer.runtime,
            runtime_kind=self.trainer.kind,
            secrets=self.secrets,
            config_maps=self.config_maps,
        )

    def image_of(self, tier: Tier) -> str:
        """Return the image of the tasks of a tier."""
        return self.image if tier.gpus or self.cpu_image is None else self.cpu_image

    def secret_sources(self) -> dict[str, str]:
        """Return environment variable -> `secret/key`."""
        return {variable: f"{name}/{key}" for name, keys in self.secrets.items() for key, variable in keys.items()}

    def _images(self) -> list[str]:
        return [self.image, *([self.cpu_image] if self.cpu_image else [])]


def _places(node: Node) -> list[str]:
    """Return the tasks of a node as the UI names them."""
    return [f"{node.name} worker", node.name] if node.fan_out else [node.name]


def load_cluster(path: Path | None, **values: Any) -> ClusterConfig:
    """Read a cluster file.

    Args:
        path: YAML; None for the defaults.
        values: settings that win over the file's; None is none.

    Raises:
        ConfigError: one line that names the wrong key.
    """
    found = read_mapping(path) if path else {}
    chosen = {key: value for key, value in values.items() if value is not None}
    return validate(ClusterConfig, found | chosen, str(path or "cluster"))
