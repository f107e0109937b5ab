"""One process of a training that is shared among several; what torchrun starts.

torchrun … -m sskd_core.stages.rank, with the task in `SSKD_TASK`
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback

from sskd_core.config.base import validate
from sskd_core.distributed.launch import FAILED, REFUSED, TASK_VARIABLE, Ending, follows, leave_ending
from sskd_core.errors import Interrupted, UserError
from sskd_core.stages.entry import run_rank
from sskd_core.stages.processes import Task
from sskd_core.storage.store import ObjectStore


def main() -> None:
    """Do this process's part.

    Raises:
        SystemExit: 2 after a user error, 143 when stopped, 1 after a defect. A process that follows and is stopped ends
            with 0: torchrun would take another code for a failure and stop the leader, which still saves the state.
    """
    level = logging.WARNING if follows() else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    ending = _ending(int(os.environ.get("RANK") or 0))
    leave_ending(ending)
    sys.exit(0 if ending.code > REFUSED and follows() else ending.code)


def _ending(rank: int) -> Ending:
    try:
        task = validate(Task, json.loads(os.environ[TASK_VARIABLE]), TASK_VARIABLE)
        store = ObjectStore(task.experiment.storage)
        inputs = {name: store.manifest(uri) for name, uri in task.inputs.items()}
        run_rank(task.experiment, task.node, inputs)
    except Interrupted as error:
        return Ending(rank, error.exit_code, str(error))
    except UserError as error:
        print(error, file=sys.stderr)
        return Ending(rank, REFUSED, str(error))
    except Exception as error:
        traceback.print_exc()
        return Ending(rank, FAILED, f"{type(error).__name__}: {error}".splitlines()[0])
    return Ending(rank, 0)


if __name__ == "__main__":
    main()
