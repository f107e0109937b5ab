"""The structure of the SSKD paper's tables on the demo data: mask AP on test of every row, several seeds.

    python benchmarks/sskd_ablation.py --seeds 0 1 2 --jobs 2      # hours on two cores; stops and goes on at will
    python benchmarks/sskd_ablation.py --table                     # only the tables of what is there

The paper's figures are of Cityscapes with 10 % of the labels. `ablation.py` says how rows run and where figures are.
"""

from __future__ import annotations

from pathlib import Path

from ablation import LABELS, Ablation, Row

BUDGET = (
    "tracking.mode='off'",
    "threads=1",
    "label_workers=1",
    "stages.train_supervised.iterations=450",
    "stages.distill.iterations=400",
    "stages.refine.iterations=50",
    # As the figures were measured: the demo's student has more detail in its finest map by now, and twice the labels.
    "student.arch.upsample_masks=true",
    "student.arch.neck_sizes=[24, 32, 48, 64]",
    "stages.distill.labeled_batch=1",
    "stages.distill.unlabeled_batch=7",
    "stages.distill.lambda_semi=5.0",
    "stages.distill.contrast.strong_view.hue=0.1",
    *(
        f"stages.{name}.{setting}"
        for name in ("adapt_teacher", "self_train_teacher", "distill")
        # Maps of 6 x 8 cells: of the coarsest ones a cell is as large as an object.
        for setting in ("lambda_pxl=0.1", "contrast.feature_level=2")
    ),
)
"""The same for every row: half of the demo's student, so that a row takes minutes, and the whole objective."""
_NO_PXL = "stages.{}.lambda_pxl=0"
_PLAIN_ADAPT, _PLAIN_SELF, _PLAIN_DISTILL = (
    _NO_PXL.format(name) for name in ("adapt_teacher", "self_train_teacher", "distill")
)
_UNADAPTED = ("stages.adapt_teacher.iterations=0", "stages.self_train_teacher.iterations=0")
_SAMPLER = "stages.distill.contrast.negatives={}"
_OWN_IMAGE = tuple(
    f"stages.distill.contrast.{setting}"
    for setting in ("negative_scope=same_image", "feature_level=1", "num_negatives=48")
)
"""Negatives where mistakes are likely: from the anchor's own image, a quarter of its 12 x 16 cells."""

ROWS = (
    Row("main", "zero-shot teacher", "adapt_teacher", 22.0, (_UNADAPTED[0],)),
    Row("main", "teacher, labels only", "adapt_teacher", 28.7, (_PLAIN_ADAPT,)),
    Row("main", "teacher, self-training", "self_train_teacher", 29.7, (_PLAIN_ADAPT, _PLAIN_SELF)),
    Row("main", "adapted teacher", "self_train_teacher", 30.5),
    Row("main", "student, supervised", "train_supervised", 21.1),
    Row("main", "student, after transfer", "distill", 32.2),
    Row("main", "student, refined", "refine", 33.9),
    Row("teacher's terms", "L_sup", "adapt_teacher", 28.7, (_PLAIN_ADAPT,)),
    Row("teacher's terms", "+ L_pxl", "adapt_teacher", 29.6),
    Row("teacher's terms", "+ L_semi", "self_train_teacher", 29.7, (_PLAIN_ADAPT, _PLAIN_SELF)),
    Row("teacher's terms", "+ both", "self_train_teacher", 30.5),
    Row("student's terms", "L_sup", "train_supervised", 21.1),
    Row(
        "student's terms",
        "+ L_pxl",
        "train_supervised",
        27.5,
        ("stages.train_supervised.lambda_pxl=0.1", "stages.train_supervised.contrast.feature_level=2"),
    ),
    Row("student's terms", "+ L_semi", "distill", 30.7, (_PLAIN_DISTILL,)),
    Row("student's terms", "+ both", "distill", 32.2),
    Row("stages", "all", "refine", 33.9),
    Row("stages", "no refinement", "distill", 32.2),
    Row("stages", "no teacher adaptation", "refine", 25.7, _UNADAPTED),
    Row("stages", "distillation alone", "distill", 23.8, _UNADAPTED),
    Row("stages", "supervised alone", "train_supervised", 21.1),
    Row("negatives", "none (no L_pxl)", "distill", 30.7, (_PLAIN_DISTILL,)),
    Row("negatives", "uniform", "distill", 29.4, (_SAMPLER.format("uniform"),)),
    Row("negatives", "mask", "distill", 30.6, (_SAMPLER.format("mask"),)),
    Row("negatives", "class", "distill", 31.1, (_SAMPLER.format("class"),)),
    Row("negatives", "fusion", "distill", 32.2),
    Row("negatives of the own image", "uniform", "distill", None, (*_OWN_IMAGE, _SAMPLER.format("uniform"))),
    Row("negatives of the own image", "fusion", "distill", None, _OWN_IMAGE),
    *(Row("lambda_pxl", str(value), "distill", None, (f"stages.distill.lambda_pxl={value}",)) for value in (0.01,)),
    Row("lambda_pxl", "0.1", "distill", 32.2),
    *(Row("lambda_pxl", str(value), "distill", None, (f"stages.distill.lambda_pxl={value}",)) for value in (0.2, 0.5)),
    *(
        Row("labels", f"{count}, {name}", scored, None, labels=None if count == LABELS else count)
        for count in (LABELS // 2, LABELS, 2 * LABELS)
        for name, scored in (("teacher", "self_train_teacher"), ("after transfer", "distill"), ("refined", "refine"))
    ),
)


ABLATION = Ablation(
    script=Path(__file__).absolute(),
    preset="demo",
    budget=BUDGET,
    rows=ROWS,
    figures={"contrast_margin": "margin", "contrast_fnr_truth": "FNR, truth"},
)

if __name__ == "__main__":
    ABLATION.main(__doc__)
