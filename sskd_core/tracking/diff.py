"""What sets two registered versions apart: figures, images, labels, settings, code, licences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sskd_core.tracking.lineage import Lineage, Step


def difference(first: Lineage, second: Lineage) -> dict[str, Any]:
    """Compare two versions.

    Args:
        first: the older one, say.
        second: the other.

    Returns:
        JSON-ready: `first` and `second` name them; `figures`, `images`, `labels`, `settings`, `licences` and `code`
        hold, for each item that differs, the values of both; null where one has none.
    """
    facts = [_facts(lineage.steps) for lineage in (first, second)]
    return {
        "first": f"{first.name} version {first.version}",
        "second": f"{second.name} version {second.version}",
        **{key: _differing(facts[0][key], facts[1][key]) for key in facts[0]},
    }


def _facts(steps: Iterable[Step]) -> dict[str, dict[str, Any]]:
    newest: dict[str, Step] = {}
    for step in steps:  # the model's own stages come before those of the model that it went on from
        newest.setdefault(step.stage, step)
    figures = {f"{step.stage}: {name}": value for step in newest.values() for name, value in step.metrics.items()}
    counts: Mapping[str, Any] = newest["prepare"].facts["counts"] if "prepare" in newest else {}
    labels = newest.get("pseudo_label")
    return {
        "figures": {name: value for name, value in figures.items() if name.startswith(("evaluate: ", "export_onnx: "))},
        "images": {split: item["images"] for split, item in counts.items()},
        "labels": {} if labels is None else {"shards": labels.facts["shards"], **labels.metrics},
        "settings": {key: value for step in newest.values() for key, value in _flat(step.config, step.stage)},
        "licences": {licence: True for step in newest.values() for licence in step.licences},
        "code": {stage: step.code_digest for stage, step in newest.items()},
    }


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = dict.fromkeys((*first, *second))
    return {name: [first.get(name), second.get(name)] for name in names if first.get(name) != second.get(name)}


def _flat(values: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}", value
