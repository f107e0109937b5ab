"""What the pipelines of all methods share: the form in front, the check before all stages, the report after them."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from kfp import dsl

from components.base import with_form
from components.configure.component import configure
from components.report.component import report
from pipelines.cluster import ClusterConfig
from pipelines.settings import LIGHT, placed
from sskd_core.config.parameters import LOCATING, Parameter

MANIFEST = "manifest"


class Graph:
    """Adds the stages of a method.

    Args:
        cluster: the platform's choices.
        experiment: the experiment that `configure` has checked.
        workers: numbers of the labelling workers.
    """

    def __init__(self, cluster: ClusterConfig, experiment: Any, workers: Any) -> None:
        self.cluster, self.experiment, self.workers = cluster, experiment, workers

    def add(self, component: Any, kind: str, place: str, /, cached: bool = True, **inputs: Any) -> Any:
        """Add a task and return its manifest.

        Args:
            component: of the stage.
            kind: `light`, `cpu` or `gpu`.
            place: name of the node.
            cached: whether KFP may take its result from an earlier run.
            inputs: manifests by input name.
        """
        task = component(experiment=self.experiment, **inputs)
        return placed(task, self.cluster, kind, place, cached).outputs[MANIFEST]


def method_pipeline(
    method: str,
    description: str,
    form: Iterable[Parameter],
    cluster: ClusterConfig,
    add_stages: Callable[[Graph], None],
) -> Any:
    """Return the pipeline of a method.

    Args:
        method: its name, also the pipeline's.
        description: of the pipeline, one line.
        form: the fields that a run is asked for.
        cluster: the platform's choices.
        add_stages: adds the nodes.
    """

    @with_form(form, ask="filled_in")
    def run(**values: Any) -> None:
        run_id = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        located = {item.name: values[item.name] for item in LOCATING}
        last = placed(report(run_id=run_id, **located), cluster, LIGHT, "report", cached=False)
        with dsl.ExitHandler(last, name="run"):
            first = configure(run_id=run_id, secrets=cluster.secret_sources(), method=method, **values)
            placed(first, cluster, LIGHT, "configure", cached=False)
            add_stages(Graph(cluster, first.outputs["resolved"], first.outputs["Output"]))

    # KFP reads what the fields mean from here.
    run.__doc__ = f"{description}\n{run.__doc__}"
    return dsl.pipeline(name=method, description=description)(_positional(run))


def _positional(function: Any) -> Any:
    """Let KFP, which calls a pipeline's function with values alone, call one that takes them by name."""

    @functools.wraps(function)
    def called(*values: Any) -> None:
        function(**dict(zip(inspect.signature(function).parameters, values, strict=True)))

    return called
