"""A training on several machines of a Kubernetes cluster: what a platform says about them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sskd_core.config.base import StrictModel


class TrainJobConfig(StrictModel):
    """The machines of one training, as a pipeline hands them to the task that asks for them.

    What a pod is beyond its container (tolerations, volumes, security context) is in the training runtime: from release
    to release of Kubeflow Trainer, the fields by which a job changes that have other names.
    """

    machines: int = Field(ge=2, le=1024)
    gpus: int = Field(0, ge=0, description="of a machine, each with a process of its own; 0 for one process on CPUs")
    gpu_type: str = "nvidia.com/gpu"
    cpu: str
    memory: str
    image: str = Field(min_length=1)
    runtime: str = Field("torch-distributed", min_length=1, description="name of the training runtime")
    runtime_kind: Literal["ClusterTrainingRuntime", "TrainingRuntime"] = "ClusterTrainingRuntime"
    secrets: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="secret -> its key -> environment variable"
    )
    config_maps: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="ConfigMap -> its key -> environment variable"
    )

    @property
    def processes(self) -> int:
        """Processes on all machines together."""
        return self.machines * max(1, self.gpus)
