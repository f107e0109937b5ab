"""The grounded teacher from published folders, and from what a stage delivered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from engine_fixtures import CLASSES, delivered
from grounding_fixtures import SEGMENTER, SIZE, grounded_config, save_detector, tiny_teacher
from safetensors.torch import load_file, save_file
from transformers import MMGroundingDinoForObjectDetection, Sam2Model, Sam2VideoConfig, Sam2VideoModel
from transformers.models.sam2_video.configuration_sam2_video import Sam2VideoMaskDecoderConfig

from sskd_core.config.base import validate
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.model import ModelConfig
from sskd_core.errors import ConfigError, IntegrityError
from sskd_core.models.build import build_model
from sskd_core.models.pin import pin_weights
from sskd_core.models.tied import tied_names
from sskd_core.models.trained import CONFIG, WEIGHTS, load_trained, save_trained
from sskd_core.storage.manifest import Manifest
from tests.micro import micro_experiment

TOKENIZER = "model/tokenizer.json"


def pixels() -> torch.Tensor:
    return torch.randn(1, 3, SIZE.height, SIZE.width, generator=torch.Generator().manual_seed(0))


def same(one, other) -> bool:
    """Say whether two teachers see the same."""
    with torch.no_grad():
        first, second = one.eval()(pixels()), other.eval()(pixels())
    return torch.equal(first.answers[0].logits, second.answers[0].logits) and torch.equal(
        first.mask_logits[0], second.mask_logits[0]
    )


def edit(folder: Path, to: Path, **changes: torch.Tensor | None) -> Path:
    """Copy a folder and change its tensors; None takes one out."""
    shutil.copytree(folder, to)
    tensors = {**load_file(to / "model.safetensors"), **changes}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, to / "model.safetensors", {"format": "pt"})
    return to


def test_the_values_are_the_published_ones(teacher_parts, capfd):
    capfd.readouterr()
    teacher = tiny_teacher(*teacher_parts)
    assert capfd.readouterr() == ("", "")
    official = MMGroundingDinoForObjectDetection.from_pretrained(teacher_parts[0]).state_dict()
    ours = teacher.detector.state_dict()
    assert official.keys() - ours.keys() == tied_names(teacher.detector).keys()
    assert all(torch.equal(ours[name], official[name]) for name in ours)
    segmenter = Sam2Model.from_pretrained(teacher_parts[1]).state_dict()
    assert all(torch.equal(value, segmenter[name]) for name, value in teacher.segmenter.state_dict().items())


def test_they_come_from_the_object_store(teacher_parts, store):
    for part, folder in zip(("detector", "segmenter"), teacher_parts, strict=True):
        for path in folder.iterdir():
            store.put(f"{store.root}/{part}/{path.name}", path.read_bytes())
    places = {part: f"{store.root}/{part}" for part in ("detector", "segmenter")}
    config = ModelConfig(family="grounded_sam", grounding=places, input=SIZE)
    assert same(build_model(config, CLASSES, store, seed=0), tiny_teacher(*teacher_parts))


def test_a_sam_for_video_gives_its_image_part(teacher_parts, tmp_path):
    """As the official checkpoints are published."""
    torch.manual_seed(0)
    small = {"memory_attention_hidden_size": 32, "memory_attention_num_layers": 1, "memory_encoder_hidden_size": 32}
    # An object, because one release reads a mapping as the settings of another part.
    parts = SEGMENTER | {"mask_decoder_config": Sam2VideoMaskDecoderConfig(**SEGMENTER["mask_decoder_config"])}
    video = Sam2VideoModel(Sam2VideoConfig(**parts, **small, image_size=64, memory_encoder_output_channels=16))
    video.save_pretrained(tmp_path)
    teacher = tiny_teacher(teacher_parts[0], tmp_path)
    official = video.state_dict()
    assert all(torch.equal(value, official[name]) for name, value in teacher.segmenter.state_dict().items())


def test_tensors_of_another_shape_are_refused_and_the_first_is_named(teacher_parts, tmp_path):
    wide = edit(teacher_parts[0], tmp_path / "d", **{"model.text_projection.weight": torch.zeros(64, 17)})
    with pytest.raises(
        IntegrityError,
        match=r"weights \S+/d: tensor 'model\.text_projection\.weight' has shape \[64, 17\], .* wants \[64, 16\]",
    ):
        tiny_teacher(wide, teacher_parts[1])
    less = edit(teacher_parts[1], tmp_path / "s", **{"no_memory_embedding": None})
    with pytest.raises(IntegrityError, match=r"weights \S+/s: tensor 'no_memory_embedding' is missing"):
        tiny_teacher(teacher_parts[0], less)
    more = edit(teacher_parts[0], tmp_path / "m", **{"model.extra.weight": torch.zeros(2)})
    with pytest.raises(IntegrityError, match=r"tensor 'model\.extra\.weight' is unknown to the network"):
        tiny_teacher(more, teacher_parts[1])


def test_an_architecture_that_is_not_that_of_the_tensors_is_refused(teacher_parts, tmp_path):
    folder = save_detector(tmp_path / "deep", encoder_layers=2)
    shutil.copy(teacher_parts[0] / "config.json", folder / "config.json")
    with pytest.raises(IntegrityError, match=r"tensor 'model\.encoder\.layers\.1\.\S+' is unknown to the network"):
        tiny_teacher(folder, teacher_parts[1])


def test_networks_of_another_kind_are_refused(teacher_parts):
    detector, segmenter = teacher_parts
    with pytest.raises(ConfigError, match=r"a model of type sam2, grounding\.detector takes mm-grounding-dino"):
        tiny_teacher(segmenter, segmenter)
    with pytest.raises(ConfigError, match=r"a model of type mm-grounding-dino, grounding\.segmenter takes sam2"):
        tiny_teacher(detector, detector)


def test_a_detector_without_its_tokenizer_is_refused(teacher_parts, tmp_path):
    folder = shutil.copytree(teacher_parts[0], tmp_path / "d")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(
        ConfigError, match=r"no tokenizer\.json there; save the detector's tokenizer beside its weights"
    ):
        tiny_teacher(folder, teacher_parts[1])


def test_a_class_that_cannot_be_asked_for_is_refused_when_the_teacher_is_built(teacher_parts):
    with pytest.raises(ConfigError, match=r"class 'zebra': .* in other words with grounding\.phrases"):
        tiny_teacher(*teacher_parts, ["zebra"])


def test_a_hub_id_without_network_says_what_to_do(teacher_parts, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    grounding = {"detector": "nobody/no-such-detector", "segmenter": str(teacher_parts[1])}
    config = ModelConfig(family="grounded_sam", grounding=grounding, input=SIZE)
    with pytest.raises(ConfigError, match=r"nobody/no-such-detector.*without network give a folder or an s3:// prefix"):
        build_model(config, CLASSES, None, seed=0)


def test_a_delivered_teacher_needs_nothing_else(teacher_parts, store):
    """Its prompts and thresholds are those that it was trained with, and its tokenizer is beside its weights."""
    teacher = tiny_teacher(*teacher_parts, phrases={"disc": ["round thing"]}, score_threshold=0.25)
    manifest = delivered(teacher, store)
    assert [ref.name for ref in manifest.outputs] == [CONFIG, WEIGHTS, TOKENIZER]
    card = json.loads(store.read(manifest.output(CONFIG)))
    assert not {"detector", "segmenter"} & card["model"]["grounding"].keys()
    loaded = load_trained(manifest, store)
    assert loaded.prompts == teacher.prompts
    assert loaded.grounding.score_threshold == 0.25
    assert same(loaded, teacher)
    again = save_trained(loaded, store, f"{store.root}/again")
    assert [ref.digest for ref in again] == [ref.digest for ref in manifest.outputs]


def test_a_delivered_prefix_serves_as_weights_for_other_classes(teacher_parts, store):
    teacher = tiny_teacher(*teacher_parts)
    location = delivered(teacher, store).output(WEIGHTS).uri.rsplit("/", 1)[0]
    config = ModelConfig(family="grounded_sam", grounding={}, input=SIZE, weights=location)
    assert same(build_model(config, CLASSES, store, seed=0), teacher)
    other = build_model(config, ["a", "traffic light"], store, seed=0)
    assert [span.category for span in other.prompts[0].spans] == [0, 1]


def test_a_tokenizer_that_was_changed_is_refused(teacher_parts, store):
    manifest: Manifest = delivered(tiny_teacher(*teacher_parts), store)
    ref = manifest.output(TOKENIZER)
    store.put(ref.uri, store.get(ref.uri) + b" ")
    with pytest.raises(IntegrityError, match=r"model/tokenizer\.json"):
        load_trained(manifest, store)


def experiment(store, teacher: ModelConfig) -> ExperimentConfig:
    data = {"labeled": {"annotations": "a.json", "images": "images"}, "unlabeled": ["images"]}
    return micro_experiment(store.config, data, teacher=teacher.model_dump(mode="json"))


def test_a_run_pins_both_parts(teacher_parts, tmp_path, store):
    folder = shutil.copytree(teacher_parts[0], tmp_path / "d")
    config = grounded_config(folder, teacher_parts[1])
    pinned = pin_weights(experiment(store, config), store).teacher
    assert pinned.grounding.detector_digest != pinned.grounding.segmenter_digest
    build_model(pinned, CLASSES, None, seed=0)
    assert pin_weights(experiment(store, pinned), store).teacher == pinned
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + " ")
    with pytest.raises(IntegrityError, match=r"digest is sha256:\S+, the run was started with sha256:"):
        build_model(pinned, CLASSES, None, seed=0)


def test_the_configuration_survives_its_json_form(teacher_parts):
    config = grounded_config(*teacher_parts, phrases={"disc": ["a", "b"]}, class_thresholds={"box": 0.5})
    assert validate(ModelConfig, config.model_dump(mode="json"), "x") == config
