"""The shipped presets hold what the specification of their method says."""

from __future__ import annotations

import pytest

from sskd_core.config.loading import load_experiment

NETWORKS = {"r50": "r50", "swinl": "swin_l", "dinov2b": "dinov2_b", "dinov2l": "dinov2_l"}
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


BURN_IN = {
    "cityscapes": {5: 15_000, 10: 25_000, 20: 30_000, 30: 35_000},
    "coco": {1: 20_000, 2: 25_000, 5: 30_000, 10: 60_000},
}
GUIDED = [
    *((f"cityscapes_guided_{share}_{net}", 90_000) for share in (5, 10, 20, 30) for net in NETWORKS),
    *((f"coco_guided_{share}_r50", 368_750) for share in (1, 2, 5, 10)),
]


@pytest.mark.parametrize(("name", "iterations"), GUIDED)
def test_guided_distillation_runs_as_published(name, iterations):
    experiment = load_experiment(name)
    data, _, share, net = name.split("_")
    teacher, student = experiment.stages.adapt_teacher, experiment.stages.distill
    assert (teacher.iterations, student.iterations) == (iterations, iterations)
    assert (teacher.strategy, teacher.labeled_sampler, teacher.labeled_batch) == ("supervised", "uniform", 16)
    assert (student.labeled_batch, student.unlabeled_batch, student.labeled_sampler) == (16, 16, "repeat_factor")
    teaching = student.teaching
    assert (teaching.recipe, teaching.burn_in) == ("guided", BURN_IN[data][int(share)])
    assert (teaching.decay, teaching.lambda_u, teaching.burn_in_lambda_u) == (0.9996, 2.0, None)
    assert (teaching.filter.class_threshold, teaching.filter.soft_area) == (0.7, 5.0)
    assert (teaching.filter.nms_iou, teaching.filter.mask_score, teaching.unlabeled_set) == (None, None, "all")
    for run in (teacher, student):
        rates = run.optimizer
        assert (rates.lr, rates.backbone_lr_multiplier, rates.clip_grad_norm) == (1e-4, 0.1, 0.01)
    assert experiment.student == experiment.teacher
    assert experiment.teacher.arch["backbone"] == NETWORKS[net]
    assert f"perc_{share}/" in experiment.data.labeled.annotations
    assert experiment.name == name.replace("_", "-")
