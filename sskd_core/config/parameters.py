"""What a pipeline run is asked in a form: name, type, default and meaning of each field, and the setting behind it.

The one list of them, with a form for each method. Pipelines and their first component take their signatures from here,
so it imports nothing that a component may not import. A parameter of type `str` or `list` that is empty leaves the
setting as `experiment` has it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

EXPERIMENT = "experiment"
OVERRIDES = "overrides"


@dataclass(frozen=True)
class Parameter:
    """One field of the form.

    Attributes:
        name: of the field.
        type: what KFP makes of it: `str`, `int`, `float`, `bool`, `list` or `dict`.
        path: the setting, with dots; empty for the two that stand for many.
        meaning: one line, shown beside the field.
        default: None for a field that must be filled in.
    """

    name: str
    type: type
    path: str
    meaning: str
    default: object = None


PARAMETERS: tuple[Parameter, ...] = (
    Parameter("name", str, "name", "Name of the run, also in the report: lower-case letters, digits, - and _.", "sskd"),
    Parameter("storage_root", str, "storage.root", "Prefix that everything is written below, s3://bucket/prefix."),
    Parameter("storage_endpoint", str, "storage.endpoint_url", "URL of the S3 endpoint; empty for AWS.", ""),
    Parameter("labeled_annotations", str, "data.labeled.annotations", "COCO instance file of the labelled images."),
    Parameter("labeled_images", str, "data.labeled.images", "Prefix of the labelled images."),
    Parameter("unlabeled_images", list, "data.unlabeled", "Prefixes of the unlabelled images, a JSON list of URIs."),
    Parameter("classes", list, "data.classes", "Class names in order, a JSON list; [] takes the COCO file's.", ()),
    Parameter("teacher_family", str, "teacher.family", "Network of the teacher.", "mask2former"),
    Parameter(
        "teacher_weights",
        str,
        "teacher.weights",
        "What the teacher starts from: s3:// prefix, hub id or folder.",
        "builtin:demo-teacher",
    ),
    Parameter("student_family", str, "student.family", "Network of the student.", "dinov2_dpt"),
    Parameter(
        "student_encoder",
        str,
        "student.encoder_weights",
        "What the student's encoder starts from, likewise.",
        "builtin:demo-student-encoder",
    ),
    Parameter("seed", int, "seed", "Seed of every generator.", 0),
    Parameter(
        "score_threshold",
        float,
        "stages.pseudo_label.score_threshold",
        "Least score of a pseudo-label, 0 to 1: class score x mask score.",
        0.5,
    ),
    Parameter(
        "lambda_semi", float, "stages.distill.lambda_semi", "Weight of the pseudo-labels when the student learns.", 3.0
    ),
    Parameter("lambda_pxl", float, "stages.distill.lambda_pxl", "Weight of the pixel contrast; 0 leaves it out.", 0.1),
    Parameter("adapt_iterations", int, "stages.adapt_teacher.iterations", "Steps of the teacher on labels alone.", 80),
    Parameter(
        "self_train_iterations",
        int,
        "stages.self_train_teacher.iterations",
        "Steps of the teacher on labels and its own pseudo-labels.",
        100,
    ),
    Parameter(
        "supervised_iterations",
        int,
        "stages.train_supervised.iterations",
        "Steps of the student on labels alone, the figure to beat; as many as the next two together.",
        900,
    ),
    Parameter("distill_iterations", int, "stages.distill.iterations", "Steps of the student on pseudo-labels.", 850),
    Parameter("refine_iterations", int, "stages.refine.iterations", "Steps of the student on labels, at last.", 50),
    Parameter("label_workers", int, "label_workers", "Labelling tasks that run side by side, 1 to 100.", 2),
    Parameter(
        "gate_min_mask_ap", float, "stages.gate.min_mask_ap", "Mask AP on test below which nothing is promoted.", 10.0
    ),
    Parameter(
        "gate_min_gain",
        float,
        "stages.gate.min_gain_over_supervised",
        "AP points that the student must gain over the one that saw labels alone.",
        1.0,
    ),
    Parameter("tracking_mode", str, "tracking.mode", "MLflow: auto, own, injected or off.", "auto"),
    Parameter("tracking_uri", str, "tracking.uri", "MLflow server; empty takes $MLFLOW_TRACKING_URI.", ""),
    Parameter("registered_model", str, "tracking.registered_model", "Name in the MLflow registry.", "sskd-student"),
    Parameter(
        EXPERIMENT,
        str,
        "",
        "Everything that has no field of its own, as YAML or JSON; the fields are laid over it.",
        "{preset: demo, data: {}}",
    ),
    Parameter(OVERRIDES, dict, "", 'Laid over all others, e.g. {"stages": {"refine": {"val_every": 10}}}.', ()),
)
_ELSEWHERE = {
    "name": "guided",
    EXPERIMENT: "{preset: demo_guided, data: {}}",
    "adapt_iterations": 300,
    "distill_iterations": 600,
    "gate_min_gain": 0.0,
}
"""Defaults of Guided Distillation's form that differ."""
_SSKD_ALONE = (
    "student_family",
    "student_encoder",
    "score_threshold",
    "lambda_semi",
    "lambda_pxl",
    "self_train_iterations",
    "supervised_iterations",
    "refine_iterations",
    "label_workers",
)
_GUIDED_ALONE = (
    Parameter(
        "burn_in",
        str,
        "stages.distill.teaching.burn_in",
        "Steps before the teacher follows the student; auto: until the student is as good on val.",
        "auto",
    ),
    Parameter("lambda_u", float, "stages.distill.teaching.lambda_u", "Weight of the unlabelled images.", 2.0),
    Parameter(
        "class_threshold",
        float,
        "stages.distill.teaching.filter.class_threshold",
        "Class probability above which a prediction of the teacher becomes a label, 0 to 1.",
        0.7,
    ),
)
_SHARED = tuple(
    replace(item, default=_ELSEWHERE.get(item.name, item.default))
    for item in PARAMETERS
    if item.name not in _SSKD_ALONE
)
_PLACE = next(number for number, item in enumerate(_SHARED) if item.name == "adapt_iterations")
GUIDED_PARAMETERS = (*_SHARED[:_PLACE], *_GUIDED_ALONE, *_SHARED[_PLACE:])
"""The form of Guided Distillation, whose student is the same network as its teacher."""
FORMS = {"sskd": PARAMETERS, "guided": GUIDED_PARAMETERS}
METHOD = Parameter("method", str, "method", "Method of the pipeline; it decides which stages there are.")
EVERY_PARAMETER = (METHOD, *PARAMETERS, *_GUIDED_ALONE)
"""What the first component takes: the fields of all forms; a pipeline passes its own."""
LOCATING = tuple(
    item for item in PARAMETERS if item.name in ("storage_root", "storage_endpoint", EXPERIMENT, OVERRIDES)
)
"""The fields that say where the store is."""
