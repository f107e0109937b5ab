"""The contract: what a fingerprint looks at, that the first commit stands, that nothing is done twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from sskd_core.config.base import Runtime, StrictModel
from sskd_core.errors import Interrupted, UserError
from sskd_core.progress import Progress
from sskd_core.stages import contract
from sskd_core.stages.contract import StageContext, StageResult, execute, find, stage_fingerprint, stage_prefix
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.run import NullRun


class Settings(StrictModel):
    rate: float = 1.0
    interval: Runtime[int] = 1


@pytest.fixture
def run(store: ObjectStore, tmp_path: Path):
    def execute_(settings=None, inputs=None, work=None, **options):
        settings, inputs = settings or Settings(), inputs or {}
        identity = stage_fingerprint("toy", settings, inputs)
        context = StageContext(
            store,
            NullRun(),
            Progress("toy", tmp_path / "progress"),
            stage_prefix(store, "toy", identity),
            tmp_path,
            identity,
        )
        return execute("toy", work or write, settings, inputs, context, **options)

    return execute_


def write(config, inputs, context) -> StageResult:
    output = context.store.put_output("text", f"{context.prefix}/text", b"hello")
    return StageResult([output], metrics={"rate": config.rate}, facts={"a": 1}, licences=["MIT"])


def refuse(config, inputs, context) -> StageResult:
    raise UserError("no")


def must_not_run(config, inputs, context) -> StageResult:
    raise AssertionError("the stage ran although its result exists")


def test_the_manifest_says_what_was_done(run, store: ObjectStore):
    manifest = run()
    assert manifest.metrics == {"rate": 1.0}
    assert manifest.facts["a"] == 1
    assert manifest.facts["seconds"] >= 0
    assert manifest.facts["peak_memory_mb"] > 1
    assert manifest.config == {"rate": 1.0}
    assert manifest.licences == ["MIT"]
    assert store.read(manifest.output("text")) == b"hello"
    assert store.manifest(manifest.uri) == manifest


def test_a_finished_stage_does_no_work(run):
    assert run() == run(work=must_not_run)


def test_runtime_settings_do_not_count_but_others_do(run):
    first = run()
    assert run(Settings(interval=9), work=must_not_run) == first
    assert run(Settings(rate=2.0)).fingerprint != first.fingerprint


def test_inputs_count_and_their_licences_are_inherited(run):
    first = run()
    second = run(inputs={"data": first}, work=lambda *_: StageResult([], licences=["CC0"]))
    assert second.fingerprint != first.fingerprint
    assert second.licences == ["CC0", "MIT"]
    assert second.inputs["data"].uri == first.uri
    assert second.inputs["data"].digest == first.digest


def test_the_code_counts(run, monkeypatch: pytest.MonkeyPatch):
    first = run()
    monkeypatch.setattr(contract, "code_digest", lambda: "sha256:" + "0" * 64)
    assert run().fingerprint != first.fingerprint


def test_a_refusal_commits_nothing(run, store: ObjectStore):
    with pytest.raises(UserError):
        run(work=refuse)
    assert find(store, "toy", stage_fingerprint("toy", Settings(), {})) is None


def test_of_twins_the_first_commit_stands(run):
    def twin(config, inputs, context):
        run()
        return StageResult([], facts={"a": "late"})

    assert run(work=twin).facts["a"] == 1


def test_a_part_does_not_finish_the_stage(run, store: ObjectStore):
    part = run(part="workers/0-of-2", work=lambda *_: StageResult([]))
    assert part.uri.endswith("/workers/0-of-2.json")
    assert part.stage == "toy_worker"
    assert find(store, "toy", part.fingerprint) is None


def test_without_reuse_the_work_is_done_anew_and_replaces(run, store: ObjectStore):
    first = run(reuse=False)
    second = run(reuse=False, work=lambda *_: StageResult([], facts={"a": 2}))
    assert second.uri == first.uri
    assert store.manifest(first.uri).facts["a"] == 2


@pytest.mark.parametrize("error", [Interrupted("stopped"), RuntimeError("a defect"), KeyboardInterrupt()], ids=repr)
def test_whatever_ends_a_stage_early_commits_nothing_and_the_next_run_does_the_work(run, store: ObjectStore, error):
    def stop(config, inputs, context):
        context.store.put(f"{context.prefix}/half", b"done")
        raise error

    with pytest.raises(type(error)):
        run(work=stop)
    assert find(store, "toy", stage_fingerprint("toy", Settings(), {})) is None
    assert run().facts["a"] == 1


def test_a_manifest_that_carries_bytes_is_refused_and_what_was_made_is_kept(run, store: ObjectStore):
    cleaned = []

    def work(config, inputs, context):
        return StageResult([], facts={"mask": "x" * 100_000}, cleanup=lambda: cleaned.append(True))

    with pytest.raises(ValueError, match=r"manifest of stage toy has 10.* bytes, more than 100000"):
        run(work=work)
    assert find(store, "toy", stage_fingerprint("toy", Settings(), {})) is None
    assert cleaned == []


def test_cleanup_comes_after_the_commit(run, store: ObjectStore):
    seen = []

    def work(config, inputs, context):
        return StageResult([], cleanup=lambda: seen.append(store.exists(f"{context.prefix}/manifest.json")))

    run(work=work)
    assert seen == [True]
