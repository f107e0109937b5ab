"""A finished run made of manifests alone, with its outputs in a dictionary, for the tests of the report."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.graph import SSKD, node
from sskd_core.labels.statistics import SCORE_BINS
from sskd_core.storage.digest import canonical_json, digest_bytes, digest_json
from sskd_core.storage.manifest import InputRef, Manifest, ObjectRef

CLASSES = ("disc", "box", "star")
AP = {
    "zero_shot_teacher": 14.7,
    "adapted_teacher": 28.9,
    "supervised_student": 17.8,
    "distilled_student": 25.2,
    "refined_student": 27.125,
}
PARAMETERS = {name: 3_215_104 if "teacher" in name else 811_776 for name in AP}
VARIANTS = [
    {
        "precision": precision,
        "bytes": size,
        "max_mask_logit_difference": difference,
        "max_class_logit_difference": difference,
        "mask_ap": 27.125 - loss,
        "mask_ap_loss": loss,
        "latency_ms_p50": milliseconds,
        "latency_ms_p95": milliseconds + 0.5,
        "delivered": loss < 0.5,
        "reason": f"loses {loss:.2f} AP",
    }
    for precision, size, difference, loss, milliseconds in (
        ("fp32", 3 << 20, 1.9e-5, 0.0, 12.0),
        ("int8_static", 1 << 20, None, 0.75, 5.0),
    )
]
TRAINED = {"adapt_teacher": 300, "self_train_teacher": 300, "train_supervised": 600, "distill": 450, "refine": 150}


def experiment(name: str = "demo", **values: Any) -> ExperimentConfig:
    """Return the smallest experiment."""
    source = {"annotations": "labeled.json", "images": "labeled"}
    train = {"unlabeled_batch": 0}
    nodes = ("adapt_teacher", "self_train_teacher", "train_supervised", "distill", "refine")
    return ExperimentConfig(
        **{
            "name": name,
            "seed": 7,
            "data": {"labeled": source, "unlabeled": ["unlabeled"]},
            "teacher": {"family": "mask2former"},
            "student": {"family": "dinov2_dpt"},
            "stages": dict.fromkeys(nodes, train),
            **values,
        }
    )


def png(width: int = 8, height: int = 6) -> bytes:
    """Return a small picture."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (40, 90, 160)).save(stream, "PNG")
    return stream.getvalue()


@dataclass
class FakeRun:
    """A run whose stages only wrote what the report reads.

    Attributes:
        classes: of the data set.
        objects: URI -> bytes.
        manifests: by node.
        reads: URIs in the order they were read.
        root: prefix of all URIs.
    """

    classes: tuple[str, ...] = CLASSES
    objects: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    root: str = "s3://bucket/sskd"

    def read(self, ref: ObjectRef) -> bytes:
        """Return the bytes of an output, as `ObjectStore.read` does."""
        self.reads.append(ref.uri)
        return self.objects[ref.uri]

    def add(
        self,
        name: str,
        outputs: Mapping[str, bytes] | None = None,
        metrics: Mapping[str, float] | None = None,
        facts: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Add the manifest of a node; it reads those of the nodes before it."""
        prefix = f"{self.root}/stages/{name}"
        number = [item.name for item in SSKD].index(name)
        sources = {key: self.manifests[source] for key, source in node(name).inputs.items() if source in self.manifests}
        self.manifests[name] = Manifest(
            stage=node(name).stage,
            fingerprint=digest_json(name),
            inputs={key: InputRef(uri=item.uri, digest=item.digest) for key, item in sources.items()},
            outputs=[self._put(key, f"{prefix}/{key}", data) for key, data in (outputs or {}).items()],
            metrics=dict(metrics or {}),
            facts={"seconds": 10.5 * (number + 1), "peak_memory_mb": 512.25 + number, **(facts or {})},
            config=dict(config or {}),
            config_digest=digest_json(config or {}),
            code_digest=digest_json("code"),
            licences=["Apache-2.0", "BSD-3-Clause"],
            created=dt.datetime(2026, 1, 2, 3, number, tzinfo=dt.UTC),
            uri=f"{prefix}/manifest.json",
        )

    def _put(self, name: str, uri: str, data: bytes) -> ObjectRef:
        self.objects[uri] = data
        return ObjectRef(name=name, uri=uri, digest=digest_bytes(data), bytes=len(data))


def finished_run(classes: tuple[str, ...] = CLASSES, **fields: Any) -> FakeRun:
    """Return a run with every stage done and the gate passed."""
    run = FakeRun(classes, **fields)
    counts = {"unlabeled": {"images": 800}}
    counts |= {split: {"images": 40, "instances": 170, "crowd_regions": 0} for split in ("labeled", "val", "test")}
    run.add("prepare", facts={"counts": counts, "class_histogram": dict.fromkeys(classes, 56)})
    _train(run, "adapt_teacher")
    _label(run, "pseudo_label", "adapt_teacher")
    _train(run, "self_train_teacher")
    _label(run, "relabel", "self_train_teacher")
    for name in ("train_supervised", "distill", "refine"):
        _train(run, name)
    _evaluate(run)
    run.add(
        "export_onnx",
        {"onnx": b"onnx"},
        {"max_mask_logit_difference": 1.9e-5, "mask_ap_pytorch": 27.1, "mask_ap_onnx": 27.1, "mask_ap_difference": 0.0},
        {"onnxruntime": "1.20.0", "provider": "CPUExecutionProvider", "processor": "x86_64", "variants": VARIANTS},
    )
    reason = "27.1 mask AP on test reaches the floor of 5.0"
    rule = {"name": "min_mask_ap", "verdict": "passed", "figures": {"mask_ap": 27.1, "limit": 5.0}, "reason": reason}
    verdict = {"passed": True, "rules": [rule]}
    named = {"registered_model": "sskd-student", "version": "3", "alias": "champion"}
    run.add("register", facts={"verdict": verdict, **named})
    return run


def _train(run: FakeRun, name: str) -> None:
    steps = range(20, TRAINED[name] + 1, 20)
    series = {
        "loss/total": [[step, 20.0 / (1 + step / 100)] for step in steps],
        "loss/sup_mask": [[step, 8.0 / (1 + step / 100)] for step in steps],
        "val/mask_ap": [[step, 10.0 + step / 30] for step in range(100, TRAINED[name] + 1, 100)],
        "grad_norm": [[step, 1.5] for step in steps],
    }
    facts = {"parameters": 1, "best_iteration": TRAINED[name] // 100 * 100}
    run.add(
        name, {"curves": json.dumps({"series": series}).encode()}, facts=facts, config={"train": {"select": "best"}}
    )


def _label(run: FakeRun, name: str, teacher: str) -> None:
    histogram = {name: 100 + 10 * number for number, name in enumerate(run.classes)}
    instances = sum(histogram.values())
    statistics = {
        "images": 800,
        "empty_images": 72,
        "empty_rate": 0.09,
        "instances": instances,
        "class_histogram": histogram,
        "score_histogram": [0] * (SCORE_BINS - 1) + [instances],
        "score_quantiles": {"0": 0.9975, "0.5": 0.9975, "1": 0.9975},
        "rejected": {"score": 1450, "area": 31},
        "best_score": 0.9981,
    }
    metrics = {"images": 800.0, "instances": float(instances), "empty_rate": 0.09, "class_drift": 0.0625}
    facts = {"labeller": run.manifests[teacher].fingerprint}
    run.add(name, {"statistics": canonical_json(statistics), "sheet": png()}, metrics, facts)


def _evaluate(run: FakeRun) -> None:
    models = {
        name: {
            "mask_ap": ap,
            "mask_ap50": ap * 1.8,
            "mask_ap75": ap * 0.9,
            "per_class": {class_name: ap + number for number, class_name in enumerate(run.classes)},
            "evaluator": "hotcoco 1.3.0",
            "images": 40,
            "parameters": PARAMETERS[name],
        }
        for name, ap in AP.items()
    }
    outputs = {"evaluation": canonical_json({"models": models}), "overlays/00": png(), "overlays/01": png(9)}
    facts = {"models": PARAMETERS, "split": "test", "images": 40, "evaluator": "hotcoco 1.3.0", "device": "cpu"}
    run.add("evaluate", outputs, facts={**facts, "versions": {"torch": "2.14.1", "transformers": "5.17.0"}})
