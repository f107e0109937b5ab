"""The online teacher: a network that no optimiser touches, written by copy and by moving average.

Everything that decides when it is written lives in buffers of the module, so that a checkpoint holds it and a run that
goes on repeats no write and skips none.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sskd_core.config.teaching import TeachingConfig
from sskd_core.errors import ConfigError, UserError
from sskd_core.models.protocol import QueryOutput, SegmentationModel

_NEVER = -1
_BINS = 20
_SHOWN_BINS = 5


class OnlineTeacher(nn.Module):
    """A teacher in eval mode.

    Args:
        network: its values at iteration 0; taken over, and frozen.
        config: when it is written.
        patience: iterations in a row that it may give no pseudo-instance.

    Attributes:
        network: the teacher itself.
        switch_at: iteration B, at whose start the burn-in ends; -1 while `auto` waits for it.
    """

    switch_at: Tensor
    _own_score: Tensor
    _silent_steps: Tensor
    _silent_scores: Tensor

    def __init__(self, network: SegmentationModel, config: TeachingConfig, patience: int) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self._config, self._patience = config, patience
        switch_at = _NEVER if config.burn_in == "auto" else config.burn_in
        self.register_buffer("switch_at", torch.tensor(switch_at))
        self.register_buffer("_own_score", torch.tensor(torch.nan, dtype=torch.float64))
        self.register_buffer("_silent_steps", torch.tensor(0))
        self.register_buffer("_silent_scores", torch.zeros(_BINS, dtype=torch.int64))

    def switched(self, step: int) -> bool:
        """Return whether the burn-in is over at the start of an iteration."""
        switch_at = int(self.switch_at)
        return switch_at != _NEVER and step >= switch_at

    @torch.no_grad()
    def write(self, student: SegmentationModel, step: int) -> None:
        """Do what is due at the start of an iteration: nothing, T := S, or T := a T + (1 - a) S.

        Without a gradient graph: a history of averages would grow with every iteration.

        Args:
            student: after `step` updates.
            step: counted from 0.
        """
        if not self.switched(step):
            return
        if self._config.copy_at_switch and step == int(self.switch_at):
            self.network.load_state_dict(student.state_dict())
        elif self._config.update == "ema":
            self._average(student)

    @torch.no_grad()
    def predict(self, pixels: Tensor) -> QueryOutput:
        """Predict in full precision.

        Args:
            pixels: the weak views, [B, 3, H, W].
        """
        with torch.autocast(pixels.device.type, enabled=False):
            output: QueryOutput = self.network(pixels.float())
        return output

    def compare(self, step: int, score: float, own_score: float) -> None:
        """End an `auto` burn-in if the student is as good as its teacher.

        Args:
            step: finished iterations, the first of the next phase.
            score: of the student on val.
            own_score: of the teacher.
        """
        self._own_score.fill_(own_score)
        if score >= own_score:
            self.switch_at.fill_(step)

    @property
    def waits(self) -> bool:
        """Whether an `auto` burn-in still waits for the student."""
        return int(self.switch_at) == _NEVER

    @property
    def own_score(self) -> float | None:
        """Of the teacher on val as it is during burn-in; None until it was needed."""
        score = float(self._own_score)
        return None if math.isnan(score) else score

    def listen(self, instances: int, best_scores: Tensor, step: int) -> None:
        """Count steps without a pseudo-instance.

        Args:
            instances: pseudo-instances of this step.
            best_scores: [B] highest class probability on each image.
            step: counted from 0.

        Raises:
            UserError: there was none for `patience` iterations in a row; says how the scores were distributed.
        """
        if instances:
            self._silent_steps.zero_()
            self._silent_scores.zero_()
            return
        self._silent_steps += 1
        bins = (best_scores * _BINS).long().clamp(0, _BINS - 1)
        self._silent_scores += torch.bincount(bins.cpu(), minlength=_BINS)
        if int(self._silent_steps) >= self._patience:
            raise UserError(self._silence(step))

    def _silence(self, step: int) -> str:
        counts = self._silent_scores.tolist()
        images, width = sum(counts), len(counts) // _SHOWN_BINS
        shares = [
            f"{start / len(counts):.1f}-{(start + width) / len(counts):.1f}: "
            f"{100 * sum(counts[start : start + width]) / images:.0f} %"
            for start in range(0, len(counts), width)
        ]
        return (
            f"the teacher gave no pseudo-label for {int(self._silent_steps)} iterations, up to {step}, on {images} "
            f"images; best class probability an image, {', '.join(shares)}; lower teaching.filter.class_threshold "
            f"({self._config.filter.class_threshold:g}), give the teacher or the burn-in more iterations, or raise "
            "teaching.filter.patience"
        )

    def _average(self, student: SegmentationModel) -> None:
        own, other = self.network.state_dict(keep_vars=True), student.state_dict(keep_vars=True)
        parameters = {name for name, _ in self.network.named_parameters()}
        averaged = [
            name
            for name, value in own.items()
            if value.is_floating_point() and (name in parameters or self._config.average_buffers)
        ]
        torch._foreach_lerp_(
            [own[name].data for name in averaged], [other[name].data for name in averaged], 1.0 - self._config.decay
        )
        for name in own.keys() - set(averaged):
            own[name].data.copy_(other[name].data)


def check_same_network(teacher: SegmentationModel, student: SegmentationModel) -> None:
    """Make sure that a teacher can take a student's values.

    Raises:
        ConfigError: they are different networks.
    """
    ours, theirs = ({name: value.shape for name, value in item.state_dict().items()} for item in (teacher, student))
    if ours != theirs:
        differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        raise ConfigError(
            f"teacher and student are different networks ({differing[0]} differs, {len(differing)} in all), so the "
            "student cannot be copied or averaged into the teacher; give both the same family and arch, or set "
            "teaching.recipe: fixed"
        )
