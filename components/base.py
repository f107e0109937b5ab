"""What all components share: one image, nothing installed when a task starts, and no shell.

A task starts `python3 -m components.execute`, which finds its component in the image: the pipeline carries no code, and
a signal reaches the stage, with no shell in between.
"""

import inspect
import os
from collections.abc import Callable, Iterable
from typing import Any, Literal

from kfp import dsl

from sskd_core.config.parameters import Parameter

IMAGE_VARIABLE = "SSKD_IMAGE"
DEFAULT_IMAGE = "sskd:0.1.0"
_EXECUTOR = "kfp.dsl.executor_main"
_MEANINGS = {
    "experiment": "The experiment as JSON text, from `configure`.",
    "data": "Manifest of `prepare`.",
    "student": "Manifest of the student.",
    "teacher": "Manifest of the teacher that labels.",
    "method": "Method of the pipeline.",
    "labels": "Manifest of the collected pseudo-labels.",
    "adapted_teacher": "Manifest of the teacher.",
    "supervised_student": "Manifest of the student that saw labels alone.",
    "distilled_student": "Manifest of the distilled student.",
    "refined_student": "Manifest of the refined student.",
    "evaluation": "Manifest of `evaluate`.",
    "onnx": "Manifest of `export_onnx`.",
    "node": "Place in the pipeline: `pseudo_label` or `relabel`.",
    "worker": "Number of this worker, from 0.",
    "workers": "Manifests of the workers, which it waits for.",
}
"""What an input of this name is, in every component that does not say so itself."""
_RESULTS = {
    "manifest": "The new manifest: a pointer to results in the object store.",
    "metrics": "The figures of the manifest.",
}
"""Likewise of outputs."""


def stage_component(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a KFP component of a function that imports and runs one stage.

    The image is that of `$SSKD_IMAGE`; a pipeline that is compiled sets its own, see `pipelines.settings`.
    """
    if os.environ.get("_KFP_RUNTIME") == "true":
        # In a task, where KFP has no compiler to import and its executor wants the function alone.
        return function
    _explain(function)
    image = os.environ.get(IMAGE_VARIABLE, DEFAULT_IMAGE)
    component: Any = dsl.component(function, base_image=image, install_kfp_package=False)
    container = component.component_spec.implementation.container
    container.command = ["python3", "-m", "components.execute", _EXECUTOR]
    container.args = ["--function_to_execute", function.__name__, "--executor_input", "{{$}}"]
    made: Callable[..., Any] = component
    return made


def _explain(function: Callable[..., Any]) -> None:
    """Give the docstring a section on the inputs and one on the outputs if it has none; KFP reads them from there."""
    text = inspect.getdoc(function) or ""
    if "\nArgs:\n" not in text:
        names = inspect.signature(function).parameters
        told = [
            "\n".join([title, *(f"    {name}: {meanings[name]}" for name in names if name in meanings)])
            for title, meanings in (("Args:", _MEANINGS), ("Returns:", _RESULTS))
        ]
        function.__doc__ = "\n\n".join([text, *told])


def with_form(
    form: Iterable[Parameter], ask: Literal["filled_in", "all", "some"]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put the fields of a form in front of a function's own parameters, in its signature and in its docstring.

    Args:
        form: the fields.
        ask: `filled_in` with the defaults, for a pipeline; `all` for a component that a pipeline passes every field to;
            `some` for one that a pipeline passes its own to.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        fields = list(form)
        signature = inspect.signature(function, eval_str=True)
        own = [item for item in signature.parameters.values() if item.kind is not inspect.Parameter.VAR_KEYWORD]
        asked = [
            inspect.Parameter(
                item.name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=item.type,
                default=_default(item, ask),
            )
            for item in fields
        ]
        keyword_only = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in own]
        parameters = sorted([*asked, *keyword_only], key=lambda item: item.default is not inspect.Parameter.empty)
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        meanings = "\n".join(f"    {item.name}: {item.meaning}" for item in fields)
        head, _, rest = (inspect.getdoc(function) or "").partition("\nArgs:\n")
        function.__doc__ = f"{head}\nArgs:\n{meanings}\n{rest}"
        return function

    return decorate


def present(**inputs: Any) -> dict[str, str]:
    """Return the files of those input artifacts that a component was given.

    Args:
        inputs: by name; None for an optional one that the pipeline does not have.
    """
    return {name: item.path for name, item in inputs.items() if item is not None}


def _default(item: Parameter, ask: str) -> Any:
    if ask == "some":
        return None
    return inspect.Parameter.empty if ask == "all" or item.default is None else item.type(item.default)
