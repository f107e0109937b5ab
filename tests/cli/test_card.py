"""`sskd card`: the card of a registered model, on the screen or in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from finished_pipeline import FinishedPipeline, failure_picture
from split_fixtures import context_of

from sskd_core.config.finish import RegisterConfig
from sskd_core.config.loading import read_mapping
from sskd_core.config.tracking import TrackingConfig
from sskd_core.stages import register
from sskd_core.stages.contract import execute
from sskd_core.storage.store import ObjectStore
from tests.micro import FILE


@pytest.fixture
def experiment(store: ObjectStore, tracking: TrackingConfig, tmp_path: Path) -> str:
    """A file that names the test's store and MLflow, in which a champion is registered."""
    config, inputs = RegisterConfig(tracking=tracking), FinishedPipeline(store).register_inputs()
    execute("register", register.run, config, inputs, context_of("register", config, inputs, store, tmp_path))
    own = {"storage": store.config.model_dump(mode="json"), "tracking": tracking.model_dump(mode="json")}
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(read_mapping(FILE) | own))
    return str(path)


def test_the_card_is_printed_and_written(sskd: Callable, experiment: str, tmp_path: Path):
    assert sskd("card", "-e", experiment).out.startswith("# Model card: sskd-student")
    folder = tmp_path / "new/card"
    done = sskd("card", "champion", "-o", str(folder), "-e", experiment)
    assert "card of version 1" in done.out
    assert (folder / "card.md").read_text().startswith("# Model card: sskd-student")
    assert "data:image/jpeg" in (folder / "card.html").read_text()
    assert (folder / "failures/00.png").read_bytes() == failure_picture()


def test_a_folder_that_cannot_be_written_is_one_line(sskd: Callable, experiment: str):
    done = sskd("card", "-o", f"{experiment}/card", "-e", experiment)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "choose another folder with -o" in done.err
