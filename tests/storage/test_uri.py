from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sskd_core.errors import StorageError
from sskd_core.storage.uri import below, normalize_root, split

SEGMENT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs"), exclude_characters="/"), max_size=8)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/a/b.png", ("bucket", "a/b.png")),
        ("s3://bucket/a//b", ("bucket", "a//b")),
        ("s3://bucket/a/..b/c...", ("bucket", "a/..b/c...")),
    ],
)
def test_split(uri: str, expected: tuple[str, str]) -> None:
    assert split(uri) == expected


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("/a/b", "not an s3:// URI"),
        ("S3://bucket/a", "not an s3:// URI"),
        ("s3:///a", "names no bucket"),
        ("s3://bucket/a/../b", "'..' segment"),
        ("s3://bucket/./b", "'.' or"),
        ("s3://bucket/a\nb", "control characters"),
        ("s3://bucket/" + "é" * 513, "more than 1024 bytes"),
    ],
)
def test_malformed_uris_are_refused(uri: str, problem: str) -> None:
    with pytest.raises(StorageError, match=problem) as error:
        split(uri)
    assert "\n" not in str(error.value)


def test_root_loses_its_slashes() -> None:
    assert normalize_root("s3://bucket/a//") == "s3://bucket/a"
    assert normalize_root("s3://bucket/") == "s3://bucket"


def test_outside_names_uri_and_prefixes() -> None:
    with pytest.raises(
        StorageError, match=r"s3://b/rootless/x is outside the allowed prefixes \(s3://b/root, s3://c\)"
    ):
        below("s3://b/rootless/x", ["s3://b/root", "s3://c"])


@given(st.lists(SEGMENT, min_size=1, max_size=4))
def test_what_is_below_starts_with_the_root(segments: list[str]) -> None:
    uri = "s3://bucket/" + "/".join(segments)
    try:
        bucket, key = below(uri, ["s3://bucket/root"])
    except StorageError:
        return
    assert bucket == "bucket"
    assert key == "root" or key.startswith("root/")
    assert not {".", ".."} & set(key.split("/"))


@given(st.lists(SEGMENT.filter(lambda text: text not in (".", "..") and text.isprintable()), max_size=4))
def test_all_printable_names_are_allowed(segments: list[str]) -> None:
    key = "/".join(["root", *segments])
    assert below(f"s3://bucket/{key}", ["s3://bucket/root"]) == ("bucket", key)
