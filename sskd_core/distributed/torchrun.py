"""`torchrun` for `launch.py`: it stops when whoever started it is gone, and leaves the reports of failures to it.

python -m sskd_core.distributed.torchrun TORCHRUN'S ARGUMENTS
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from sskd_core.distributed.launch import FIRST_FAILURE, Ending, leave_ending


def main() -> None:
    """Run torchrun.

    Raises:
        SystemExit: 1 after a failure, which `launch.py` explains.
    """
    threading.Thread(target=_stop_with_parent, name="parent", daemon=True).start()
    # It would report each failure with a page of its own.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        torchrun(sys.argv[1:])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        leave_ending(Ending(rank, failure.exitcode), FIRST_FAILURE)
        sys.exit(1)
    except SignalException as error:
        sys.exit(128 + error.sigval)


def _stop_with_parent() -> None:
    # Not through sys.stdin, whose lock this thread would still hold when the interpreter ends.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
