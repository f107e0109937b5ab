"""SHA-256 digests of bytes, files, canonical JSON and our own source code.

A digest is written `sha256:<64 hex digits>` wherever it is stored or shown.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import sskd_core

_CHUNK = 1 << 20


def digest_bytes(data: bytes) -> str:
    """Return the digest of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_file(path: Path) -> str:
    """Return the digest of a file, read in constant memory."""
    state = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            state.update(chunk)
    return f"sha256:{state.hexdigest()}"


def canonical_json(value: Any) -> bytes:
    """Return the one JSON encoding of `value`: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def digest_json(value: Any) -> str:
    """Return the digest of the canonical JSON of `value`."""
    return digest_bytes(canonical_json(value))


@cache
def code_digest() -> str:
    """Return the digest of every source file that can change a stage's result.

    The command line, the services and the report only show results, and retraining only writes configurations, so their
    files are left out: a better progress bar must not invalidate a trained model.
    """
    root = Path(sskd_core.__file__).parent
    shown_only = {"cli", "services", "reporting", "retraining"}
    state = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if relative.parts[0] not in shown_only:
            state.update(relative.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"sha256:{state.hexdigest()}"
