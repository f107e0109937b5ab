"""Which of the models that were evaluated is the one that a method delivers, and which are drawn beside it."""

from __future__ import annotations

from collections.abc import Collection

STUDENTS = ("refined_student", "distilled_student")
"""Students by their name in an evaluation, the last of a method first."""


def delivered(models: Collection[str]) -> str | None:
    """Return the delivered model of an evaluation, None if no student is among its models."""
    return next((name for name in STUDENTS if name in models), None)


def drawn(models: Collection[str]) -> list[str]:
    """Return who is drawn: the teacher before and after, or else the baseline, and the delivered one."""
    teachers = [name for name in ("zero_shot_teacher", "adapted_teacher") if name in models]
    before = teachers or [name for name in ("supervised_student",) if name in models]
    last = delivered(models)
    return before if last is None else [*before, last]
