"""Building images without a daemon: buildah with a storage of its own, on a base that debootstrap makes.

Mirror, package index and certificates are those that apt and pip of this machine are set up with.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TIMEOUT = 5400
_BASE = "localhost/base:test"
_DISK_GB = 30
_PACKAGES = "python3,python3-venv,ca-certificates"
_SETTINGS = {"index-url": "PIP_INDEX_URL", "extra-index-url": "PIP_EXTRA_INDEX_URL", "cert": "PIP_CERT"}


def missing(folder: Path) -> list[str]:
    """Return what this machine lacks for building images below a folder, in words."""
    tools = [name for name in ("buildah", "debootstrap", "unshare", "setpriv") if shutil.which(name) is None]
    lacks = [f"no {name}" for name in tools]
    if shutil.disk_usage(folder).free < _DISK_GB * 1e9:
        lacks.append(f"less than {_DISK_GB} GB of disk below {folder}")
    if os.geteuid() != 0:
        lacks.append("not root, which chroot isolation needs")
    if _mirror() is None:
        lacks.append("apt has no mirror of this machine's release of Debian")
    return lacks


@dataclass(frozen=True)
class Image:
    """An image whose files are mounted.

    Attributes:
        files: its root folder.
        config: the `config` of its OCI description.
        bytes: its size.
    """

    files: Path
    config: dict[str, Any]
    bytes: int

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a container of it starts with."""
        return dict(item.split("=", 1) for item in self.config["Env"])


class Builder:
    """buildah with vfs storage below a folder, where nothing but the folder is left to remove.

    Args:
        folder: for storage and base.
    """

    def __init__(self, folder: Path) -> None:
        self._storage = ["--root", f"{folder}/storage", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]
        self._given = _pip_settings()
        self._make_base(folder / "base")

    @contextmanager
    def image(self, name: str) -> Iterator[Image]:
        """Build an image of `docker/`; it is removed when the block ends."""
        tag = f"localhost/sskd-{name}:test"
        arguments = {"BASE": _BASE, **self._given}
        options = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
        file = str(ROOT / "docker" / f"{name}.Dockerfile")
        self._buildah("build", "--isolation", "chroot", "--network", "host", *options, "-f", file, "-t", tag, str(ROOT))
        container = self._buildah("from", "--pull=never", tag)
        try:
            found = json.loads(self._buildah("inspect", "--type", "image", tag))
            layers = json.loads(found["Manifest"])["layers"]
            size = sum(layer["size"] for layer in layers)
            yield Image(Path(self._buildah("mount", container)), found["OCIv1"]["config"], size)
        finally:
            self._buildah("rm", container)
            self._buildah("rmi", tag)

    def _make_base(self, folder: Path) -> None:
        """Make a small Debian with Python, which takes a minute, and call it `_BASE`."""
        release, mirror = _mirror() or ("", "")
        _run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", release, str(folder), mirror)
        container = self._buildah("from", "scratch")
        self._buildah("copy", container, str(folder), "/")
        certificates = self._given.get("PIP_CERT")
        if certificates:  # whom this machine trusts, the build has to trust as well
            self._buildah("copy", container, certificates, certificates)
        self._buildah("commit", container, _BASE)
        self._buildah("rm", container)
        shutil.rmtree(folder)

    def _buildah(self, *arguments: str) -> str:
        return _run("buildah", *self._storage, *arguments)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout.strip()


def _mirror() -> tuple[str, str] | None:
    """Return the release of this machine and where apt gets it from."""
    if shutil.which("apt-get") is None:
        return None
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    wanted = "$(CREATED_BY) $(COMPONENT) $(RELEASE) $(REPO_URI)"
    done = subprocess.run(["apt-get", "indextargets", "--format", wanted], capture_output=True, text=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    return next(((release, row[3]) for row in rows if row[:3] == ["Packages", "main", release]), None)


def _pip_settings() -> dict[str, str]:
    """Return pip's index and certificates as the variables that a build takes; its environment comes before its files.

    Places on this machine's disk are left out: a build does not see them.
    """
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found: dict[str, str] = {}
    for line in sorted(listed.stdout.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        variable = _SETTINGS.get(name.rpartition(".")[2])
        text = str(ast.literal_eval(value)) if variable else ""
        words = [word for word in text.split() if not word.startswith("file:")]
        if variable and words:
            found[variable] = " ".join(words)
    return found
