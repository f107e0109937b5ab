"""What is known about an embedded store between commands: its process, its ports, its credentials.

All of it lies in one folder. The credentials are random, made once, in a file that only its owner can read; they never
enter a configuration.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pydantic import ValidationError

from sskd_core.config.base import StrictModel
from sskd_core.config.storage import StorageConfig
from sskd_core.errors import StorageError

BUCKET = "sskd"
ROOT = f"s3://{BUCKET}/default"
HOST = "127.0.0.1"


class Ports(StrictModel):
    """The loopback ports of the parts of SeaweedFS; the admin part's RPC port is fixed by its own."""

    s3: int
    s3_grpc: int
    master: int
    master_grpc: int
    volume: int
    volume_grpc: int
    filer: int
    filer_grpc: int
    admin: int

    @property
    def admin_grpc(self) -> int:
        """SeaweedFS's worker looks for it here, whatever the flags say."""
        return self.admin + 10_000

    def all(self) -> list[int]:
        """Return every port."""
        return [*self.model_dump().values(), self.admin_grpc]


class Credentials(StrictModel):
    """The key pair of the store's only user."""

    access_key: str
    secret_key: str

    def environment(self) -> dict[str, str]:
        """Return the environment variables that boto3 and the server read."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}


class ServiceState(StrictModel):
    """One embedded store, running or not.

    Attributes:
        pid: its process.
        started: when that process began, seconds since the epoch; tells it from a later one with the same id.
        ports: kept over restarts while they are free, so that recorded addresses stay valid.
        kept: started by `up`, so that only `down` stops it.
        directory: the folder of data, log, credentials and this record.
    """

    pid: int
    started: float
    ports: Ports
    kept: bool
    directory: str

    @property
    def endpoint_url(self) -> str:
        """The S3 endpoint."""
        return f"http://{HOST}:{self.ports.s3}"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return log_file(Path(self.directory))

    def storage_config(self) -> StorageConfig:
        """Return the configuration that reaches the store, given its credentials in the environment."""
        return StorageConfig(root=ROOT, endpoint_url=self.endpoint_url, addressing_style="path")


def data_folder(directory: Path) -> Path:
    """Return where the server keeps its volumes."""
    return directory / "data"


def log_file(directory: Path) -> Path:
    """Return where the server's output goes."""
    return directory / "seaweedfs.log"


def load_state(directory: Path) -> ServiceState | None:
    """Return the last record, which may be of a process that is gone; None without a readable one."""
    try:
        state = ServiceState.model_validate_json((directory / "state.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    # A copied folder brings the record of the original's process along.
    return state if state.directory == str(directory) else None


def save_state(directory: Path, state: ServiceState) -> None:
    """Write the record."""
    _write(directory / "state.json", state)


def credentials(directory: Path) -> Credentials:
    """Return the store's key pair, made on the first call."""
    path = directory / "credentials.json"
    try:
        return Credentials.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        made = Credentials(access_key=f"sskd{secrets.token_hex(8)}", secret_key=secrets.token_urlsafe(32))
        _write(path, made)
        return made


def _write(path: Path, record: StrictModel) -> None:
    """Replace a file by an atomic rename, readable by its owner alone from the start."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(record.model_dump_json(indent=1))
        partial.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None
