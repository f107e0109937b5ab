"""The rules of the gate that need a champion: the same test images, the same evaluator, a gain that is no luck."""

from __future__ import annotations

from sskd_core.config.gate import GateConfig
from sskd_core.errors import UserError
from sskd_core.evaluation.bootstrap import PairedGain, paired_gain
from sskd_core.evaluation.matches import SplitMatches
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.candidate import CHAMPION, Candidate
from sskd_core.tracking.gate import GateRecord, Rule, judge_alone, judged

SAME, GAIN, CLASS_DROP = "same_test_and_evaluator", "min_gain_over_champion", "max_class_drop"


def judge(policy: GateConfig, challenger: Candidate, champion: Candidate | None, store: ObjectStore) -> GateRecord:
    """Judge a challenger by every rule of the policy.

    Args:
        policy: the limits.
        challenger: who wants the alias.
        champion: who has it; None for the first model, to which these rules do not apply.
        store: where the evaluations keep what each model found.
    """
    rules = judge_alone(policy, challenger)
    if champion is None:
        reason = "there is no champion yet"
        return GateRecord([*rules, *(Rule(name, "not applicable", reason) for name in (SAME, GAIN, CLASS_DROP))])
    return GateRecord([*rules, *_against(policy, challenger, champion, store)], champion.reference)


def unreadable(policy: GateConfig, challenger: Candidate, problem: str) -> GateRecord:
    """Judge a challenger whose champion cannot be read, and therefore not be beaten."""
    unknown = Rule(GAIN, "not applicable", "the champion cannot be read")
    return GateRecord([*judge_alone(policy, challenger), judged(SAME, False, problem), unknown])


def _against(policy: GateConfig, challenger: Candidate, champion: Candidate, store: ObjectStore) -> list[Rule]:
    try:
        ours, theirs = challenger.matches(challenger.row, store), _champions_matches(challenger, champion, store)
        classes = _classes(challenger, champion)
        found = paired_gain(ours, theirs, classes, policy.resamples, policy.confidence, policy.seed)
    except UserError as error:
        reason = "the two were not measured on the same images"
        return [judged(SAME, False, str(error)), *(Rule(name, "not applicable", reason) for name in (GAIN, CLASS_DROP))]
    evaluator = challenger.evaluation.facts["evaluator"]
    same = judged(SAME, True, f"both on the same {found.images} test images by {evaluator}", images=found.images)
    return [same, _gain(policy, found), _class_drop(policy, found)]


def _champions_matches(challenger: Candidate, champion: Candidate, store: ObjectStore) -> SplitMatches:
    """Return what the champion found: as measured beside the challenger, or in its own run on an equal test split.

    Raises:
        UserError: neither is there.
    """
    if challenger.evaluation.inputs.get(CHAMPION) == champion.reference:
        return challenger.matches(CHAMPION, store)
    ours, theirs = (item.evaluation.facts["evaluator"] for item in (challenger, champion))
    if ours != theirs:
        raise UserError(f"the champion was measured by {theirs}, the challenger by {ours}; run sskd retrain")
    digests = [item.data.facts.get("digests", {}).get("test") for item in (challenger, champion)]
    if digests[0] != digests[1] or digests[0] is None:
        raise UserError(
            f"the champion's test split has digest {digests[1]}, the challenger's {digests[0]}; sskd retrain measures "
            "both on the same one"
        )
    return champion.matches(champion.row, store)


def _classes(challenger: Candidate, champion: Candidate) -> list[str]:
    ours, theirs = (list(item.student.facts["classes"]) for item in (challenger, champion))
    if ours != theirs:
        raise UserError(f"the champion knows the classes {', '.join(theirs)}, the challenger {', '.join(ours)}")
    return ours


def _gain(policy: GateConfig, found: PairedGain) -> Rule:
    limit = policy.min_gain_over_champion
    passed = found.low > limit
    reason = (
        f"{found.gain:+.2f} mask AP over the champion ({found.champion:.1f}), {found.confidence:.0%} interval "
        f"[{found.low:+.2f}, {found.high:+.2f}], {'above' if passed else 'not above'} {limit:+.2f}"
    )
    figures = {key: float(value) for key, value in found.to_dict().items() if key != "class_gains"}
    return judged(GAIN, passed, reason, limit=limit, **figures)


def _class_drop(policy: GateConfig, found: PairedGain) -> Rule:
    limit = policy.max_class_drop
    if limit is None or not found.class_gains:
        return Rule(CLASS_DROP, "not applicable", "the policy sets no limit")
    worst = min(found.class_gains, key=lambda name: found.class_gains[name])
    passed = -found.class_gains[worst] <= limit
    reason = (
        f"'{worst}' changes most for the worse: {found.class_gains[worst]:+.2f} mask AP, "
        f"{'within' if passed else 'more than'} a drop of {limit:g}"
    )
    return judged(CLASS_DROP, passed, reason, limit=limit, **found.class_gains)
