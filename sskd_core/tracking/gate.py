"""The promotion gate: rules over figures, each with a verdict and a reason. Moving the alias is the registry's."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sskd_core.config.finish import GateConfig
from sskd_core.storage.manifest import InputRef, Manifest


@dataclass(frozen=True)
class Rule:
    """One rule as it was judged.

    Attributes:
        name: of the rule.
        passed: its verdict.
        figures: the numbers that decided.
        reason: in words.
    """

    name: str
    passed: bool
    figures: dict[str, float]
    reason: str


@dataclass(frozen=True)
class GateRecord:
    """All rules of one decision."""

    rules: list[Rule]

    @property
    def passed(self) -> bool:
        """Whether every rule passed."""
        return all(rule.passed for rule in self.rules)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"passed": self.passed, "rules": [asdict(rule) for rule in self.rules]}


def judge(config: GateConfig, student: Manifest, evaluation: Manifest, onnx: Manifest) -> GateRecord:
    """Judge the refined student.

    Args:
        config: the limits, AP in points.
        student: of the `refine` stage, whose network is up for promotion.
        evaluation: of the `evaluate` stage.
        onnx: of the `export_onnx` stage, which has compared the file with PyTorch.
    """
    refined = evaluation.metrics["refined_student/mask_ap"]
    supervised = evaluation.metrics["supervised_student/mask_ap"]
    split = str(evaluation.facts["split"])
    return GateRecord(
        [
            _comparable(student, evaluation, onnx),
            _floor(config, refined, split),
            _gain(config, refined, supervised, split),
            _parity(onnx),
        ]
    )


def _comparable(student: Manifest, evaluation: Manifest, onnx: Manifest) -> Rule:
    """All figures must speak of this student and of one test set, which selection has not seen."""
    judged = InputRef(uri=student.uri, digest=student.digest)
    split = evaluation.facts["split"]
    if evaluation.inputs.get("refined_student") != judged:
        problem = "the evaluated network is not this student"
    elif onnx.inputs.get("student") != judged:
        problem = "the exported network is not this student"
    elif len({_digest(item, "data") for item in (student, evaluation, onnx)}) > 1:
        problem = "training, evaluation and export saw different data sets"
    elif split != "test":
        problem = f"the figures are of the split '{split}', on which the student was selected"
    else:
        problem = ""
    evaluator = evaluation.facts["evaluator"]
    return Rule(
        "comparable",
        not problem,
        {},
        problem or f"both students were measured on the same test split by {evaluator}, and this one was exported",
    )


def _digest(manifest: Manifest, name: str) -> str | None:
    item = manifest.inputs.get(name)
    return None if item is None else item.digest


def _floor(config: GateConfig, refined: float, split: str) -> Rule:
    passed = refined >= config.min_mask_ap
    relation = "reaches" if passed else "stays below"
    return Rule(
        "min_mask_ap",
        passed,
        {"mask_ap": refined, "limit": config.min_mask_ap},
        f"{refined:.1f} mask AP on {split} {relation} the floor of {config.min_mask_ap:.1f}",
    )


def _gain(config: GateConfig, refined: float, supervised: float, split: str) -> Rule:
    gain = refined - supervised
    passed = gain >= config.min_gain_over_supervised
    return Rule(
        "min_gain_over_supervised",
        passed,
        {"gain": gain, "limit": config.min_gain_over_supervised, "supervised_mask_ap": supervised},
        f"{gain:+.1f} mask AP on {split} over the supervised-only student, "
        f"{'at least' if passed else 'less than'} {config.min_gain_over_supervised:+.1f}",
    )


def _parity(onnx: Manifest) -> Rule:
    difference = onnx.metrics["mask_ap_difference"]
    limit = float(onnx.config["max_ap_difference"])
    passed = difference <= limit
    return Rule(
        "onnx_parity",
        passed,
        {
            "mask_ap_difference": difference,
            "limit": limit,
            "max_mask_logit_difference": onnx.metrics["max_mask_logit_difference"],
        },
        f"onnxruntime and PyTorch differ by {difference:.3f} mask AP, {'within' if passed else 'beyond'} {limit}",
    )
