"""What went wrong at the object store, in one line that a person can act on.

botocore reports a dozen exception types and a hundred codes. `translated` turns those that a user can mend into
`StorageError`: which object or endpoint, what is wrong, what to do. The rest passes through with its code and message.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from boto3.exceptions import RetriesExceededError, S3UploadFailedError
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from sskd_core.config.storage import StorageConfig
from sskd_core.errors import StorageError
from sskd_core.storage.uri import split

_CREDENTIALS_REFUSED = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidToken",
        "ExpiredToken",
        "TokenRefreshRequired",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
    }
)
_DENIED = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem"})
_FULL = frozenset({"InsufficientStorage", "XMinioStorageFull", "QuotaExceeded", "507"})
_WRONG_REGION = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "301", "IllegalLocationConstraintException"}
)
_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.TokenRetrievalError,
)
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
# A body that breaks off or arrives damaged; botocore retries requests but not the reading of their bodies.
BROKEN_BODY = (
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
    boto.ReadTimeoutError,
    boto.FlexibleChecksumError,
)


class MissingObjectError(StorageError):
    """There is no such object."""


@contextmanager
def translated(uri: str, config: StorageConfig) -> Iterator[None]:
    """Turn failures of the store inside the block into one-line errors.

    Args:
        uri: the object or prefix in question.
        config: where the store was looked for.

    Raises:
        MissingObjectError: no such object.
        StorageError: anything else that the store or the way to it refused.
    """
    try:
        yield
    except boto.ClientError as error:
        raise _from_response(error, uri, config) from None
    except S3UploadFailedError as error:
        if isinstance(error.__cause__ or error.__context__, boto.ClientError):
            raise _from_response(error.__cause__ or error.__context__, uri, config) from None
        raise StorageError(f"{uri}: upload failed: {one_line(error)}") from None
    except _NO_CREDENTIALS as error:
        raise StorageError(
            f"no usable credentials for {place(config)} ({one_line(error)}); set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, a profile or a role"
        ) from None
    except (*BROKEN_BODY, RetriesExceededError) as error:
        raise StorageError(f"{uri}: the transfer broke off ({one_line(error)}); run again to go on") from None
    except ResponseParserError:
        raise StorageError(_not_s3(config)) from None
    except (boto.HTTPClientError, boto.ConnectionError) as error:
        reason = "" if isinstance(error, boto.EndpointConnectionError) else f" ({one_line(error)})"
        raise StorageError(
            f"cannot reach the object store at {place(config)}{reason}; check storage.endpoint_url and that the "
            "server runs"
        ) from None
    except boto.BotoCoreError as error:
        raise StorageError(f"{uri}: {one_line(error)}") from None


def no_space(error: OSError, directory: Path, setting: str) -> StorageError | None:
    """Return the error for a full local disk, or None when `error` is another one.

    Args:
        error: as the operating system raised it.
        directory: what was written to.
        setting: the configuration key that moves it elsewhere.
    """
    if error.errno not in _NO_SPACE:
        return None
    return StorageError(f"no space left on the disk of {directory}; free some or set {setting} to another disk")


def place(config: StorageConfig) -> str:
    """Return what a message calls the store."""
    return config.endpoint_url or f"AWS S3 in {config.region}"


def one_line(error: BaseException) -> str:
    """Return the message of an exception without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _not_s3(config: StorageConfig) -> str:
    return f"{place(config)} does not answer like an S3 store; check storage.endpoint_url"


def _from_response(error: Any, uri: str, config: StorageConfig) -> StorageError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    message = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    where = place(config)
    bucket = split(uri)[0]
    if code == "NoSuchBucket":
        return StorageError(f"bucket '{bucket}' does not exist at {where}; create it or correct storage.root")
    if code == "404" and error.operation_name == "GetObject":
        # A store names the missing thing in the body; a bare 404 comes from some other web server.
        return StorageError(_not_s3(config))
    if code in _MISSING:
        return MissingObjectError(f"{uri}: no such object at {where}")
    if code in _CREDENTIALS_REFUSED:
        return StorageError(
            f"{where} refused the credentials ({code}); check AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or the profile"
        )
    if code in _DENIED or (status == 403 and code != "RequestTimeTooSkewed"):
        return StorageError(f"{uri}: access denied for {error.operation_name}; grant it to these credentials")
    if code == "RequestTimeTooSkewed":
        return StorageError(f"{where} refused the request because this machine's clock is wrong; set it right")
    if code in _FULL or status == 507:
        return StorageError(f"{uri}: no space left in the object store at {where}; free some and run again")
    if code in _WRONG_REGION:
        return StorageError(f"bucket '{bucket}' is not in region {config.region}; set storage.region to its own")
    if code == "NotImplemented" or status == 501:
        return StorageError(f"{uri}: {where} cannot {error.operation_name} as asked ({message}); use a newer store")
    if status >= 500:
        return StorageError(
            f"{uri}: the object store at {where} failed repeatedly ({code}: {message}); is its disk full? Free "
            "some, or see its log, then run again to go on"
        )
    return StorageError(f"{uri}: {where} refused {error.operation_name} ({code}: {message})")
