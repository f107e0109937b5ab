from __future__ import annotations

import os
import urllib.request

import pytest

from sskd_core.services.environment import store_environment
from sskd_core.services.state import Credentials

KEYS = Credentials(access_key="ours", secret_key="secret")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("AWS_PROFILE", "profile")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")


def test_only_our_credentials_count() -> None:
    before = dict(os.environ)
    with store_environment(KEYS):
        assert os.environ["AWS_ACCESS_KEY_ID"] == "ours"
        assert os.environ["AWS_SECRET_ACCESS_KEY"] == "secret"
        assert "AWS_SESSION_TOKEN" not in os.environ
        assert "AWS_PROFILE" not in os.environ
    assert dict(os.environ) == before


def test_given_back_after_an_error() -> None:
    before = dict(os.environ)
    with pytest.raises(ZeroDivisionError), store_environment(KEYS):
        raise ZeroDivisionError
    assert dict(os.environ) == before


@pytest.mark.parametrize("before", [None, "example.org"])
def test_loopback_goes_past_the_proxy(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    if before:
        monkeypatch.setenv("no_proxy", before)
    with store_environment(KEYS):
        assert urllib.request.proxy_bypass_environment("127.0.0.1:8333")
        assert not urllib.request.proxy_bypass_environment("other.org")
        assert before is None or urllib.request.proxy_bypass_environment(before)
