"""The stage contract: fingerprint, look-up, work, commit.

A stage is a function that reads manifests and returns a `StageResult`. Everything around it lives here once: the
fingerprint decides where the outputs go, a manifest that is already there ends the matter, and the new manifest is
written last and only if nobody else was first.
"""

from __future__ import annotations

import datetime as dt
import logging
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sskd_core.config.base import StrictModel
from sskd_core.progress import Progress
from sskd_core.storage.digest import code_digest, digest_json
from sskd_core.storage.manifest import MEDIA_TYPE, InputRef, Manifest, ObjectRef, fingerprint
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.run import TrackingRun

log = logging.getLogger(__name__)


@dataclass
class StageResult:
    """What a stage hands to the commit.

    Attributes:
        outputs: objects that it has already written below `StageContext.prefix`.
        metrics: finite figures.
        facts: small JSON values for whoever reads the manifest.
        licences: of data and weights that entered here; those of the inputs are added by the contract.
        cleanup: removes what only an unfinished stage needs; called once the manifest stands.
    """

    outputs: list[ObjectRef]
    metrics: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    licences: list[str] = field(default_factory=list)
    cleanup: Callable[[], None] | None = None


@dataclass
class StageContext:
    """What a stage may touch.

    Attributes:
        store: the object store.
        run: the MLflow run of this stage; a null object when tracking is off.
        progress: the progress of this node.
        prefix: the `s3://` prefix of this fingerprint, without a slash at the end; all outputs go below it.
        workdir: scratch folder on the local disk, empty at the start.
        fingerprint: the identity of the result.
    """

    store: ObjectStore
    run: TrackingRun
    progress: Progress
    prefix: str
    workdir: Path
    fingerprint: str


StageFunction = Callable[[Any, Mapping[str, Manifest], StageContext], StageResult]


def stage_fingerprint(stage: str, config: StrictModel, inputs: Mapping[str, Manifest]) -> str:
    """Return the identity of the result of `stage` with `config` on `inputs`."""
    return fingerprint(
        stage,
        config.fingerprint_dict(),
        {key: item.fingerprint for key, item in inputs.items()},
        code_digest(),
    )


def stage_prefix(store: ObjectStore, stage: str, identity: str) -> str:
    """Return the prefix below which the outputs of a fingerprint live."""
    return f"{store.root}/stages/{stage}/{identity.removeprefix('sha256:')[:32]}"


def find(store: ObjectStore, stage: str, identity: str) -> Manifest | None:
    """Return the committed manifest of a fingerprint, or None."""
    data = store.get_if_exists(f"{stage_prefix(store, stage, identity)}/manifest.json")
    return None if data is None else Manifest.model_validate_json(data)


def execute(
    stage: str,
    function: StageFunction,
    config: StrictModel,
    inputs: Mapping[str, Manifest],
    context: StageContext,
    part: str | None = None,
    reuse: bool = True,
) -> Manifest:
    """Run a stage unless its result exists, and commit.

    Args:
        stage: stage name, the folder of its results.
        function: the work.
        config: the stage's configuration.
        inputs: manifests by input name.
        context: as the stage will see it; `prefix` and `fingerprint` must be those of `stage_fingerprint`.
        part: for one task of several that share a fingerprint, such as `workers/0-of-2`: its manifest goes to
            `{prefix}/{part}.json` and does not finish the stage.
        reuse: look for an earlier result first; without it the work is done anew and its manifest replaces one that
            is there.

    Returns:
        The committed manifest: the one found, the one written, or the one of a concurrent twin that was first.

    Raises:
        UserError: the stage refused its configuration or its inputs; nothing was committed.
        Interrupted: SIGTERM arrived; run again to go on.
    """
    existing = find(context.store, stage, context.fingerprint) if reuse else None
    if existing is not None:
        return existing
    began = time.monotonic()
    result = function(config, inputs, context)
    manifest = _manifest(stage, config, inputs, context, result, time.monotonic() - began)
    if part is not None:
        own = {"stage": f"{stage}_worker", "uri": f"{context.prefix}/{part}.json"}
        manifest = manifest.model_copy(update=own)
    if reuse:
        manifest = commit(context.store, manifest)
    else:
        context.store.put(manifest.uri, manifest.to_bytes(), MEDIA_TYPE)
    if result.cleanup is not None:
        result.cleanup()
    return manifest


def commit(store: ObjectStore, manifest: Manifest) -> Manifest:
    """Write the manifest unless a twin was first; return the one that stands."""
    if store.put_if_absent(manifest.uri, manifest.to_bytes(), MEDIA_TYPE):
        return manifest
    log.info("%s was committed by a concurrent run; its manifest stands", manifest.uri)
    return Manifest.model_validate_json(store.get(manifest.uri))


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process and its finished children in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    usage = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return max(usage) * unit / 2**20


def _manifest(
    stage: str,
    config: StrictModel,
    inputs: Mapping[str, Manifest],
    context: StageContext,
    result: StageResult,
    seconds: float,
) -> Manifest:
    inherited = {licence for item in inputs.values() for licence in item.licences}
    facts = {**result.facts, "seconds": round(seconds, 3), "peak_memory_mb": round(peak_memory_mb(), 1)}
    values = config.fingerprint_dict()
    return Manifest(
        stage=stage,
        fingerprint=context.fingerprint,
        inputs={key: InputRef(uri=item.uri, digest=item.digest) for key, item in inputs.items()},
        outputs=result.outputs,
        metrics=result.metrics,
        facts=facts,
        config=values,
        config_digest=digest_json(values),
        code_digest=code_digest(),
        seed=values.get("seed"),
        licences=sorted(inherited | set(result.licences)),
        run_id=context.run.run_id,
        created=dt.datetime.now(dt.UTC),
        uri=f"{context.prefix}/manifest.json",
    )
