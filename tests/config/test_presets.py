"""The shipped presets hold what the specification of their method says."""

from __future__ import annotations

import pytest

from sskd_core.config.loading import load_experiment

CITYSCAPES = [f"cityscapes_sskd_{share}" for share in (5, 10, 30)]


@pytest.mark.parametrize("name", [*CITYSCAPES, "ade20k_sskd_10"])
def test_the_objective_is_the_method_s(name):
    stages = load_experiment(name).stages
    for node in ("adapt_teacher", "self_train_teacher", "distill"):
        train = getattr(stages, node)
        assert train.lambda_pxl == 0.1, node
        contrast = train.contrast
        assert (contrast.negatives, contrast.negative_scope, contrast.num_negatives) == ("fusion", "batch", 200)
        assert (contrast.temperature.start, contrast.temperature.end) == (0.3, 0.07)
        assert (contrast.projector_dim, contrast.feature_level) == (128, -1)
    assert stages.adapt_teacher.strategy == stages.refine.strategy == "supervised"
    assert stages.self_train_teacher.strategy == stages.distill.strategy == "semi_supervised"
    assert stages.self_train_teacher.lambda_semi == stages.distill.lambda_semi == 1.0
    assert stages.refine.lambda_pxl == stages.train_supervised.lambda_pxl == 0.0
    # The baseline sees as many iterations as the student that it is compared with.
    assert stages.train_supervised.iterations == stages.distill.iterations + stages.refine.iterations


@pytest.mark.parametrize("name", CITYSCAPES)
def test_the_fractions_of_cityscapes_differ_in_the_data_alone(name):
    other, ten = load_experiment(name), load_experiment("cityscapes_sskd_10")
    assert (other.stages, other.teacher, other.student) == (ten.stages, ten.teacher, ten.student)
    share = name.rsplit("_", 1)[1]
    assert f"perc_{share}/" in other.data.labeled.annotations
    assert other.data.unlabeled == [f"s3://datasets/cityscapes/perc_{share}/unlabeled"]


def test_cityscapes_trains_as_published():
    stages = load_experiment("cityscapes_sskd_10").stages
    student = stages.distill
    assert (student.iterations, student.labeled_batch + student.unlabeled_batch) == (90_000, 8)
    optimizer = student.optimizer
    assert (optimizer.lr, optimizer.weight_decay, optimizer.backbone_lr_multiplier) == (5e-5, 0.1, 0.1)
    assert (optimizer.clip_grad_norm, optimizer.schedule, optimizer.warmup_iterations) == (0.01, "poly", 0)
    assert student.augment.crop == (512, 1024)
    assert stages.adapt_teacher.optimizer.milestones == (700, 900)
    assert stages.self_train_teacher.optimizer.milestones == (6000, 9000)


def test_ade20k_changes_rate_length_and_size():
    experiment = load_experiment("ade20k_sskd_10")
    student = experiment.stages.distill
    assert (student.optimizer.lr, student.optimizer.weight_decay, student.iterations) == (1e-4, 0.05, 160_000)
    assert student.augment.crop == (experiment.student.input.height, experiment.student.input.width) == (630, 630)
    assert student.optimizer.schedule == "poly"
