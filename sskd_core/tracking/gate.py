"""The promotion gate: rules over figures, each with a verdict and a reason. Pure; moving the alias is the registry's."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sskd_core.config.finish import GateConfig
from sskd_core.storage.manifest import Manifest


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


def judge(config: GateConfig, evaluation: Manifest, onnx: Manifest) -> GateRecord:
    """Judge the refined student.

    Args:
        config: the limits, AP in points.
        evaluation: of the `evaluate` stage.
        onnx: of the `export_onnx` stage, which has proven the file equal to PyTorch.
    """
    refined = evaluation.metrics["refined_student/mask_ap"]
    supervised = evaluation.metrics["supervised_student/mask_ap"]
    split = str(evaluation.facts["split"])
    return GateRecord([_floor(config, refined, split), _gain(config, refined, supervised, split), _parity(onnx)])


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
    return Rule(
        "onnx_parity",
        difference <= limit,
        {
            "mask_ap_difference": difference,
            "limit": limit,
            "max_mask_logit_difference": onnx.metrics["max_mask_logit_difference"],
        },
        f"onnxruntime and PyTorch differ by {difference:.3f} mask AP, the limit is {limit}",
    )
