"""Reading a compiled pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def dags(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield document["root"]["dag"]
    yield from (item["dag"] for item in document["components"].values() if "dag" in item)


def leaves(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the tasks that run a container, by the name of their place."""
    return {
        task["taskInfo"]["name"]: task | {"executor": label}
        for dag in dags(document)
        for task in dag["tasks"].values()
        if (label := document["components"][task["componentRef"]["name"]].get("executorLabel"))
    }


def graph_of(document: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return task name -> input -> name of the task that makes it."""
    tasks = inside(document, "prepare")
    by_task = {task: body["taskInfo"]["name"].removesuffix(" round") for task, body in tasks.items()}
    return {
        name: {
            key: by_task[source["taskOutputArtifact"]["producerTask"]]
            for key, source in tasks[task]["inputs"].get("artifacts", {}).items()
        }
        for task, name in by_task.items()
    }


def inside(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the tasks of the graph that holds a place."""
    return next(
        dag["tasks"] for dag in dags(document) if any(t["taskInfo"]["name"] == name for t in dag["tasks"].values())
    )
