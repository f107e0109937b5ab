"""Where weights may come from, and what is refused on the way."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import save, save_file

from sskd_core.errors import ConfigError, IntegrityError
from sskd_core.models import weights as weights_module
from sskd_core.models.weights import copy_into, open_weights

TENSORS = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}


@pytest.fixture
def folder(tmp_path):
    """A folder with weights, and beside them what belongs to somebody else."""
    save_file(TENSORS, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"a": 1}))
    (tmp_path / "README.md").write_text("about")
    return tmp_path


def test_a_local_folder_is_read(folder):
    found = open_weights(str(folder), None)
    assert found.files.keys() == {"config.json", "model.safetensors"}
    assert found.config() == {"a": 1}
    assert all(torch.equal(found.tensors()[name], value) for name, value in TENSORS.items())


def test_sharded_weights_are_joined(tmp_path):
    for number, (name, value) in enumerate(TENSORS.items()):
        save_file({name: value}, tmp_path / f"model-{number}.safetensors")
    assert open_weights(str(tmp_path), None).tensors().keys() == TENSORS.keys()


def test_the_digest_is_that_of_the_files_that_matter(folder):
    before = open_weights(str(folder), None).digest
    (folder / "README.md").write_text("other")
    assert open_weights(str(folder), None, expected=before).digest == before
    (folder / "config.json").write_text("{}")
    assert open_weights(str(folder), None).digest != before


def test_one_flipped_bit_is_refused(folder):
    before = open_weights(str(folder), None).digest
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=f"the run was started with {before}; start a new run"):
        open_weights(str(folder), None, expected=before)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.pkl"])
def test_a_pickle_is_never_read(name, tmp_path):
    path = tmp_path / name

    class Bomb:
        def __reduce__(self):
            return (path.unlink, ())

    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ConfigError, match=rf"only pickled files \({name}\).*convert them to safetensors"):
        open_weights(str(tmp_path), None)
    assert path.exists()


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no model\.safetensors there"):
        open_weights(str(tmp_path), None)


def test_unknown_shipped_weights_are_refused_with_those_that_exist(tmp_path, monkeypatch):
    monkeypatch.setattr(weights_module, "BUILTIN", tmp_path)
    (tmp_path / "small").mkdir()
    save_file(TENSORS, tmp_path / "small" / "model.safetensors")
    assert open_weights("builtin:small", None).tensors().keys() == TENSORS.keys()
    with pytest.raises(ConfigError, match=r"shipped are: builtin:small$"):
        open_weights("builtin:large", None)


def test_without_network_a_hub_id_is_refused_in_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="neither a local folder nor to be had from the hub") as caught:
        open_weights("nobody/no-such-model", None)
    assert "\n" not in str(caught.value)


def test_weights_come_from_the_object_store(store, folder):
    prefix = f"{store.root}/weights/mine"
    for name in ("model.safetensors", "config.json"):
        store.put(f"{prefix}/{name}", (folder / name).read_bytes())
    store.put(f"{prefix}/deeper/model.safetensors", b"of somebody else")
    found = open_weights(prefix + "/", store)
    assert found.config() == {"a": 1}
    assert found.digest == open_weights(str(folder), None).digest
    assert found.files.keys() == {"config.json", "model.safetensors"}


def test_the_object_store_is_searched_before_it_is_refused(store):
    prefix = f"{store.root}/weights/pickled"
    store.put(f"{prefix}/pytorch_model.bin", b"x")
    with pytest.raises(ConfigError, match="only pickled files"):
        open_weights(prefix, store)
    with pytest.raises(ConfigError, match=r"no model\.safetensors there"):
        open_weights(f"{store.root}/weights/nothing", store)
    with pytest.raises(ConfigError, match=r"set storage\.root"):
        open_weights(prefix, None)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_broken_configuration_is_refused(text, folder):
    (folder / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        open_weights(str(folder), None).config()


@pytest.mark.parametrize("data", [b"", b"not safetensors", save(TENSORS)[:-4]])
def test_broken_safetensors_are_refused(data, folder):
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(IntegrityError, match=r"model\.safetensors is not readable safetensors"):
        open_weights(str(folder), None).tensors()


def test_an_absurd_number_of_tensors_is_refused(folder, monkeypatch):
    monkeypatch.setattr(weights_module, "_MAX_TENSORS", 1)
    with pytest.raises(IntegrityError, match="more than 1 tensors; refused"):
        open_weights(str(folder), None).tensors()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.zeros(3, 2)}, r"tensor 'weight' has shape \[3, 2\], the network wants \[2, 3\]"),
        ({"other": torch.zeros(1)}, "tensor 'other' is unknown to the network"),
        ({"bias": None}, r"tensor 'bias' is missing \(and 0 more\)"),
    ],
)
def test_nothing_is_copied_unless_everything_fits(change, message):
    module = torch.nn.Linear(3, 2)
    before = module.weight.clone()
    tensors = {name: value for name, value in {**TENSORS, **change}.items() if value is not None}
    with pytest.raises(IntegrityError, match=message):
        copy_into(module, tensors, "weights of the test")
    assert torch.equal(module.weight, before)


def test_what_fits_is_copied():
    module = torch.nn.Linear(3, 2)
    copy_into(module, TENSORS, "weights of the test")
    assert torch.equal(module.weight, TENSORS["weight"])
    assert torch.equal(module.bias, TENSORS["bias"])
