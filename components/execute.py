"""What a task starts: find the component of that name in this image and hand it to KFP's executor.

python3 -m components.execute MODULE --function_to_execute NAME --executor_input JSON
"""

import argparse
import os
import runpy
import sys
from importlib.util import find_spec

from components.fork_server import SOCKET_VARIABLE, hand_over

# KFP looks at it when it is imported: only what a component needs to run is loaded.
os.environ["_KFP_RUNTIME"] = "true"


def main() -> None:
    """Run one component, here or, where a server of this machine forks for tasks, in a process of that one.

    Raises:
        SystemExit: with one line, when this image does not have it.
    """
    server = os.environ.get(SOCKET_VARIABLE)
    code = hand_over(server) if server else None
    if code is not None:
        sys.exit(code)
    run()


def run() -> None:
    """Run, in this process, the component that its arguments name.

    Raises:
        SystemExit: with one line, when this image does not have it.
    """
    parser = argparse.ArgumentParser(prog="python3 -m components.execute", description=__doc__)
    parser.add_argument("module", help="KFP's executor")
    parser.add_argument("--function_to_execute", required=True, help="name of the component")
    options, rest = parser.parse_known_args()
    name = options.function_to_execute
    try:
        found = find_spec(f"components.{name}.component")
    except ModuleNotFoundError:
        found = None
    if found is None or found.origin is None:
        sys.exit(f"this image has no component '{name}': compile the pipeline with the version that the image holds")
    sys.argv[1:] = ["--component_module_path", found.origin, "--function_to_execute", name, *rest]
    runpy.run_module(options.module, run_name="__main__")


if __name__ == "__main__":
    main()
