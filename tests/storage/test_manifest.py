from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sskd_core.errors import IntegrityError
from sskd_core.storage.digest import digest_bytes
from sskd_core.storage.manifest import MAX_BYTES, InputRef, Manifest, ObjectRef, fingerprint

TEXT = st.text(st.characters(codec="utf-8"), max_size=10)
DIGEST = st.binary(max_size=4).map(digest_bytes)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
FACT = st.none() | st.booleans() | st.integers() | NUMBER | TEXT
OUTPUT = st.builds(
    ObjectRef, name=TEXT, uri=TEXT.map("s3://b/".__add__), digest=DIGEST, bytes=st.integers(0), media_type=TEXT
)
MANIFEST = st.builds(
    Manifest,
    schema_version=st.just(1),
    stage=TEXT,
    fingerprint=DIGEST,
    inputs=st.dictionaries(TEXT, st.builds(InputRef, uri=TEXT, digest=DIGEST), max_size=3),
    outputs=st.lists(OUTPUT, max_size=3, unique_by=lambda item: item.name),
    metrics=st.dictionaries(TEXT, NUMBER, max_size=3),
    facts=st.dictionaries(TEXT, FACT | st.lists(FACT, max_size=3), max_size=3),
    config=st.dictionaries(TEXT, FACT, max_size=3),
    config_digest=DIGEST,
    code_digest=DIGEST,
    seed=st.none() | st.integers(),
    licences=st.lists(TEXT, max_size=2),
    run_id=st.none() | TEXT,
    created=st.datetimes(timezones=st.just(dt.UTC)),
    uri=TEXT,
)


def manifest(**update: Any) -> Manifest:
    values: dict[str, Any] = {
        "stage": "prepare",
        "fingerprint": digest_bytes(b"fingerprint"),
        "config_digest": digest_bytes(b"config"),
        "code_digest": digest_bytes(b"code"),
        "created": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        "uri": "s3://bucket/stages/prepare/x/manifest.json",
        "outputs": [output("images/1"), output("index"), output("images/0")],
    }
    return Manifest.model_validate({**values, **update})


def output(name: str) -> ObjectRef:
    return ObjectRef(name=name, uri=f"s3://bucket/{name}", digest=digest_bytes(name.encode()), bytes=1)


@given(MANIFEST)
def test_bytes_round_trip(made: Manifest) -> None:
    data = made.to_bytes()
    read = Manifest.model_validate_json(data)
    assert read == made
    assert read.to_bytes() == data
    assert read.digest == made.digest == digest_bytes(data)


def test_output_by_name() -> None:
    assert manifest().output("index").uri == "s3://bucket/index"
    with pytest.raises(IntegrityError, match="prepare stage has no output 'weights'"):
        manifest().output("weights")


def test_outputs_like_are_sorted() -> None:
    assert [item.name for item in manifest().outputs_like("images/")] == ["images/0", "images/1"]


def test_too_large_for_a_pointer() -> None:
    with pytest.raises(ValueError, match=f"more than {MAX_BYTES}"):
        manifest(facts={"pixels": "x" * MAX_BYTES}).to_bytes()


@pytest.mark.parametrize(
    "update",
    [
        {"schema_version": 2},
        {"fingerprint": "sha256:abc"},
        {"metrics": {"loss": float("nan")}},
        {"metrics": {"loss": float("inf")}},
        {"surprise": 1},
        {"facts": {"loss": [float("nan")]}},
        {"outputs": [output("index"), output("index")]},
        {"outputs": [{**output("index").model_dump(), "uri": "https://example.org/index"}]},
        {"created": dt.datetime(2026, 1, 2)},
    ],
)
def test_malformed_manifests_are_refused(update: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        manifest(**update)


def test_facts_are_what_a_reader_will_see() -> None:
    made = manifest(facts={"histogram": {0: 3, 1: 4}, "size": (96, 128)}, config={"means": (0.5, 1.0)})
    assert made.facts == {"histogram": {"0": 3, "1": 4}, "size": [96, 128]}
    assert made == Manifest.model_validate_json(made.to_bytes())


class TestFingerprint:
    base = ("distill", {"rate": 0.1, "steps": 5}, {"data": "sha256:1", "labels": "sha256:2"}, "sha256:3")

    def test_does_not_depend_on_order(self) -> None:
        stage, config, inputs, code = self.base
        assert fingerprint(stage, dict(reversed(config.items())), dict(reversed(inputs.items())), code) == fingerprint(
            *self.base
        )

    @pytest.mark.parametrize(
        "other",
        [
            ("refine", *base[1:]),
            (base[0], {"rate": 0.2, "steps": 5}, *base[2:]),
            (*base[:2], {"data": "sha256:2", "labels": "sha256:1"}, base[3]),
            (*base[:3], "sha256:4"),
        ],
    )
    def test_depends_on_everything_else(self, other: Any) -> None:
        assert fingerprint(*other) != fingerprint(*self.base)
