"""The promotion gate: rules over figures, each with a verdict and a reason. Moving the alias is `promotion`'s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sskd_core.config.gate import GateConfig
from sskd_core.storage.manifest import InputRef, Manifest
from sskd_core.tracking.candidate import Candidate

Verdict = Literal["passed", "failed", "not applicable"]


@dataclass(frozen=True)
class Rule:
    """One rule as it was judged.

    Attributes:
        name: of the rule.
        verdict: whether it passed; a rule without a limit, or without a champion to compare with, does not apply.
        reason: in words.
        figures: the numbers that decided.
    """

    name: str
    verdict: Verdict
    reason: str
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class GateRecord:
    """All rules of one decision.

    Attributes:
        rules: as judged.
        champion: the student that it was compared with; None for the first.
    """

    rules: list[Rule]
    champion: InputRef | None = None

    @property
    def passed(self) -> bool:
        """Whether no rule failed."""
        return all(rule.verdict != "failed" for rule in self.rules)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        champion = None if self.champion is None else self.champion.model_dump(mode="json")
        return {"passed": self.passed, "champion": champion, "rules": [asdict(rule) for rule in self.rules]}


def judged(name: str, passed: bool, reason: str, **figures: float) -> Rule:
    """Return a rule that applies."""
    return Rule(name, "passed" if passed else "failed", reason, figures)


def judge_alone(policy: GateConfig, candidate: Candidate) -> list[Rule]:
    """Judge a student by the rules that need no champion.

    Args:
        policy: the limits.
        candidate: the student.
    """
    rules: Sequence[Callable[[GateConfig, Candidate], Rule]] = (
        _comparable,
        _floor,
        _gain_over_supervised,
        _parity,
        _latency,
        _size,
        _label_health,
        _licences,
    )
    return [rule(policy, candidate) for rule in rules]


def _comparable(policy: GateConfig, candidate: Candidate) -> Rule:
    """All figures must speak of this student and of one test set, which selection has not seen."""
    evaluation, onnx = candidate.evaluation, candidate.onnx
    split, evaluator = evaluation.facts["split"], evaluation.facts["evaluator"]
    if evaluation.inputs.get(candidate.row) != candidate.reference:
        problem = "the evaluated network is not this student"
    elif onnx.inputs.get("student") != candidate.reference:
        problem = "the exported network is not this student"
    elif len({_data(item) for item in (candidate.student, evaluation, onnx)}) > 1:
        problem = "training, evaluation and export saw different data sets"
    elif split != "test":
        problem = f"the figures are of the split '{split}', on which the student was selected"
    else:
        problem = ""
    reason = f"both students were measured on the same test split by {evaluator}, and this one was exported"
    return judged("comparable", not problem, problem or reason)


def _data(manifest: Manifest) -> str | None:
    item = manifest.inputs.get("data")
    return None if item is None else item.digest


def _floor(policy: GateConfig, candidate: Candidate) -> Rule:
    found, split = _ap(candidate, candidate.row), candidate.evaluation.facts["split"]
    passed = found >= policy.min_mask_ap
    relation = "reaches" if passed else "stays below"
    reason = f"{found:.1f} mask AP on {split} {relation} the floor of {policy.min_mask_ap:.1f}"
    return judged("min_mask_ap", passed, reason, mask_ap=found, limit=policy.min_mask_ap)


def _gain_over_supervised(policy: GateConfig, candidate: Candidate) -> Rule:
    baseline, limit = _ap(candidate, "supervised_student"), policy.min_gain_over_supervised
    gain = _ap(candidate, candidate.row) - baseline
    passed = gain >= limit
    reason = (
        f"{gain:+.1f} mask AP on {candidate.evaluation.facts['split']} over the supervised-only student, "
        f"{'at least' if passed else 'less than'} {limit:+.1f}"
    )
    return judged("min_gain_over_supervised", passed, reason, gain=gain, limit=limit, supervised_mask_ap=baseline)


def _ap(candidate: Candidate, model: str) -> float:
    return candidate.evaluation.metrics[f"{model}/mask_ap"]


def _parity(policy: GateConfig, candidate: Candidate) -> Rule:
    onnx = candidate.onnx
    difference, limit = onnx.metrics["mask_ap_difference"], float(onnx.config["max_ap_difference"])
    passed = difference <= limit
    return judged(
        "onnx_parity",
        passed,
        f"onnxruntime and PyTorch differ by {difference:.3f} mask AP, {'within' if passed else 'beyond'} {limit}",
        mask_ap_difference=difference,
        limit=limit,
        max_mask_logit_difference=onnx.metrics["max_mask_logit_difference"],
    )


def _latency(policy: GateConfig, candidate: Candidate) -> Rule:
    name, limit = "max_latency_ms", policy.max_latency_ms
    if limit is None:
        return _without_limit(name)
    found, provider = candidate.onnx.metrics.get(f"{policy.variant}/latency_ms_p50"), candidate.onnx.facts["provider"]
    if found is None or provider != policy.runtime:
        measured = f"'{policy.variant}' was not measured" if found is None else f"measured on {provider}"
        return judged(name, False, f"{measured}, the policy asks for {policy.variant} on {policy.runtime}", limit=limit)
    passed = found <= limit
    reason = f"{found:.1f} ms an image ({policy.variant}, {provider}), {_within(passed)} {limit:g} ms"
    return judged(name, passed, reason, latency_ms=found, limit=limit)


def _size(policy: GateConfig, candidate: Candidate) -> Rule:
    name, limit = "max_megabytes", policy.max_megabytes
    if limit is None:
        return _without_limit(name)
    size = candidate.onnx.metrics.get(f"{policy.variant}/bytes")
    if size is None:
        return judged(name, False, f"no file '{policy.variant}' was exported", limit=limit)
    passed = size / 1e6 <= limit
    reason = f"{size / 1e6:.1f} MB ({policy.variant}), {_within(passed)} {limit:g} MB"
    return judged(name, passed, reason, megabytes=size / 1e6, limit=limit)


def _label_health(policy: GateConfig, candidate: Candidate) -> Rule:
    """Judge all pseudo-labels, and those of the images that a retrain added by themselves: few spoil no average."""
    limits = {"empty_rate": policy.max_empty_rate, "class_drift": policy.max_class_drift}
    if all(limit is None for limit in limits.values()):
        return _without_limit("label_health")
    if candidate.labels is None:
        return Rule("label_health", "not applicable", "the student learned from no pseudo-labels")
    figures: dict[str, float] = {}
    problems: list[str] = []
    for prefix in ("", "new_"):
        for figure, limit in limits.items():
            found = candidate.labels.metrics.get(f"{prefix}{figure}")
            if found is not None and limit is not None:
                figures |= {f"{prefix}{figure}": found, f"max_{figure}": limit}
                if found > limit:
                    problems.append(f"{prefix}{figure} {found:.2f} is above {limit:g}")
    told = ", ".join(f"{key} {value:.2f}" for key, value in figures.items() if not key.startswith("max_"))
    return judged("label_health", not problems, "; ".join(problems) or f"pseudo-labels: {told}", **figures)


def _licences(policy: GateConfig, candidate: Candidate) -> Rule:
    if policy.licences is None:
        return _without_limit("licences")
    refused = [item for item in candidate.onnx.licences if item not in policy.licences]
    listed = ", ".join(candidate.onnx.licences) or "none"
    reason = f"not allowed: {', '.join(refused)}" if refused else f"all allowed: {listed}"
    return judged("licences", not refused, reason, refused=len(refused))


def _without_limit(name: str) -> Rule:
    return Rule(name, "not applicable", "the policy sets no limit")


def _within(passed: bool) -> str:
    return "within" if passed else "more than"
