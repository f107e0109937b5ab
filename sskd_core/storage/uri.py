"""`s3://` URIs as plain strings: taken apart, joined, and held below the prefixes that the configuration allows.

A URI never becomes a `Path`, which would turn `//` into `/`. Every URI that reaches the store passes `below`, so a
manifest or a data set cannot make us read or write anywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

from sskd_core.errors import StorageError

SCHEME = "s3://"
_MAX_KEY_BYTES = 1024


def split(uri: str) -> tuple[str, str]:
    """Return bucket and key of an `s3://` URI; the key is empty for a bare bucket.

    Raises:
        StorageError: not an `s3://` URI, or one with `.` or `..` segments, control characters or an over-long key.
    """
    if not uri.startswith(SCHEME):
        raise StorageError(f"{uri!r} is not an s3:// URI")
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise StorageError(f"{uri!r} names no bucket; write s3://bucket/prefix")
    if any(segment in (".", "..") for segment in key.split("/")):
        raise StorageError(f"{uri!r} has a '.' or '..' segment, which an object key must not have")
    if not uri.isprintable():
        raise StorageError(f"{uri!r} has control characters, which an object key must not have")
    if len(key.encode()) > _MAX_KEY_BYTES:
        raise StorageError(f"{uri[:80]}...: the key has more than {_MAX_KEY_BYTES} bytes, the limit of S3")
    return bucket, key


def normalize_root(uri: str) -> str:
    """Return a checked prefix without slashes at the end."""
    split(uri)
    return uri.rstrip("/")


def below(uri: str, roots: Sequence[str]) -> tuple[str, str]:
    """Return bucket and key of a URI that lies in one of the allowed prefixes.

    Args:
        uri: the URI to check.
        roots: allowed prefixes, as from `normalize_root`.

    Raises:
        StorageError: malformed, or outside every prefix; names the URI and the prefixes.
    """
    parts = split(uri)
    if not any(uri == root or uri.startswith(f"{root}/") for root in roots):
        raise StorageError(
            f"{uri} is outside the allowed prefixes ({', '.join(roots)}); to read from it, list its prefix in "
            "storage.read_roots"
        )
    return parts
