"""Promotion and rollback: a decision in the log, then the aliases that follow from it.

Every command first makes the registry follow the newest decision, so whatever was cut off between two calls is
completed by the next command, whichever it is. After its last call it looks at the log again, so a slow process that
was overtaken does not leave its older state behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sskd_core.config.gate import GateConfig
from sskd_core.errors import IntegrityError, StorageError, UserError
from sskd_core.storage.digest import canonical_json
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.candidate import Candidate, load_candidate
from sskd_core.tracking.comparison import judge, unreadable
from sskd_core.tracking.decisions import Decision, DecisionLog, Holder
from sskd_core.tracking.gate import GateRecord
from sskd_core.tracking.registry import (
    CHALLENGER,
    FILE_TAG,
    FINGERPRINT_TAG,
    GATE_TAG,
    VERDICT_TAG,
    aliases,
    find_versions,
    refusals,
    resolve,
    set_tags,
)

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

PREVIOUS = "previous"
REASON_TAG = "sskd.forced_because"


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes:
        status: `promoted`, `unchanged` (it was champion), `refused` by the gate, or `rolled back`.
        champion: number of the version that is champion now; None when there is none.
        previous: likewise of the one before.
        gate: the record; None where nothing was judged.
    """

    status: Literal["promoted", "unchanged", "refused", "rolled back"]
    champion: str | None
    previous: str | None
    gate: dict[str, Any] | None = None


class Promotion:
    """Moves one alias of one registered model.

    Args:
        client: of the registry.
        store: keeps the decisions.
        name: of the registered model.
        alias: that a champion has.
    """

    def __init__(self, client: MlflowClient, store: ObjectStore, name: str, alias: str = "champion") -> None:
        self._client, self._store, self._name, self._alias = client, store, name, alias
        self.log = DecisionLog(store, name, alias)

    def promote(self, version: ModelVersion, policy: GateConfig, reason: str | None = None) -> Outcome:
        """Make a version champion if the gate agrees.

        Args:
            version: registered by `ensure_version`.
            policy: of the gate.
            reason: makes it champion also against the gate, and is recorded.

        Raises:
            UserError: another tool registered the version, what it names is gone or altered, or the registry refuses.
        """
        challenger = load_candidate(version.tags, self._called(version), self._store)
        _verify_file(version, self._called(version), self._store)
        while True:
            head = self.settle()
            champion = self._champion(head)
            if champion is not None and champion.fingerprint == version.tags[FINGERPRINT_TAG]:
                return self._outcome("unchanged", None if head is None else head.gate)
            record = self._judge(policy, challenger, champion)
            if not record.passed and reason is None:
                with refusals(f"record the verdict on {self._called(version)}"):
                    gate = canonical_json(record.to_dict()).decode()
                    set_tags(self._client, version, {GATE_TAG: gate, VERDICT_TAG: "rejected"})
                return self._outcome("refused", record.to_dict())
            decision = Decision(
                number=_next(head),
                action="promote",
                champion=Holder(version=str(version.version), fingerprint=version.tags[FINGERPRINT_TAG]),
                previous=champion,
                gate=record.to_dict(),
                forced=not record.passed,
                reason=reason,
            )
            if self.log.append(decision):
                self.settle()
                return self._outcome("promoted", record.to_dict())

    def rollback(self, reason: str | None = None) -> Outcome:
        """Give the alias back to the version that had it before; a second rollback undoes the first.

        A rollback that was cut off is completed and not repeated.

        Raises:
            UserError: there is no version before, or its file is gone or altered.
        """
        while True:
            head = self.log.head()
            if head is not None and head.action == "rollback" and not self._follows(head):
                self.settle()
                return self._outcome("rolled back")
            head = self.settle()
            champion, previous = self._champion(head), self._holder(head, PREVIOUS)
            if champion is None or previous is None:
                raise UserError(f"model '{self._name}' has no version with the alias '{PREVIOUS}' to go back to")
            version = self._version(previous)
            if version is None:
                raise UserError(f"the registry has no version {previous.version} of '{self._name}' any more")
            _verify_file(version, self._called(version), self._store)
            decision = Decision(
                number=_next(head), action="rollback", champion=previous, previous=champion, reason=reason
            )
            if self.log.append(decision):
                self.settle()
                return self._outcome("rolled back")

    def was_promoted(self, fingerprint: str) -> Decision | None:
        """Return the decision that first made a version champion, or None."""
        decisions = (item for item in self.log.all() if item.action == "promote")
        return next((item for item in decisions if item.champion.fingerprint == fingerprint), None)

    def settle(self) -> Decision | None:
        """Make the registry follow the newest decision, and return it.

        Raises:
            UserError: the registry refuses.
        """
        head = self.log.head()
        while head is not None:
            with refusals(f"set the aliases of '{self._name}'"):
                self._apply(head)
            newest = self.log.head()
            if newest is None or newest.number == head.number:
                break
            head = newest
        return head

    def _apply(self, decision: Decision) -> None:
        """Set what differs: the alias that one can fall back to first, then the champion's, then what tells of it."""
        current = aliases(self._client, self._name)
        champion = self._version(decision.champion)
        if champion is None:
            return  # this registry was made anew and does not have it yet
        previous = None if decision.previous is None else self._version(decision.previous)
        wanted = {PREVIOUS: previous, self._alias: champion}
        for alias, version in wanted.items():
            if version is not None and current.get(alias) != str(version.version):
                self._client.set_registered_model_alias(self._name, alias, version.version)
        if current.get(CHALLENGER) == str(champion.version):
            self._client.delete_registered_model_alias(self._name, CHALLENGER)
        if decision.action == "promote":
            set_tags(self._client, champion, _tags(decision))

    def _follows(self, decision: Decision) -> bool:
        """Return whether the registry already says what a decision says."""
        current = aliases(self._client, self._name)
        holders = {self._alias: decision.champion, PREVIOUS: decision.previous}
        versions = {alias: self._version(item) for alias, item in holders.items() if item is not None}
        return all(item is None or current.get(alias) == str(item.version) for alias, item in versions.items())

    def _judge(self, policy: GateConfig, challenger: Candidate, champion: Holder | None) -> GateRecord:
        version = None if champion is None else self._version(champion)
        if version is None:
            return judge(policy, challenger, None, self._store)
        try:
            current = load_candidate(version.tags, self._called(version), self._store)
        except UserError as error:
            return unreadable(policy, challenger, str(error))
        return judge(policy, challenger, current, self._store)

    def _champion(self, head: Decision | None) -> Holder | None:
        return self._holder(head, self._alias)

    def _holder(self, head: Decision | None, alias: str) -> Holder | None:
        """Return who has an alias: as decided, or before the first decision as the registry says."""
        if head is not None:
            return head.champion if alias == self._alias else head.previous
        number = aliases(self._client, self._name).get(alias)
        if number is None:
            return None
        tags = self._client.get_model_version(self._name, number).tags
        return Holder(version=number, fingerprint=tags.get(FINGERPRINT_TAG))

    def _version(self, holder: Holder) -> ModelVersion | None:
        if holder.fingerprint is None:
            return resolve(self._client, self._name, holder.version)
        found = find_versions(self._client, self._name, holder.fingerprint)
        return found[0] if found else None

    def _called(self, version: ModelVersion) -> str:
        return f"version {version.version} of model '{self._name}'"

    def _outcome(
        self, status: Literal["promoted", "unchanged", "refused", "rolled back"], gate: object = None
    ) -> Outcome:
        current = aliases(self._client, self._name)
        record = gate if isinstance(gate, dict) else None
        return Outcome(status, current.get(self._alias), current.get(PREVIOUS), record)


def _next(head: Decision | None) -> int:
    return 1 if head is None else head.number + 1


def _tags(decision: Decision) -> dict[str, str]:
    tags = {VERDICT_TAG: "forced" if decision.forced else "passed"}
    if decision.gate is not None:
        tags[GATE_TAG] = canonical_json(decision.gate).decode()
    if decision.forced and decision.reason is not None:
        tags[REASON_TAG] = decision.reason
    return tags


def _verify_file(version: ModelVersion, called: str, store: ObjectStore) -> None:
    """Read the file that the alias would lead to.

    Raises:
        UserError: it is gone or altered; with the digests.
    """
    if FILE_TAG not in version.tags:
        raise UserError(f"{called} was not registered by sskd: it has no tag '{FILE_TAG}'")
    uri, digest = version.tags[FILE_TAG].split(" ")
    try:
        store.get(uri, digest)
    except IntegrityError as error:
        raise UserError(f"{called} cannot be served: {error}") from None
    except StorageError as error:
        raise UserError(f"{called} cannot be served, its file with digest {digest} is gone: {error}") from None
