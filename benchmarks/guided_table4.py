"""Guided Distillation and its rivals on the demo data: the rows of the paper's Tables 4 and 5, and of its Figure 6.

    python benchmarks/guided_table4.py --seeds 0 1 2 --jobs 2      # about an hour and a half on two cores
    python benchmarks/guided_table4.py --table                     # only the tables of what is there

Every arm is the same network, from the same initial weights, for the same number of iterations with the same labelled
batch; the teacher's own run comes on top, as in the paper, and is shared. The student is scored, not its teacher. Eight
images are labelled: where the demo's two dozen are, a network that was pre-trained on the source domain leaves
unlabelled images little to add. The paper's figures are of Cityscapes, Table 4 with 5 % of the labels and Table 5 with
10 %; orderings can be compared with them, values cannot. `ablation.py` says how rows run and where figures are kept.
"""

from __future__ import annotations

from pathlib import Path

from ablation import Ablation, Row

_TEACHING = "stages.distill.teaching."
LABELS = 8
BURN_IN = 200
"""The preset's share of the run; the paper does not say that of its standard burn-in, so it has the same."""
BUDGET = ("tracking.mode='off'", "threads=1", "stages.distill.iterations=300", f"{_TEACHING}burn_in={BURN_IN}")


def strategy(name: str, recipe: str, paper: float | None, burn_in: int = 0) -> Row:
    """Return a row of Table 4 whose teacher labels online."""
    settings = (f"{_TEACHING}recipe={recipe}", f"{_TEACHING}burn_in={burn_in}")
    return Row("strategies", name, "distill", paper, () if recipe == "guided" else settings)


ROWS = (
    Row("strategies", "supervised", "adapt_teacher", 12.1),
    Row(
        "strategies",
        "supervised, repeat-factor sampling",
        "adapt_teacher",
        None,
        ("stages.adapt_teacher.labeled_sampler=repeat_factor",),
    ),
    strategy("no burn-in, teacher := student", "no_burn_in_copy", 16.9),
    strategy("no burn-in, teacher kept", "no_burn_in_keep", None),
    strategy("fixed teacher", "fixed", 18.9),
    strategy("standard burn-in", "standard", 19.3, BURN_IN),
    strategy("guided burn-in", "guided", 23.0, BURN_IN),
    *(
        Row("lambda_u", f"{value:g}", "distill", paper, () if value == 2 else (f"{_TEACHING}lambda_u={value:g}",))
        for value, paper in ((0, 18.8), (0.1, 23.6), (0.5, 24.4), (2, 30.8), (5, 25.5))
    ),
    Row("student's view", "strong", "distill", None),
    *(
        Row("student's view", name, "distill", None, (f"{_TEACHING}view={view}",))
        for name, view in (("strong, erased boxes", "cutout"), ("same as the teacher's", "same"))
    ),
    Row("rules for labels", "class, soft area, no doubles", "distill", None),
    Row("rules for labels", "class and soft area", "distill", None, (f"{_TEACHING}filter.nms_iou=null",)),
    Row(
        "rules for labels",
        "no doubles of another class either",
        "distill",
        None,
        (f"{_TEACHING}filter.nms_across_classes=true",),
    ),
    Row("rules for labels", "+ hard area", "distill", None, (f"{_TEACHING}filter.hard_area=0",)),
    # Polite Teacher's threshold, on the mean probability inside the mask instead of a predicted quality.
    Row(
        "rules for labels",
        "+ mask score gates the mask loss",
        "distill",
        None,
        (f"{_TEACHING}filter.mask_loss_score=0.9",),
    ),
)
ABLATION = Ablation(
    script=Path(__file__).absolute(),
    preset="demo_guided",
    budget=BUDGET,
    rows=ROWS,
    labels=LABELS,
    figures={"pseudo_instances_per_image": "pseudo-labels an image", "images_without_pseudo_label": "images without"},
)

if __name__ == "__main__":
    ABLATION.main(__doc__)
