"""Which lines are open, and what may not go over them."""

from __future__ import annotations

import pytest

from sskd_core.errors import UserError
from sskd_core.services.line import is_loopback, refuse_open_line, without_credentials


@pytest.mark.parametrize(
    "uri", ["https://x.example", "http://127.0.0.1:5", "http://localhost", "http://[::1]:5", "file:///x"]
)
def test_closed_lines_take_secrets(uri: str):
    refuse_open_line(uri, "the token", "URI")


def test_an_open_line_without_a_secret_is_fine():
    refuse_open_line("http://x.example", None, "URI")


@pytest.mark.parametrize(("uri", "secret"), [("http://x.example/a", "the token"), ("http://jo:pw@x.example/a", None)])
def test_an_open_line_takes_none(uri: str, secret: str | None):
    with pytest.raises(UserError, match=r"to http://x.example/a over plain http; use an https URI") as caught:
        refuse_open_line(uri, secret, "URI")
    assert "pw" not in str(caught.value).replace("password", "")


def test_names_of_other_machines_are_not_this_one():
    assert is_loopback("127.9.9.9")
    assert not is_loopback("localhost.example")
    assert not is_loopback("10.0.0.1")
    assert without_credentials("https://a:b@x.example:1/p?q=1") == "https://x.example:1/p?q=1"
