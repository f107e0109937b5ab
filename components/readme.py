"""Writing each component's README from its interface, its docstring and its metadata: `python -m components.readme`."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import yaml
from kfp.dsl.base_component import BaseComponent

ROOT = Path(__file__).parent
FILE = "README.md"


def names() -> list[str]:
    """Return the components, each with a folder of its own."""
    return sorted(path.parent.name for path in ROOT.glob("*/component.py"))


def load(name: str) -> Any:
    """Return a component.

    Raises:
        LookupError: its module does not hold one of that name.
    """
    found = getattr(importlib.import_module(f"components.{name}.component"), name, None)
    if not isinstance(found, BaseComponent):
        raise LookupError(f"components/{name}/component.py holds no component '{name}'")
    return found


def render(name: str) -> str:
    """Return the README of a component."""
    spec = load(name).component_spec
    metadata = yaml.safe_load((ROOT / name / "metadata.yaml").read_text(encoding="utf-8"))
    needs = [f"{item['name']} {item['version']}" for item in metadata["dependencies"]["kubeflow"]]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"> Stability: {metadata['stability']}",
            "",
            spec.description or "",
            "",
            "## Inputs",
            "",
            *_inputs(spec.inputs or {}),
            "",
            "## Outputs",
            "",
            *_outputs(spec.outputs or {}),
            "",
            "## Metadata",
            "",
            f"- Name: {metadata['name']}",
            f"- Needs: {', '.join(needs)}, and an image of this project",
            f"- Tags: {', '.join(metadata['tags'])}",
            f"- Last verified: {metadata['lastVerified']:%Y-%m-%d}",
            "",
        ]
    )


def _inputs(inputs: dict[str, Any]) -> list[str]:
    rows = ["| name | type | default | what |", "|---|---|---|---|"]
    for name, item in inputs.items():
        default = f"`{item.default!r}`" if item.optional else "required"
        rows.append(f"| `{name}` | {_type(item)} | {default} | {item.description or ''} |")
    return rows


def _outputs(outputs: dict[str, Any]) -> list[str]:
    rows = ["| name | type | what |", "|---|---|---|"]
    return rows + [f"| `{name}` | {_type(item)} | {item.description or ''} |" for name, item in outputs.items()]


def _type(item: Any) -> str:
    name = str(item.type).removeprefix("system.").partition("@")[0]
    return f"list of {name}" if getattr(item, "is_artifact_list", False) else name


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or say which are out of date; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m components.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a file would change")
    options = parser.parse_args(arguments)
    stale = []
    for name in names():
        target, text = ROOT / name / FILE, render(name)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not options.check:
                target.write_text(text, encoding="utf-8")
    if stale and options.check:
        print(f"out of date: {', '.join(stale)}; run: python -m components.readme", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
