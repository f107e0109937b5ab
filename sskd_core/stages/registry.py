"""Which module does the work of which stage. Modules are named, not imported, so that no stage pays for another's
imports.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from sskd_core.config.graph import GRAPHS, Method, Node, node


@dataclass(frozen=True)
class Implementation:
    """The code behind a stage.

    Attributes:
        module: dotted path.
        function: a `StageFunction` in it.
        uses_torch: whether thread counts must be set for torch.
        on_cached: function called with (manifest, store, tracking) when the result was found, for a stage whose effect
            reaches beyond the store.
    """

    module: str
    function: str = "run"
    uses_torch: bool = False
    on_cached: str | None = None

    def load(self) -> ModuleType:
        """Import the module."""
        return importlib.import_module(self.module)


_TRAIN = Implementation("sskd_core.stages.train", uses_torch=True)
STAGES: dict[str, Implementation] = {
    "prepare": Implementation("sskd_core.stages.prepare"),
    "adapt_teacher": _TRAIN,
    "pseudo_label": Implementation("sskd_core.stages.collect_labels"),
    "train_supervised": _TRAIN,
    "distill": _TRAIN,
    "refine": _TRAIN,
    "evaluate": Implementation("sskd_core.stages.evaluate", uses_torch=True),
    "export_onnx": Implementation("sskd_core.stages.export_onnx", uses_torch=True),
    "register": Implementation("sskd_core.stages.register", on_cached="on_cached"),
    "report": Implementation("sskd_core.stages.report"),
}
WORKERS: dict[str, Implementation] = {
    "pseudo_label": Implementation("sskd_core.stages.pseudo_label", "run_worker", uses_torch=True),
}
REPORT = "report"
"""The last place of every pipeline: it reads all manifests, changes nothing, and is drawn anew by every run."""


def find_node(name: str, method: Method) -> Node:
    """Return the node of a method that is called `name`, the report included.

    Raises:
        ConfigError: there is none.
    """
    if name == REPORT:
        return Node(REPORT, REPORT, {item.name: item.name for item in GRAPHS[method]})
    return node(name, method)


def implementation(stage: str, worker: bool) -> Implementation:
    """Return the code of a stage, or of one of its workers."""
    return (WORKERS if worker else STAGES)[stage]
