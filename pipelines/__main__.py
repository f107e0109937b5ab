"""`python -m pipelines compile|run|submit|runs`: what the `sskd` command starts, and what a CI job may call itself."""

import sys

from pipelines.command import main

if __name__ == "__main__":
    sys.exit(main())
