"""What all components share: one image, and nothing installed when a task starts."""

import os
from collections.abc import Callable
from typing import Any

from kfp import dsl

IMAGE_VARIABLE = "SSKD_IMAGE"
DEFAULT_IMAGE = "sskd:0.1.0"


def stage_component(function: Callable[..., None]) -> Callable[..., Any]:
    """Make a KFP component of a function that imports and runs one stage.

    The image is that of `$SSKD_IMAGE` when the pipeline is compiled; give it by digest, since KFP's cache does not see
    that a tag has moved.
    """
    image = os.environ.get(IMAGE_VARIABLE, DEFAULT_IMAGE)
    component: Callable[..., Any] = dsl.component(function, base_image=image, install_kfp_package=False)
    return component
