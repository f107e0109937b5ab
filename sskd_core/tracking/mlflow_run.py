"""A stage's run in MLflow.

Whether the server answers is asked when the run opens. A fault after that does not end the stage: what could not be
written waits, the points of curves up to a bound, and is written when the server is back.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sskd_core.tracking.outbox import Outbox
from sskd_core.tracking.run import RunStatus

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)
_POINTS_A_BATCH = 1000
_PARAMS_A_BATCH = 100
_FLUSH_SECONDS = 10.0
_MAX_WAITING_POINTS = 50_000
_MAX_VALUE = 5000
_DIGEST_LENGTH = 36
_TRANSIENT = (408, 429)


class MlflowRun:
    """Writes to one MLflow run.

    Args:
        client: connected.
        run_id: an open run.
        owned: whether `close` ends the run; a run that the platform opened stays open.
        parent: our own run of the whole pipeline, which fails with this one.
        node: put into every name, for a run that several stages may share.
    """

    run_id: str | None

    def __init__(
        self, client: MlflowClient, run_id: str, owned: bool, parent: str | None = None, node: str | None = None
    ) -> None:
        self._client, self._id, self._owned, self._parent, self._node = client, run_id, owned, parent, node
        self.run_id = run_id
        self._points: deque[Metric] = deque(maxlen=_MAX_WAITING_POINTS)
        self._flushed = time.monotonic()
        self._outbox = Outbox("MLflow", is_refusal)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings. A name that is already there is kept: MLflow lets a parameter be written once."""
        from mlflow.entities import Param

        named = {self._name(key, "."): str(value)[:_MAX_VALUE] for key, value in params.items()}

        def write() -> None:
            known = self._client.get_run(self._id).data.params
            new = [Param(key, value) for key, value in named.items() if key not in known]
            for start in range(0, len(new), _PARAMS_A_BATCH):
                self._client.log_batch(self._id, params=new[start : start + _PARAMS_A_BATCH])

        self._outbox.add(write)
        self._outbox.deliver()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record finite figures; they are written in batches, the last ones by `close`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._points += [
            Metric(self._name(key, "/"), float(value), now, step or 0)
            for key, value in metrics.items()
            if math.isfinite(value)
        ]
        if len(self._points) >= _POINTS_A_BATCH or time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._flush()

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or replace tags."""
        from mlflow.entities import RunTag

        values = [RunTag(self._tag(key), value[:_MAX_VALUE]) for key, value in tags.items()]
        self._outbox.add(lambda: self._client.log_batch(self._id, tags=values))
        self._outbox.deliver()

    def log_input(self, name: str, uri: str, digest: str, context: str) -> None:
        """Record a manifest or a part of the data that was read, as a data-set input."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=name,
            digest=digest.removeprefix("sha256:")[:_DIGEST_LENGTH],
            source_type="s3",
            source=json.dumps({"uri": uri, "digest": digest}),
        )
        tagged = DatasetInput(dataset=dataset, tags=[InputTag("mlflow.data.context", context)])
        self._outbox.add(lambda: self._client.log_inputs(self._id, datasets=[tagged]))
        self._outbox.deliver()

    def close(self, status: RunStatus) -> None:
        """Write what waits and end the run if it is ours."""
        self._queue_points()
        if self._owned:
            self._outbox.add(lambda: self._client.set_terminated(self._id, status=status))
        parent = self._parent
        if parent is not None and status != "FINISHED":
            self._outbox.add(lambda: self._client.set_terminated(parent, status=status))
        self._outbox.deliver(insist=True)
        if self._outbox:
            log.warning("MLflow run %s closed while the server is away; its last records are lost", self._id)

    def _flush(self) -> None:
        self._flushed = time.monotonic()
        if not self._outbox.is_resting:
            self._queue_points()
            self._outbox.deliver()

    def _queue_points(self) -> None:
        points = list(self._points)
        self._points.clear()
        for start in range(0, len(points), _POINTS_A_BATCH):
            part = points[start : start + _POINTS_A_BATCH]
            self._outbox.add(partial(self._client.log_batch, self._id, metrics=part))

    def _name(self, key: str, separator: str) -> str:
        return key if self._node is None else f"{self._node}{separator}{key}"

    def _tag(self, key: str) -> str:
        return key if self._node is None else key.replace("sskd.", f"sskd.{self._node}.", 1)


def is_refusal(error: Exception) -> bool:
    """Return whether MLflow would answer the same write in the same way again."""
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException):
        return False
    status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
    return 400 <= status < 500 and status not in _TRANSIENT
