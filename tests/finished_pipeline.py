"""The manifests of a pipeline that has come as far as the export, in a real store, with figures of one's choice."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

from sskd_core.config.graph import SSKD
from sskd_core.evaluation.instance_ap import InstanceAP
from sskd_core.evaluation.matches import ClassMatches, encode_matches
from sskd_core.export.contract import Contract
from sskd_core.export.latency import Latency
from sskd_core.export.parity import Parity
from sskd_core.export.table import describe, rows
from sskd_core.storage.digest import canonical_json, digest_json
from sskd_core.storage.manifest import MEDIA_TYPE, InputRef, Manifest, ObjectRef
from sskd_core.storage.store import ObjectStore

CLASSES = ["disc", "box"]
MODEL = {
    "family": "mask2former",
    "weights": "builtin:base",
    "encoder_weights": None,
    "weights_digest": None,
    "input": {"height": 32, "width": 64},
}
TRAIN = {"strategy": "supervised", "iterations": 100, "labeled_batch": 8, "unlabeled_batch": 0}
EVALUATOR = "hotcoco 1.3.0"
PARITY = Parity(1e-5, 2e-6, 40.0, 39.99)
TEST_IMAGES = 100
COUNTS = {"unlabeled": {"images": 60}, "labeled": {"images": 4}, "val": {"images": 2}, "test": {"images": 2}}


def found_on(share: float) -> bytes:
    """Return match records of a model that finds the one object of that many percent of the images."""
    hit, miss = ClassMatches(0, 1, [0.9], [0b11_1111_1111], [0]), ClassMatches(0, 1)
    return encode_matches({f"{number}.png": [hit if number < share else miss] for number in range(TEST_IMAGES)})


def tiny_onnx(scale: float = 2.0) -> bytes:
    """Return a network that multiplies `pixels` [batch, 3] by a number."""
    weights = helper.make_tensor("scale", TensorProto.FLOAT, [], [scale])
    graph = helper.make_graph(
        [helper.make_node("Mul", ["pixels", "scale"], ["logits"])],
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    helper.set_model_props(model, Contract(CLASSES, ["#ff0000", "#00ff00"], 1, 1, [0.0] * 3, [1.0] * 3).to_metadata())
    return bytes(model.SerializeToString())


def evaluation_document(refined: float, supervised: float) -> bytes:
    """Return the `evaluation` output with the figures of two students."""

    def figures(mask_ap: float) -> dict[str, Any]:
        per_class = {"disc": mask_ap + 5, "box": mask_ap - 5}
        return {**InstanceAP(mask_ap, 60.0, 35.0, per_class, EVALUATOR, 2).to_dict(), "parameters": 830_000}

    models = {"refined_student": figures(refined), "supervised_student": figures(supervised)}
    return canonical_json({"split": "test", "evaluator": EVALUATOR, "models": models})


def failure_picture() -> bytes:
    """Return a small PNG."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 4), (200, 30, 30)).save(stream, "PNG")
    return stream.getvalue()


def pixels() -> np.ndarray:
    """Return an input of `tiny_onnx`."""
    return np.array([[1.0, 2.0, 3.0]], dtype=np.float32)


class FinishedPipeline:
    """Commits the manifests of all nodes before `register`.

    Args:
        store: where.
        refined: test mask AP of the refined student.
        supervised: that of the supervised-only student.
        name: makes another pipeline with other fingerprints.
        changes: node -> values of its manifest in place of the usual ones; inner dictionaries are laid over.
        champion: the student that the evaluation measured, too, and its mask AP.
    """

    def __init__(
        self,
        store: ObjectStore,
        refined: float = 40.0,
        supervised: float = 30.0,
        name: str = "first",
        changes: Mapping[str, Mapping[str, Any]] = {},
        champion: tuple[Manifest, float] | None = None,
    ):
        self.store, self.name = store, name
        self.manifests: dict[str, Manifest] = {}
        details = self._details(refined, supervised)
        if champion is not None:
            details["evaluate"]["files"]["matches/champion"] = found_on(champion[1])
        for node in SSKD:
            if node.name != "register":
                inputs = {key: self.manifests[source] for key, source in node.inputs.items()}
                if node.name == "evaluate" and champion is not None:
                    inputs["champion"] = champion[0]
                values = details.get(node.name, {})
                for key, value in changes.get(node.name, {}).items():
                    values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
                self.manifests[node.name] = self._commit(node.name, node.stage, inputs, **values)

    def register_inputs(self) -> dict[str, Manifest]:
        """Return what the `register` stage reads."""
        return {key: self.manifests[source] for key, source in SSKD[-1].inputs.items()}

    def _details(self, refined: float, supervised: float) -> dict[str, dict[str, Any]]:
        trained = {"metrics": {"val_mask_ap": 33.0}, "facts": {"classes": CLASSES, "device": "cpu", "seconds": 90.0}}
        teacher = {"config": {"model": {**MODEL, "licence": "Apache-2.0"}, "train": TRAIN, "seed": 0}, **trained}
        teacher |= {"licences": ["Apache-2.0"]}
        student = {"config": {"model": {**MODEL, "licence": "MIT"}, "train": TRAIN, "seed": 0}, **trained}
        labels = {"facts": {"shards": 3}, "metrics": {"instances": 120.0, "empty_rate": 0.1, "class_drift": 0.2}}
        digests = {split: digest_json(split) for split in COUNTS}
        return {
            "prepare": {
                "facts": {"classes": CLASSES, "counts": COUNTS, "digests": digests},
                "licences": ["CC-BY-4.0"],
            },
            "adapt_teacher": teacher,
            "self_train_teacher": teacher,
            "pseudo_label": labels,
            "relabel": labels,
            "distill": student,
            "refine": student,
            "evaluate": {
                "metrics": {"refined_student/mask_ap": refined, "supervised_student/mask_ap": supervised},
                "facts": {"split": "test", "evaluator": EVALUATOR, "images": TEST_IMAGES, "device": "cpu"},
                "files": {
                    "matches/refined_student": found_on(refined),
                    "evaluation": evaluation_document(refined, supervised),
                },
            },
            "export_onnx": {
                "config": {"max_ap_difference": 0.1},
                "metrics": {
                    "mask_ap_difference": 0.01,
                    "max_mask_logit_difference": 1e-5,
                    "fp32/latency_ms_p50": 12.0,
                    "fp32/bytes": 3e6,
                },
                "facts": {
                    "provider": "CPUExecutionProvider",
                    "processor": "x86_64",
                    "onnxruntime": "1.31.1",
                    "classes": CLASSES,
                    "parameters": 830_000,
                    "split": "test",
                    "variants": rows([describe("fp32", 3_000_000, PARITY, Latency(12.0, 15.0), 0.5)]),
                    "failures": [{"output": "failures/00", "image_id": "a|b.png", "f1": 0.25, "missed": 2, "wrong": 1}],
                },
                "files": {"onnx": tiny_onnx(), "failures/00": failure_picture()},
            },
        }

    def _commit(
        self, node: str, stage: str, inputs: Mapping[str, Manifest], files: Mapping[str, bytes] = {}, **values: Any
    ) -> Manifest:
        prefix = f"{self.store.root}/stages/{stage}/{self.name}-{node}"
        outputs: list[ObjectRef] = [
            self.store.put_output(name, f"{prefix}/{name}", data) for name, data in files.items()
        ]
        inherited = {licence for item in inputs.values() for licence in item.licences}
        manifest = Manifest(
            stage=stage,
            fingerprint=digest_json([self.name, node]),
            inputs={key: InputRef(uri=item.uri, digest=item.digest) for key, item in inputs.items()},
            outputs=outputs,
            config_digest=digest_json(values.get("config", {})),
            code_digest=digest_json("code"),
            run_id=f"run-of-{node}",
            created=dt.datetime(2025, 1, 1, tzinfo=dt.UTC),
            uri=f"{prefix}/manifest.json",
            **{**values, "licences": sorted(inherited | set(values.get("licences", [])))},
        )
        self.store.put(manifest.uri, manifest.to_bytes(), MEDIA_TYPE)
        return manifest
