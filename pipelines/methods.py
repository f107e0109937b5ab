"""The pipeline of each method."""

from collections.abc import Callable
from typing import Any

from pipelines import guided, sskd
from pipelines.cluster import ClusterConfig
from sskd_core.config.graph import Method

BUILDERS: dict[Method, Callable[[ClusterConfig], Any]] = {"sskd": sskd.build, "guided": guided.build}
