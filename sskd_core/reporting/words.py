"""Figures as words: how the report writes AP, sizes, times and digests, and the sentences at its top."""

from __future__ import annotations

import datetime as dt

from sskd_core.reporting.results import MODELS, Results

_MEBI = 1 << 20
_DASH, _MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def points(value: float | None) -> str:
    """Return AP in points, `27.1`; a dash for a class that the split does not have."""
    return _DASH if value is None else f"{value:.1f}"


def signed(value: float | None) -> str:
    """Return a difference in points, `+9.3`; nothing where there is none."""
    return "" if value is None else f"{value:+.1f}".replace("-", _MINUS)


def difference(value: float | None) -> str:
    """Return a difference of logits, `1.9e-05`; None is one that is not a number."""
    return "not a number" if value is None else f"{value:.1e}"


def parameters(count: int) -> str:
    """Return a number of parameters, `0.81 M` or `45 k`."""
    return f"{count / 1e6:.2f} M" if count >= 100_000 else f"{count / 1e3:.0f} k"


def size(count: int) -> str:
    """Return a number of bytes, `3.2 MiB`."""
    return f"{count / _MEBI:.1f} MiB"


def clock(seconds: float) -> str:
    """Return hours, minutes and seconds, `0:06:52`."""
    return str(dt.timedelta(seconds=round(seconds)))


def short_digest(digest: str) -> str:
    """Return the first twelve hex digits of a digest."""
    return digest.removeprefix("sha256:")[:12]


def summary(results: Results) -> str:
    """Say in two or three sentences what came out."""
    if results.delivered is None:
        done = len(results.stages)
        return (
            f"The run has not reached its evaluation: {done} of {done + len(results.missing)} stages are finished, "
            f"the next is {results.missing[0]}."
            if results.missing
            else "The student was not evaluated."
        )
    return " ".join([_result(results, results.delivered), *_verdict(results)])


def _result(results: Results, name: str) -> str:
    student, teacher = results.models[name], results.models.get("adapted_teacher")
    share = f", {student.parameters / teacher.parameters:.0%} of its teacher's" if teacher else ""
    comparisons = [
        f"{signed(gain)} {relation}"
        for other, relation in (
            ("supervised_student", "over the same network trained on the labelled images alone"),
            ("zero_shot_teacher", "over the zero-shot teacher"),
            ("adapted_teacher", "against the adapted teacher"),
        )
        if (gain := results.gain(name, other)) is not None
    ]
    compared = f": {_listed(comparisons)}" if comparisons else ""
    return (
        f"The {MODELS[name]} ({parameters(student.parameters)} parameters{share}) reaches "
        f"{points(student.mask_ap)} mask AP on {results.split}{compared}."
    )


def _verdict(results: Results) -> list[str]:
    if results.verdict is None:
        return []
    if not results.verdict["passed"]:
        return ["The gate did not pass, so no alias moved."]
    if results.version is None:
        return ["The gate passed; tracking is off, so nothing was registered."]
    return [f"The gate passed: version {results.version} of {results.registered_model} is {results.alias}."]


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
