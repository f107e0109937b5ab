"""Running an image as a locked-down cluster does, with nothing but the kernel.

The root file system is read-only, /tmp and /dev/shm are scratch, the command is process 1 of a namespace of its own,
runs as a UID that the image does not know, can gain no rights, and finds no shell.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.image_builder import Image

UID = 12345
_SHELLS = ("sh", "bash", "dash", "rbash")
_PREPARE = f"""
set -eu
root=$1 scratch=$2; shift 2
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount --make-rprivate /
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom; do
    : > "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t proc proc "$root/proc"
mount --bind "$scratch" "$root/tmp"
for shell in {" ".join(_SHELLS)}; do
    if [ -f "$root/usr/bin/$shell" ]; then mount --bind /dev/null "$root/usr/bin/$shell"; fi
done
chroot=$(command -v chroot)
PATH=$IMAGE_PATH
unset IMAGE_PATH
exec "$chroot" --userspec={UID}:{UID} --groups= "$root" "$@"
"""


@dataclass(frozen=True)
class LockedPod:
    """A pod of one container.

    Attributes:
        image: what it runs.
        scratch: its /tmp.
        variables: what a platform sets, such as credentials.
    """

    image: Image
    scratch: Path
    variables: Mapping[str, str]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command, found by the image's PATH, to its end."""
        with self.started(*command) as process:
            out, err = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    @contextmanager
    def started(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command and kill what is left of it when the block ends."""
        environment = {**self.image.environment, **self.variables}
        outside = ["setpriv", "--no-new-privs", "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c"]
        inside = [_PREPARE, "pod", str(self.image.files), str(self.scratch), *command]
        process = subprocess.Popen(
            [str(shutil.which(outside[0])), *outside[1:], *inside],
            env={**environment, "IMAGE_PATH": environment["PATH"], "PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def stop(process: subprocess.Popen[str], number: int) -> None:
    """Send a signal to the command of a pod, its process 1."""
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), number)
