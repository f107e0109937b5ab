"""Reaching a KFP server: which one, as whom, and what its refusals mean in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import kfp_server_api
import urllib3.exceptions

from sskd_core.errors import ConfigError, UserError
from sskd_core.services.line import refuse_open_line, without_credentials

HOST_VARIABLE = "SSKD_KFP_HOST"
TOKEN_VARIABLE = "SSKD_KFP_TOKEN"  # noqa: S105 (its name)
IN_CLUSTER_TOKEN_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 (its name)
_IN_CLUSTER_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_SERVICE_SUFFIXES = (".svc", ".svc.cluster.local")
_TIMEOUT_SECONDS = (10.0, 60.0)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Server:
    """A KFP server.

    Attributes:
        client: of its API.
        host: URL, for messages and links.
        namespace: of the runs; None for a server of a single user.
    """

    client: kfp_server_api.ApiClient
    host: str
    namespace: str | None

    def ask(self, question: Callable[..., _T], **values: Any) -> _T:
        """Call one of the API's functions.

        Raises:
            UserError: no answer, or a refusal.
        """
        try:
            return question(**values, _request_timeout=_TIMEOUT_SECONDS)
        except kfp_server_api.ApiException as error:
            raise self._refusal(error) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            reason = str(error).splitlines()[0].rpartition(": ")[2][:200]
            raise UserError(
                f"the KFP server at {self.host} does not answer: {reason}; "
                f"check: curl -sS {self.host}/apis/v2beta1/healthz"
            ) from None

    def _refusal(self, error: kfp_server_api.ApiException) -> UserError:
        said = _message(error)
        space = f" -n {self.namespace}" if self.namespace else ""
        if error.status == 401:
            return UserError(f"{self.host} does not know who asks (401): {said}; give a token: --token-file")
        if error.status == 403:
            return UserError(
                f"no right in namespace '{self.namespace}' (403): {said}; "
                f"check: kubectl auth can-i create runs.pipelines.kubeflow.org{space}"
            )
        if error.status == 404:
            return UserError(f"{self.host} has no such thing (404): {said}; sskd runs list shows the runs")
        return UserError(f"{self.host} refuses ({error.status}): {said}")


def connect(host: str | None, namespace: str | None, token_file: Path | None, ca_file: Path | None) -> Server:
    """Return a client of a server; nothing is sent yet.

    Args:
        host: URL; None for `$SSKD_KFP_HOST`, or the server of this cluster when in a pod.
        namespace: of the runs; None for the pod's own in a pod, else none.
        token_file: holds a bearer token; None for `$SSKD_KFP_TOKEN`, or the pod's own token in a pod.
        ca_file: certificates that the server's is checked with, besides the known ones.

    Raises:
        UserError: no host, no such file, or a token over an open line.
    """
    in_pod = _NAMESPACE.is_file()
    if namespace is None and in_pod:
        namespace = _NAMESPACE.read_text(encoding="utf-8").strip()
    found = (
        host
        or os.environ.get(HOST_VARIABLE)
        or ("http://ml-pipeline.kubeflow.svc.cluster.local:8888" if in_pod else "")
    )
    if not found:
        raise ConfigError(f"no KFP server: give --host or set {HOST_VARIABLE}")
    url = _checked_url(found)
    configuration = kfp_server_api.Configuration(host=without_credentials(url))
    configuration.ssl_ca_cert = str(_existing(ca_file, "--ca-file")) if ca_file else None
    configuration.retries = urllib3.Retry(2, backoff_factor=0.2, status_forcelist=[502, 503, 504])
    token = _token(token_file, url)
    if token:
        configuration.api_key["authorization"] = token
        configuration.api_key_prefix["authorization"] = "Bearer"
    return Server(kfp_server_api.ApiClient(configuration), without_credentials(url), namespace)


def _checked_url(text: str) -> str:
    parts = urlsplit(text if "://" in text else f"https://{text}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--host {text}: write it as https://HOST, with the path that the server is behind, if any")
    if parts.username or parts.password:
        raise ConfigError("--host: leave user and password out of the URL; give a token: --token-file")
    return parts.geturl().rstrip("/")


def _token(file: Path | None, url: str) -> str | None:
    """Return the token to send, if there is one and the line is closed."""
    if file is not None:
        token: str | None = _existing(file, "--token-file").read_text(encoding="utf-8").strip()
    else:
        token = os.environ.get(TOKEN_VARIABLE)
    if token:
        refuse_open_line(url, "the token", "--host")
        return token
    own = Path(os.environ.get(IN_CLUSTER_TOKEN_VARIABLE) or _IN_CLUSTER_TOKEN)
    if not own.is_file():
        return None
    # A pod's own token is for this server alone, and inside of the cluster KFP has no other line.
    if not (urlsplit(url).hostname or "").endswith(_SERVICE_SUFFIXES):
        refuse_open_line(url, "the pod's token", "--host")
    return own.read_text(encoding="utf-8").strip()


def _existing(path: Path, option: str) -> Path:
    if not path.is_file():
        raise ConfigError(f"{option} {path}: no such file")
    return path


def _message(error: kfp_server_api.ApiException) -> str:
    try:
        text = str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        text = str(error.reason or "no reason given")
    return (text.splitlines() or ["no reason given"])[0][:300]
