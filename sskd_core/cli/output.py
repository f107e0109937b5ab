"""Printing: answers go to standard output, everything else to standard error."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from sskd_core.errors import UserError

MAX_PROBLEMS = 50


def answers() -> Console:
    """Return the console for answers."""
    return Console(highlight=False)


def messages() -> Console:
    """Return the console for progress and messages."""
    return Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def show_started(answer: dict[str, Any], as_json: bool) -> None:
    """Print the id of a run, or of a recurring one, and the page that shows it."""
    if as_json:
        print_json(answer)
    else:
        print(f"{answer.get('run') or answer['recurring_run']}  {answer['page']}")


def print_problems(problems: list[str]) -> None:
    """Print one line a problem to standard error, and how many were left out."""
    for line in problems[:MAX_PROBLEMS]:
        print(f"error: {line}", file=sys.stderr)
    if len(problems) > MAX_PROBLEMS:
        print(f"error: and {len(problems) - MAX_PROBLEMS} more", file=sys.stderr)


def write_text(path: Path, text: str) -> None:
    """Write a file that a person asked for.

    Raises:
        UserError: it cannot be written there.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
