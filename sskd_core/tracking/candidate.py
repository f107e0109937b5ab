"""What stands behind a version that is up for promotion: the manifests that its registration names, each verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sskd_core.errors import IntegrityError, StorageError, UserError
from sskd_core.evaluation.delivered import delivered
from sskd_core.evaluation.matches import MATCHES, SplitMatches, decode_matches
from sskd_core.storage.manifest import InputRef, Manifest
from sskd_core.storage.store import ObjectStore

MANIFEST_TAG = "sskd.manifest."
"""Tags `sskd.manifest.<input>` of a version hold `<uri> <digest>` of the manifests that it was registered from."""
ORIGINS = ("student", "evaluation", "onnx")
CHAMPION = "champion"
"""In an evaluation, the champion that the student was measured beside."""


@dataclass(frozen=True)
class Candidate:
    """A student and what is known of it.

    Attributes:
        student: manifest of the stage that delivered the network.
        evaluation: of `evaluate`.
        onnx: of `export_onnx`.
        data: of `prepare`, whose test split the evaluation used.
        labels: of the pseudo-labels that the student learned from; None for one that learned from none.
    """

    student: Manifest
    evaluation: Manifest
    onnx: Manifest
    data: Manifest
    labels: Manifest | None

    @property
    def reference(self) -> InputRef:
        """The manifest of the student."""
        return InputRef(uri=self.student.uri, digest=self.student.digest)

    @property
    def row(self) -> str:
        """The student's name in its evaluation.

        Raises:
            IntegrityError: the evaluation measured no student.
        """
        name = delivered({key.partition("/")[0] for key in self.evaluation.metrics})
        if name is None:
            raise IntegrityError(f"{self.evaluation.uri}: no student was evaluated; wrong manifest passed?")
        return name

    def matches(self, model: str, store: ObjectStore) -> SplitMatches:
        """Return what a model of the evaluation found on each test image.

        Raises:
            IntegrityError: the evaluation kept none, or they are not those that it wrote.
        """
        output = self.evaluation.output(f"{MATCHES}{model}")
        return decode_matches(store.read(output), output.uri)


def candidate_of(origins: Mapping[str, Manifest], store: ObjectStore) -> Candidate:
    """Return the candidate of the manifests that a `register` stage reads.

    Args:
        origins: `student`, `evaluation` and `onnx`.
        store: where the manifests that those name are read.

    Raises:
        IntegrityError: a manifest on the way is not the one that was used.
        StorageError: it is gone.
    """
    student, evaluation = origins["student"], origins["evaluation"]
    data = _follow(evaluation, "data", store)
    return Candidate(student, evaluation, origins["onnx"], data, _labels(student, store))


def origin_references(tags: Mapping[str, str], where: str) -> dict[str, InputRef]:
    """Read from a version's tags which manifests it was registered from.

    Args:
        tags: of the version.
        where: what to call it in the message.

    Raises:
        UserError: it names none, so another tool registered it.
    """
    found = {
        key.removeprefix(MANIFEST_TAG): InputRef(uri=value.split(" ")[0], digest=value.split(" ")[-1])
        for key, value in sorted(tags.items())
        if key.startswith(MANIFEST_TAG)
    }
    if not found:
        raise UserError(f"{where} was not registered by sskd: it names no manifest")
    return found


def load_candidate(tags: Mapping[str, str], where: str, store: ObjectStore) -> Candidate:
    """Return the candidate behind a registered version.

    Raises:
        UserError: another tool registered it, or what it names is gone or altered; with the digests.
    """
    references = origin_references(tags, where)
    absent = [name for name in ORIGINS if name not in references]
    if absent:
        raise UserError(f"{where} names no manifest of its {absent[0]}; register it again")
    try:
        manifests = {name: store.manifest(references[name].uri, references[name].digest) for name in ORIGINS}
        return candidate_of(manifests, store)
    except (IntegrityError, StorageError) as error:
        raise UserError(f"{where} cannot be judged: {error}") from None


def _labels(student: Manifest, store: ObjectStore) -> Manifest | None:
    """Follow the students back to the stage that read pseudo-labels."""
    current = student
    while "labels" not in current.inputs:
        if "student" not in current.inputs:
            return None
        current = _follow(current, "student", store)
    return _follow(current, "labels", store)


def _follow(manifest: Manifest, name: str, store: ObjectStore) -> Manifest:
    if name not in manifest.inputs:
        raise IntegrityError(f"{manifest.uri}: the {manifest.stage} stage read no '{name}'; wrong manifest passed?")
    reference = manifest.inputs[name]
    return store.manifest(reference.uri, reference.digest)
