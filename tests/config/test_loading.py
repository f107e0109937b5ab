"""Experiment files: presets, overrides, and one line for every way to write one wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sskd_core.config.loading import apply_override, load_experiment, preset_names, read_mapping
from sskd_core.errors import ConfigError


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_preset_is_a_valid_experiment():
    assert "demo" in preset_names()
    for name in preset_names():
        assert load_experiment(name).name


def test_a_file_lays_its_sections_over_the_preset(tmp_path: Path):
    source = write(
        tmp_path / "mine.yaml",
        """
        preset: demo
        name: mine
        data:
          labeled: {annotations: labels.json, images: images}
          unlabeled: [s3://pool/unlabeled]
        stages: {distill: {iterations: 7}}
        """,
    )
    mine, demo = load_experiment(source), load_experiment("demo")
    assert mine.name == "mine"
    assert mine.stages.distill.iterations == 7
    assert mine.stages.distill.optimizer == demo.stages.distill.optimizer
    assert mine.stages.refine == demo.stages.refine
    assert mine.data.val is None, "half a data set of the preset leaked into the file's own"
    assert mine.teacher == demo.teacher


def test_a_model_of_the_file_replaces_the_preset_s(tmp_path: Path):
    source = write(tmp_path / "mine.yaml", "{preset: demo, student: {family: dinov2_dpt, arch: {depth: 2}}}")
    assert load_experiment(source).student.arch == {"depth": 2}


def test_local_paths_are_fixed_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    experiment = load_experiment("demo", ["data.unlabeled=[pool, s3://bucket/pool, 'file:///pool']"])
    assert experiment.data.unlabeled == [str(tmp_path / "pool"), "s3://bucket/pool", "file:///pool"]


def test_declared_sources_may_be_read():
    experiment = load_experiment(
        "demo",
        ["data.unlabeled=[s3://pool/a, local]", "teacher.weights=s3://models/teacher", "storage.read_roots=[s3://x1x]"],
    )
    assert experiment.storage.read_roots == ["s3://x1x", "s3://pool/a", "s3://models/teacher"]


def test_overrides_are_yaml_and_the_last_wins():
    experiment = load_experiment(
        "demo",
        ["seed=1", "seed=2", "stages.distill.optimizer.lr=1e-4", 'tracking={mode: "off"}'],
    )
    assert experiment.seed == 2
    assert experiment.stages.distill.optimizer.lr == 1e-4
    assert experiment.tracking.mode == "off"


def test_an_override_touches_no_other_place_that_shares_its_yaml_anchor():
    experiment = load_experiment("demo", ["stages.adapt_teacher.optimizer.lr=0.125"])
    assert experiment.stages.adapt_teacher.optimizer.lr == 0.125
    assert experiment.stages.self_train_teacher.optimizer.lr != 0.125


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.distil.iterations=7", "unknown key 'stages.distil'; did you mean 'distill'?"),
        ("stages.distill.iteration=7", "unknown key 'stages.distill.iteration'; did you mean 'iterations'?"),
        ("stages.distill.iterations=many", "'stages.distill.iterations': input should be a valid integer"),
        ("stages.distill.iterations=-1", "greater than or equal to 0, got -1"),
        ("name.x=1", "'name' is a value ('demo'), it has nothing below it"),
        ("data.unlabeled.3=x", "a list of 1 needs a number from 0 to 0, not '3'"),
        ("data.unlabeled.first.x=x", "not 'first'"),
        ("seed", "write it as key.sub=value"),
        ("=1", "write it as key.sub=value"),
        ("a..b=1", "write it as key.sub=value"),
        ("seed=[1", "the value is not valid YAML"),
    ],
)
def test_a_wrong_override_is_one_line(override: str, message: str):
    with pytest.raises(ConfigError) as caught:
        load_experiment("demo", [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "key 'a' is given twice"),
        ("[1, 2]", "holds list, not a mapping"),
        ("", "holds NoneType, not a mapping"),
        ("a: [", "not valid YAML"),
        ("a: !!python/object:os.system {}", "not valid YAML"),
        ("preset: dem", "did you mean 'demo'?"),
        ("preset: demo\nnam: x", "unknown key 'nam'; did you mean 'name'?"),
        ("name: x", "'data' is required"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, message: str):
    with pytest.raises(ConfigError) as caught:
        load_experiment(write(tmp_path / "bad.yaml", text))
    assert message in str(caught.value)
    assert "bad.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_mapping(path)


@pytest.mark.parametrize(
    ("source", "message"), [("dmo", "did you mean 'demo'?"), ("no.yaml", "no such file"), ("a/b", "no such file")]
)
def test_a_missing_experiment_is_named(source: str, message: str):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        load_experiment(source)


KEYS = st.text("abcdefgh", min_size=1, max_size=4)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("xyz '#:", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@given(path=st.lists(KEYS, min_size=1, max_size=4), value=VALUES)
def test_an_override_sets_exactly_its_place(path: list[str], value: object):
    values: dict = {}
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n")
    apply_override(values, f"{'.'.join(path)}={text}")
    for key in path:
        assert list(values) == [key]
        values = values[key]
    assert values == value
