"""Reading weights that somebody else wrote: from a folder, a hub id, an `s3://` prefix or the package itself.

Only safetensors are read, never a pickle. Names and shapes are checked against the network before a value is copied,
and the error names the first mismatch. Torch is imported late so that digests can be taken without it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sskd_core.errors import ConfigError, IntegrityError
from sskd_core.storage.digest import digest_file, digest_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sskd_core.storage.store import ObjectStore

BUILTIN = Path(__file__).parent / "weights"
_ASSETS = ("tokenizer.json",)
_WANTED = ("config.json", "model.safetensors", "model.safetensors.index.json", *_ASSETS)
_MAX_TENSORS = 100_000


@dataclass(frozen=True)
class WeightFolder:
    """Weights on the local disk.

    Attributes:
        location: as the user gave it, for messages.
        files: names and paths of `config.json`, the safetensors files and the assets.
    """

    location: str
    files: dict[str, Path]

    @property
    def digest(self) -> str:
        """One digest over all files."""
        return digest_json({name: digest_file(path) for name, path in sorted(self.files.items())})

    def config(self) -> dict[str, Any]:
        """Return the parsed `config.json`; empty when there is none.

        Raises:
            ConfigError: it is not a JSON object.
        """
        if "config.json" not in self.files:
            return {}
        try:
            values = json.loads(self.files["config.json"].read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"weights {self.location}: config.json is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise ConfigError(f"weights {self.location}: config.json does not hold an object")
        return values

    def assets(self) -> dict[str, bytes]:
        """Return what lies beside the weights and some family needs, such as a tokenizer."""
        return {name: self.files[name].read_bytes() for name in _ASSETS if name in self.files}

    def tensors(self) -> dict[str, Tensor]:
        """Read all tensors.

        Raises:
            IntegrityError: a file is not safetensors, or holds an absurd number of tensors.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        found: dict[str, Tensor] = {}
        for name, path in self.files.items():
            if name.endswith(".safetensors"):
                try:
                    found.update(load_file(path))
                except (SafetensorError, OSError) as error:
                    raise IntegrityError(
                        f"weights {self.location}: {name} is not readable safetensors: {error}"
                    ) from None
                if len(found) > _MAX_TENSORS:
                    raise IntegrityError(f"weights {self.location}: more than {_MAX_TENSORS} tensors; refused")
        return found


def open_weights(location: str, store: ObjectStore | None, expected: str | None = None) -> WeightFolder:
    """Bring weights to the local disk.

    Args:
        location: `builtin:NAME`, a local folder, `s3://prefix`, or a hub id such as `facebook/dinov2-small`.
        store: needed for `s3://`.
        expected: digest that the files must have.

    Raises:
        ConfigError: nothing there, or only pickled weights.
        IntegrityError: the files changed since the digest was taken.
    """
    if location.startswith("builtin:"):
        folder = _local(location, BUILTIN / location.removeprefix("builtin:"))
    elif location.startswith("s3://"):
        folder = _from_store(location, store)
    elif Path(location).expanduser().is_dir():
        folder = _local(location, Path(location).expanduser())
    else:
        folder = _from_hub(location)
    if expected is not None and folder.digest != expected:
        raise IntegrityError(
            f"weights {location}: digest is {folder.digest}, the run was started with {expected}; start a new run"
        )
    return folder


def _checked(location: str, files: dict[str, Path], seen: list[str]) -> WeightFolder:
    if not any(name.endswith(".safetensors") for name in files):
        pickled = [name for name in seen if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
        why = (
            f"only pickled files ({pickled[0]}), which are never read; convert them to safetensors"
            if pickled
            else ("no model.safetensors there")
        )
        raise ConfigError(f"weights {location}: {why}")
    return WeightFolder(location, files)


def _is_wanted(name: str) -> bool:
    return "/" not in name and (name in _WANTED or name.endswith(".safetensors"))


def _local(location: str, folder: Path) -> WeightFolder:
    if not folder.is_dir():
        names = ", ".join(sorted(f"builtin:{item.name}" for item in BUILTIN.iterdir() if item.is_dir()))
        raise ConfigError(f"weights {location}: no such folder; shipped are: {names}")
    seen = sorted(item.name for item in folder.iterdir() if item.is_file())
    return _checked(location, {name: folder / name for name in seen if _is_wanted(name)}, seen)


def _from_store(location: str, store: ObjectStore | None) -> WeightFolder:
    if store is None:
        raise ConfigError(f"weights {location}: an object store is needed to read this; set storage.root")
    prefix = location.rstrip("/") + "/"
    listed = {item.uri.removeprefix(prefix): item.uri for item in store.list(prefix)}
    files = {name: store.fetch_uri(uri) for name, uri in listed.items() if _is_wanted(name)}
    return _checked(location, files, sorted(listed))


def _from_hub(location: str) -> WeightFolder:
    from huggingface_hub import snapshot_download

    try:
        wanted = ["config.json", "*.safetensors", "*.index.json", *_ASSETS]
        folder = Path(snapshot_download(location, allow_patterns=wanted))
    except Exception as error:
        raise ConfigError(
            f"weights {location}: neither a local folder nor to be had from the hub ({type(error).__name__}); "
            "without network give a folder or an s3:// prefix that holds config.json and model.safetensors"
        ) from None
    seen = sorted(item.name for item in folder.iterdir())
    return _checked(location, {name: folder / name for name in seen if _is_wanted(name)}, seen)


def copy_into(module: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Copy tensors into a module after checking every name and shape.

    Args:
        module: the target.
        tensors: by the module's own names.
        where: for messages.

    Raises:
        IntegrityError: the first missing, unknown or misshapen tensor.
    """
    own = module.state_dict()
    for name, tensor in tensors.items():
        if name not in own or own[name].shape != tensor.shape:
            problem = (
                f"has shape {list(tensor.shape)}, the network wants {list(own[name].shape)}"
                if name in own
                else "is unknown to the network"
            )
            raise IntegrityError(f"{where}: tensor '{name}' {problem}; do family and arch fit these weights?")
    missing = [name for name in own if name not in tensors]
    if missing:
        raise IntegrityError(f"{where}: tensor '{missing[0]}' is missing (and {len(missing) - 1} more)")
    module.load_state_dict(tensors)
