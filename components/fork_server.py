"""Tasks of one machine that share their imports: a server imports once what tasks import, and forks for each task.

An interpreter with PyTorch, transformers and MLflow takes seconds to start, a pipeline has more than a dozen, and most
of them run one after the other. A runner that starts tasks on its own machine opens `serving`; `components.execute`
then hands its task to the server and waits for its end. The task has the arguments, environment, folder and standard
streams of the process that handed it over, and gets that one's signals.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

SOCKET_VARIABLE = "SSKD_FORK_SERVER"
"""Path of the socket on which a server takes tasks."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_STREAMS = (0, 1, 2)
_PATIENCE_SECONDS = 3.0
"""A task that runs for longer than this does work. One whose result was there ends earlier, and so do those after it:
for them nobody needs to import what takes seconds."""
_IMPORTED_FIRST = ("kfp.dsl.executor", "sskd_core.stages.component")
_IMPORTED = (
    "torch",
    "mlflow",
    "sskd_core.stages.train",
    "sskd_core.stages.pseudo_label",
    "sskd_core.stages.evaluate",
)
"""One by one, while nothing else is asked for. Not what brings threads that a fork loses, such as ONNX Runtime's: with
it a task could not end. Those of OpenBLAS and jemalloc are made for it."""
_LENGTH = 8
_STATUS = 4
_PR_SET_PDEATHSIG = 1


@contextmanager
def serving() -> Iterator[None]:
    """Let tasks that start meanwhile share their imports. Only Linux forks safely with these libraries."""
    if sys.platform != "linux":
        yield
        return
    with (
        TemporaryDirectory(prefix="sskd-") as folder,
        _opened(folder) as descriptor,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        # A socket's path has 107 characters at most, a temporary folder's may have more.
        path = f"/proc/{os.getpid()}/fd/{descriptor}/tasks"
        listener.bind(path)
        listener.listen()
        command = [sys.executable, "-m", "components.fork_server", str(listener.fileno())]
        with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listener.fileno()]) as process:
            os.environ[SOCKET_VARIABLE] = path
            try:
                yield
            finally:
                del os.environ[SOCKET_VARIABLE]
                assert process.stdin is not None
                process.stdin.close()  # The server takes it as the end.


@contextmanager
def _opened(folder: str) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def hand_over(path: str) -> int | None:
    """Let the server at `path` run this process's task.

    Returns:
        The exit code of the task; None if no server answers, and then nothing was started.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
        except OSError:
            return None
        request = json.dumps(
            {"arguments": sys.argv, "environment": dict(os.environ), "folder": str(Path.cwd())}
        ).encode()

        def forward(number: int, frame: FrameType | None) -> None:
            connection.sendall(bytes([number]))

        # Before the request they end this process, and nothing has begun.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        socket.send_fds(connection, [len(request).to_bytes(_LENGTH, "big")], list(_STREAMS))
        connection.sendall(request)
        for number in _SIGNALS:
            signal.signal(number, forward)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        status = _received(connection, _STATUS)
    if len(status) < _STATUS:
        print("the server that this machine's tasks fork from is gone; run the same command again", file=sys.stderr)
        return 1
    code = int.from_bytes(status, "big", signed=True)
    return code if code >= 0 else 128 - code


@dataclass(frozen=True)
class _Task:
    """What a process handed over, and its standard streams."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    streams: tuple[int, ...]


@dataclass
class _Running:
    """A task that has begun, and the connection to who handed it over."""

    process: int
    descriptor: int
    connection: socket.socket
    began: float = field(default_factory=time.monotonic)
    is_owned: bool = True


class _Server:
    """Forks for tasks until its standard input closes and the last of them has ended."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(0, selectors.EVENT_READ, self._close)
        self._running: list[_Running] = []
        self._is_open = True
        self._unimported = list(_IMPORTED)

    def run(self) -> _Task | None:
        """Return None at the end; in a process that was forked, return what that one is to do."""
        # They come to the whole group. The tasks are not in it: who handed one over passes them on.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        while self._is_open or self._running:
            ready = self._selector.select(self._patience())
            if not ready:
                importlib.import_module(self._unimported.pop(0))
            # One at a time: what it does can make the others stale.
            for key, _ in ready[:1]:
                task: _Task | None = key.data()
                if task is not None:
                    return task
        return None

    def _patience(self) -> float | None:
        """Return how long to wait until it is time to import what stages need; None when nothing is left to do."""
        if not self._unimported or not self._running:
            return None
        return max(0.0, self._running[0].began + _PATIENCE_SECONDS - time.monotonic())

    def _close(self) -> None:
        self._is_open = False
        self._selector.unregister(0)

    def _accept(self) -> _Task | None:
        connection, _ = self._listener.accept()
        task = _read_task(connection)
        if task is None:
            connection.close()
            return None
        server = os.getpid()
        with warnings.catch_warnings():
            # Python sees the threads of numeric libraries, which are made for a fork.
            warnings.simplefilter("ignore", DeprecationWarning)
            process = os.fork()
        if process == 0:
            self._leave(connection)
            _die_with(server)
            return task
        for stream in task.streams:
            os.close(stream)
        started = _Running(process, os.pidfd_open(process), connection)
        self._running.append(started)
        self._selector.register(started.descriptor, selectors.EVENT_READ, partial(self._end, started))
        self._selector.register(connection, selectors.EVENT_READ, partial(self._pass_on, started))
        return None

    def _end(self, ended: _Running) -> None:
        """Tell the owner of a task how it ended."""
        code = os.waitstatus_to_exitcode(os.waitpid(ended.process, 0)[1])
        self._running.remove(ended)
        self._selector.unregister(ended.descriptor)
        os.close(ended.descriptor)
        if ended.is_owned:
            self._selector.unregister(ended.connection)
            with suppress(OSError):  # It has just gone.
                ended.connection.sendall(code.to_bytes(_STATUS, "big", signed=True))
        ended.connection.close()

    def _pass_on(self, running: _Running) -> None:
        """Pass a signal on to a task. Where its owner is gone, let it save its state and end."""
        numbers = _received(running.connection, 1)
        signal.pidfd_send_signal(running.descriptor, numbers[0] if numbers else signal.SIGTERM)
        if not numbers:
            running.is_owned = False
            self._selector.unregister(running.connection)

    def _leave(self, connection: socket.socket) -> None:
        """Close, in a process that was forked, what belongs to the server."""
        self._selector.close()
        for item in (self._listener, connection, *(other.connection for other in self._running)):
            item.close()
        for other in self._running:
            os.close(other.descriptor)


def _read_task(connection: socket.socket) -> _Task | None:
    """Return what was handed over; None if its owner went away meanwhile."""
    try:
        length, streams, _, _ = socket.recv_fds(connection, _LENGTH, len(_STREAMS))
        request = _received(connection, int.from_bytes(length, "big"))
        values = json.loads(request)
    except (OSError, ValueError):
        return None
    return _Task(values["arguments"], values["environment"], values["folder"], tuple(streams))


def _received(connection: socket.socket, count: int) -> bytes:
    """Return `count` bytes, or fewer at the end of the connection."""
    data = b""
    with suppress(ConnectionError):
        while len(data) < count and (part := connection.recv(count - len(data))):
            data += part
    return data


def _die_with(server: int) -> None:
    """Leave the server's group, whose signals come through the owner, and yet be killed with the server."""
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os.kill(os.getpid(), signal.SIGKILL)


def _become(task: _Task) -> None:
    """Take the place of the process that handed the task over."""
    for target, stream in zip(_STREAMS, task.streams, strict=True):
        os.dup2(stream, target)
        os.close(stream)
    os.environ.clear()
    os.environ.update(task.environment)
    os.chdir(task.folder)
    sys.argv = task.arguments
    random.seed()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def main() -> None:
    """Serve; in a process that was forked, run its task as if this interpreter had been started for it."""
    from components import execute

    with socket.socket(fileno=int(sys.argv[1])) as listener:
        for name in _IMPORTED_FIRST:
            importlib.import_module(name)
        task = _Server(listener).run()
    if task is not None:
        _become(task)
        execute.run()


if __name__ == "__main__":
    main()
