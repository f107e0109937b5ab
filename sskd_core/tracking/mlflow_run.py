"""A stage's run in MLflow.

The server is asked once when the run opens. Later faults must not end hours of training, so they are logged, once, and
what could not be written is dropped.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sskd_core.tracking.run import RunStatus

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)
_BATCH = 500
_FLUSH_SECONDS = 10.0
_MAX_VALUE = 5000


class MlflowRun:
    """Writes to one MLflow run.

    Args:
        client: connected.
        run_id: an open run.
        owned: whether `close` ends the run; a run that the platform opened stays open.
    """

    def __init__(self, client: MlflowClient, run_id: str, owned: bool) -> None:
        self._client, self.run_id, self._owned = client, run_id, owned
        self._buffer: list[Metric] = []
        self._flushed = time.monotonic()
        self._failed = False

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings. A name that is already there is kept: MLflow lets a parameter be written once."""
        from mlflow.entities import Param

        def write() -> None:
            known = self._client.get_run(self.run_id).data.params
            new = [Param(key, str(value)[:_MAX_VALUE]) for key, value in params.items() if key not in known]
            for start in range(0, len(new), 100):
                self._client.log_batch(self.run_id, params=new[start : start + 100])

        self._try(write)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record figures; they are written in batches, the last ones by `close`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        self._buffer += [Metric(name, float(value), now, step or 0) for name, value in finite.items()]
        if len(self._buffer) >= _BATCH or time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._flush()

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or replace tags."""
        from mlflow.entities import RunTag

        values = [RunTag(key, value[:_MAX_VALUE]) for key, value in tags.items()]
        self._try(lambda: self._client.log_batch(self.run_id, tags=values))

    def log_input(self, name: str, uri: str, digest: str, context: str) -> None:
        """Record a manifest that was read as a data-set input."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=name,
            digest=digest.removeprefix("sha256:")[:36],
            source_type="s3",
            source=f'{{"uri": "{uri}", "digest": "{digest}"}}',
        )
        tagged = DatasetInput(dataset=dataset, tags=[InputTag("mlflow.data.context", context)])
        self._try(lambda: self._client.log_inputs(self.run_id, datasets=[tagged]))

    def close(self, status: RunStatus) -> None:
        """Write what is buffered and end the run if it is ours."""
        self._flush()
        if self._owned:
            self._try(lambda: self._client.set_terminated(self.run_id, status=status))

    def _flush(self) -> None:
        waiting, self._buffer, self._flushed = self._buffer, [], time.monotonic()
        for start in range(0, len(waiting), _BATCH):
            part = waiting[start : start + _BATCH]
            self._try(lambda part=part: self._client.log_batch(self.run_id, metrics=part))  # type: ignore[misc]

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:
            if not self._failed:
                log.warning("MLflow does not take what run %s writes (%s); going on without", self.run_id, error)
            self._failed = True
