from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sskd_core
from sskd_core.storage import digest as digest_module
from sskd_core.storage.digest import canonical_json, code_digest, digest_bytes, digest_file, digest_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), children, max_size=4)
    ),
    max_leaves=12,
)


def shuffled(value: Any) -> Any:
    """The same value with every mapping in the opposite order."""
    if isinstance(value, dict):
        return {key: shuffled(item) for key, item in reversed(value.items())}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(JSON)
def test_canonical_json_round_trips(value: Any) -> None:
    data = canonical_json(value)
    assert json.loads(data) == value
    assert canonical_json(json.loads(data)) == data


@given(JSON)
def test_order_of_keys_does_not_count(value: Any) -> None:
    assert canonical_json(shuffled(value)) == canonical_json(value)
    assert digest_json(shuffled(value)) == digest_json(value)


def test_canonical_json_is_the_agreed_encoding() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == '{"a":"é","b":[1,2.5,null]}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_numbers_that_json_lacks_are_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        canonical_json(value)


@given(st.binary(max_size=1000))
def test_bytes_and_file_agree(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "digest"
    path.write_bytes(data)
    assert digest_file(path) == digest_bytes(data) == f"sha256:{hashlib.sha256(data).hexdigest()}"


@given(st.binary(min_size=1, max_size=100), st.data())
def test_any_flipped_bit_changes_the_digest(content: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(content) * 8 - 1))
    flipped = bytearray(content)
    flipped[position // 8] ^= 1 << position % 8
    assert digest_bytes(bytes(flipped)) != digest_bytes(content)


def test_file_larger_than_the_buffer(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "large").write_bytes(data)
    assert digest_file(tmp_path / "large") == digest_bytes(data)


class TestCodeDigest:
    @pytest.fixture
    def package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        for name in ("__init__.py", "training/loop.py", "cli/main.py", "reporting/page.py"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("a = 1\n")
        monkeypatch.setattr(sskd_core, "__file__", str(tmp_path / "__init__.py"))
        return tmp_path

    def digest(self) -> str:
        return digest_module.code_digest.__wrapped__()

    def test_changes_with_code_that_decides_results(self, package: Path) -> None:
        before = self.digest()
        assert before == self.digest()
        (package / "training" / "loop.py").write_text("a = 2\n")
        assert self.digest() != before

    def test_changes_when_code_moves(self, package: Path) -> None:
        before = self.digest()
        (package / "training" / "loop.py").rename(package / "training" / "other.py")
        assert self.digest() != before

    def test_ignores_code_that_only_shows_results(self, package: Path) -> None:
        before = self.digest()
        (package / "cli" / "main.py").write_text("a = 2\n")
        (package / "reporting" / "page.py").unlink()
        assert self.digest() == before

    def test_of_this_package(self) -> None:
        assert code_digest().startswith("sha256:")
