"""What tests of the fork server hand over: it says what it was given and ends as it is told, by `TASK`."""

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType


def stopped(number: int, frame: FrameType | None) -> None:
    print(f"stopped by {number}", flush=True)
    sys.exit(143)


def main() -> None:
    task = os.environ["TASK"]
    print("told on standard error", file=sys.stderr)
    if task == "tell":
        told = {"arguments": sys.argv, "folder": str(Path.cwd()), "parent": os.getppid(), "input": sys.stdin.read()}
        print(json.dumps(told | {"modules": [name for name in ("torch", "mlflow", "kfp") if name in sys.modules]}))
    elif task == "wait":
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stopped)
        print(os.getpid(), flush=True)
        signal.pause()
    elif task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        sys.exit(int(task))


if __name__ == "__main__":
    main()
