"""`sskd doctor`: is everything there that a run stands on?"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sskd_core.cli.options import DEFAULT_STATE_DIR, Json, Settings, StateDir

if TYPE_CHECKING:
    from sskd_core.config.storage import StorageConfig
    from sskd_core.config.tracking import TrackingConfig
    from sskd_core.services.doctor import Check


def doctor(experiment: Settings = None, state_dir: StateDir = DEFAULT_STATE_DIR, as_json: Json = False) -> None:
    """Check store, tracking, disk, shared memory and devices, each by using it. Exit code 2 if one is not well."""
    from sskd_core.cli.output import print_json
    from sskd_core.cli.session import settings_of

    checks = _checks(*settings_of(experiment), state_dir.absolute())
    healthy = all(check.ok for check in checks)
    if as_json:
        print_json({"ok": healthy, "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        for check in checks:
            advice = f"; {check.advice}" if check.advice else ""
            typer.echo(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}{advice}")
    if not healthy:
        raise typer.Exit(2)


def _checks(storage: StorageConfig, tracking: TrackingConfig, state_dir: Path) -> list[Check]:
    from sskd_core.cli.session import open_storage, resolve_tracking
    from sskd_core.config.storage import CACHE_VARIABLE
    from sskd_core.errors import UserError
    from sskd_core.services.doctor import Check, check_devices, check_disk, check_shared_memory, check_storage

    cache = os.environ.get(CACHE_VARIABLE)
    folders = [state_dir, *([Path(cache)] if cache else [])]
    checks = [*map(check_disk, folders), check_shared_memory(), check_devices()]
    try:
        with open_storage(storage, state_dir) as opened:
            checks += check_storage(opened)
    except UserError as error:
        checks.append(Check("storage", False, str(error)))
    return [*checks, _check_tracking(resolve_tracking(tracking, state_dir), storage)]


def _check_tracking(tracking: TrackingConfig, storage: StorageConfig) -> Check:
    """Ask MLflow for its experiments, as the first stage of a run does."""
    from sskd_core.errors import UserError
    from sskd_core.services.doctor import Check
    from sskd_core.tracking.client import connect, resolved_mode

    name = "tracking"
    try:
        mode = resolved_mode(tracking)
        if mode == "off":
            return Check(name, True, "off")
        found = connect(tracking, storage).search_experiments()
    except UserError as error:
        return Check(name, False, str(error))
    return Check(
        name, True, f"{len(found)} experiments at {tracking.uri or 'the server of the environment'}; mode {mode}"
    )
