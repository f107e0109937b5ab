"""Printing: answers go to standard output, everything else to standard error."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

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


def print_problems(problems: list[str]) -> None:
    """Print one line a problem to standard error, and how many were left out."""
    for line in problems[:MAX_PROBLEMS]:
        print(f"error: {line}", file=sys.stderr)
    if len(problems) > MAX_PROBLEMS:
        print(f"error: and {len(problems) - MAX_PROBLEMS} more", file=sys.stderr)
