"""The model card of a registered version: what it is, what made it, how good it is and how to use it.

Generated from manifests and from nothing else, as Markdown and as one self-contained HTML page of the same text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jinja2
from markdown_it import MarkdownIt

from sskd_core.errors import IntegrityError
from sskd_core.evaluation.delivered import delivered
from sskd_core.reporting import words
from sskd_core.reporting.html import TEMPLATES
from sskd_core.reporting.pictures import data_uri
from sskd_core.reporting.results import MODELS, Read
from sskd_core.storage.manifest import Manifest, ObjectRef

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#!~&])")


class Step(Protocol):
    """One stage behind a model, as the lineage knows it."""

    @property
    def stage(self) -> str:
        """Its name."""
        ...

    @property
    def uri(self) -> str:
        """Of its manifest."""
        ...

    @property
    def digest(self) -> str:
        """Of its manifest."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """The settings that mattered."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """What it recorded."""
        ...

    @property
    def metrics(self) -> dict[str, float]:
        """Its figures."""
        ...


@dataclass(frozen=True)
class Card:
    """A model card.

    Attributes:
        markdown: refers to the pictures as `failures/NN.png`, beside it.
        html: the same, with the pictures inside.
        pictures: the pictures by that name.
    """

    markdown: str
    html: str
    pictures: dict[str, bytes]


def render_card(name: str, inputs: Mapping[str, Manifest], steps: Sequence[Step], read: Read) -> Card:
    """Render the card.

    Args:
        name: of the registered model.
        inputs: the manifests that the version is registered from: `data`, `student`, `evaluation`, `onnx`.
        steps: every stage behind them, each before those that it read.
        read: returns the verified bytes of an output.

    Raises:
        IntegrityError: a manifest or an output is not what its stage writes.
    """
    onnx = inputs["onnx"]
    try:
        values = _values(name, inputs, steps, read)
        markdown = _environment().get_template("card.md.j2").render(values)
        refs = {item["output"]: onnx.output(item["output"]) for item in values["failures"]}
    except (KeyError, TypeError, ValueError, jinja2.UndefinedError) as error:
        raise IntegrityError(f"{onnx.uri}: no model card can be made of this run: {error!r}") from None
    return Card(
        markdown=markdown,
        html=_page(name, markdown, refs, read),
        pictures={f"{output}.png": read(ref) for output, ref in refs.items()},
    )


def _values(name: str, inputs: Mapping[str, Manifest], steps: Sequence[Step], read: Read) -> dict[str, Any]:
    student, evaluation, onnx, data = (inputs[key] for key in ("student", "evaluation", "onnx", "data"))
    document = json.loads(read(evaluation.output("evaluation")))
    models = {key: document["models"][key] for key in MODELS if key in document["models"]}
    last = str(delivered(models))
    training = [step for step in reversed(steps) if "train" in step.config]
    return {
        "name": name,
        "student": student.config["model"],
        "parameters": onnx.facts["parameters"],
        "classes": onnx.facts["classes"],
        "counts": data.facts["counts"],
        "licences": onnx.licences,
        "training": training,
        "labels": [step for step in reversed(steps) if step.stage == "pseudo_label"],
        "split": document["split"],
        "images": evaluation.facts["images"],
        "evaluator": document["evaluator"],
        "device": evaluation.facts["device"],
        "models": {MODELS[key]: figures for key, figures in models.items()},
        "delivered": MODELS[last],
        "per_class": models[last]["per_class"],
        "variants": onnx.facts["variants"],
        "onnx": onnx.facts,
        "failures": onnx.facts["failures"],
        "costs": _costs(steps),
        "origins": [(key, inputs[key].uri, inputs[key].digest) for key in ("data", "student", "evaluation", "onnx")],
    }


def _costs(steps: Sequence[Step]) -> dict[str, float]:
    """Return the hours of every stage by the device it ran on; a stage that trains no network runs on the CPU."""
    hours: dict[str, float] = {}
    for step in steps:
        seconds = float(step.facts.get("seconds", 0.0)) + float(step.facts.get("worker_seconds", 0.0))
        device = str(step.facts.get("device", "cpu"))
        hours[device] = hours.get(device, 0.0) + seconds / 3600
    return hours


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=False,  # noqa: S701  Markdown; `plain` escapes what comes from outside, and the page allows no HTML
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = (words.points, words.parameters, words.size, words.difference)
    environment.filters |= {function.__name__: function for function in formats}
    environment.filters |= {"plain": _plain}
    return environment


def _plain(value: object) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def _page(name: str, markdown: str, pictures: Mapping[str, ObjectRef], read: Read) -> str:
    """Turn the Markdown into a page that asks nobody for anything."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    for output, ref in pictures.items():
        body = body.replace(f'src="{output}.png"', f'src="{data_uri(ref, read)}"')
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("card.html.j2").render(name=name, body=body)
