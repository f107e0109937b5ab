"""No user and no password in a setting, and none in what is said of a wrong one."""

from __future__ import annotations

from typing import Any

import pytest

from sskd_core.config.base import validate
from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import ConfigError


@pytest.mark.parametrize(
    ("model", "key"), [(TrackingConfig, "uri"), (StorageConfig, "endpoint_url")], ids=["tracking", "storage"]
)
@pytest.mark.parametrize("user", ["jo:s3cret", ":s3cret", "s3cret"])
def test_a_server_is_named_without_user_and_password(model: type[Any], key: str, user: str):
    with pytest.raises(ConfigError, match="holds a user or password") as caught:
        validate(model, {key: f"https://{user}@x.example:1/p"}, "here")
    assert "s3cret" not in str(caught.value)
    assert "://…@x.example:1/p" in str(caught.value)
    whole = "https://x.example:1/p@q"
    assert getattr(validate(model, {key: whole}, "here"), key) == whole


def test_a_wrong_value_is_told_without_its_password():
    with pytest.raises(ConfigError, match="'endpoint_url'") as caught:
        validate(StorageConfig, {"endpoint_url": "ftp://jo:s3cret@x.example"}, "here")
    assert "s3cret" not in str(caught.value)
