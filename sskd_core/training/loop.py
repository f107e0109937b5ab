"""The one training loop. Methods differ in the strategy that it is given, not here.

Every step seeds the global generators from (seed, step), so a run that stops and goes on computes on a CPU, bit for
bit, what an uninterrupted one computes. In several processes each runs this loop on its part of every batch; the first
alone validates, writes checkpoints and logs.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sskd_core.config.train import TrainConfig
from sskd_core.data.sampling import generator
from sskd_core.distributed import group
from sskd_core.errors import UserError
from sskd_core.interrupt import StopSignal
from sskd_core.models.protocol import SegmentationModel
from sskd_core.progress import Progress
from sskd_core.strategies.base import Part, StepTerms, Strategy
from sskd_core.tracking.run import TrackingRun
from sskd_core.training.checkpoint import CheckpointStore, Progression
from sskd_core.training.optimizer import learning_rate, make_optimizer, set_learning_rate
from sskd_core.training.processes import Computation, computation, led

log = logging.getLogger(__name__)
_PROGRESS_SECONDS = 0.5


@dataclass
class Outcome:
    """What a run delivers.

    Attributes:
        model: with the delivered weights, in eval mode.
        state: curves and the best validation.
        val_score: of the delivered weights, as `validate` gave it.
    """

    model: SegmentationModel
    state: Progression
    val_score: float


class Trainer:
    """Runs one strategy on one model.

    Args:
        model: what is trained, on its device.
        strategy: the terms of a step.
        config: length, optimiser, intervals.
        seed: the run's seed.
        validate: score of a model on val, higher is better.
        checkpoints: where the state is kept.
        progress: live view.
        run: MLflow run.
        metric: what `validate` measures; the curve is `val/<metric>`.
        start_counts: the weights that training goes on from stand for selection, too, so that with `select: best` what
            is delivered is never worse on val.
    """

    def __init__(
        self,
        model: SegmentationModel,
        strategy: Strategy,
        config: TrainConfig,
        seed: int,
        validate: Callable[[SegmentationModel], float],
        checkpoints: CheckpointStore,
        progress: Progress,
        run: TrackingRun,
        metric: str = "mask_ap",
        start_counts: bool = False,
    ) -> None:
        self._model, self._strategy, self._config, self._seed = model, strategy, config, seed
        self._validate, self._checkpoints, self._progress, self._run = led(validate), checkpoints, progress, run
        self._metric, self._start_counts = metric, start_counts
        self._optimizer = make_optimizer(model, config.optimizer, strategy.extra)
        self._compute: Computation = computation(model, strategy.extra)
        self._device = next(model.parameters()).device
        self._average = (
            None
            if config.ema_decay is None
            else AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
        )
        self._state = Progression()
        self._latest_score: float | None = None

    def fit(self) -> Outcome:
        """Train to the end, from the latest checkpoint if there is one.

        Raises:
            Interrupted: a signal arrived; the state is saved.
            UserError: the loss is no longer finite.
        """
        self._state = self._checkpoints.restore(self._modules(), self._optimizer)
        if self._state.step:
            self._progress.note(f"resumed at iteration {self._state.step} of {self._config.iterations}")
        elif self._start_counts or self._config.iterations == 0:
            self._validate_now()
        saved = shown = time.monotonic()
        with StopSignal() as stop, contextlib.closing(self._strategy):
            while self._state.step < self._config.iterations:
                terms = self._step()
                self._after_step(terms)
                now = time.monotonic()
                if now - shown >= _PROGRESS_SECONDS or self._state.step == self._config.iterations:
                    shown = now
                    self._show(terms)
                # A signal may reach one process alone; all stop after the same step, once the state is saved.
                stopping = group.agreed(stop.is_set)
                if stopping or now - saved >= self._config.checkpoint_seconds:
                    if group.leads():
                        self._checkpoints.save(self._modules(), self._optimizer, self._state)
                    saved = now
                if stopping:
                    stop.is_set = group.agreed(True)
                    stop.check()
        return self._deliver()

    def _modules(self) -> dict[str, torch.nn.Module]:
        others = {"average": self._average, "extra": self._strategy.extra, "memory": self._strategy.memory}
        return {"model": self._model} | {name: module for name, module in others.items() if module is not None}

    def _delivered(self) -> SegmentationModel:
        return self._model if self._average is None else self._average.module  # type: ignore[return-value]

    def _step(self) -> StepTerms:
        step = self._state.step
        config = self._config.optimizer
        # One number from our own generator: neighbouring seeds and steps must not give related streams.
        torch.manual_seed(int(generator(self._seed, "step", step).integers(2**63 - 1)))
        set_learning_rate(self._optimizer, learning_rate(config, step, self._config.iterations))
        self._model.train()
        self._optimizer.zero_grad(set_to_none=True)
        terms = StepTerms({})
        for part in self._strategy.parts(self._model, step):
            terms.add(self._backward(part))
        trained = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        terms.figures["grad_norm"] = torch.nn.utils.clip_grad_norm_(trained, config.clip_grad_norm)
        self._optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self._model)
        self._state.step += 1
        return terms

    def _backward(self, part: Part) -> StepTerms:
        """Compute a part and add its gradients to those that are there."""
        with torch.autocast(
            self._device.type, torch.bfloat16, enabled=self._device.type == "cuda" and self._config.amp
        ):
            terms, total = self._compute(part)
        if not torch.isfinite(torch.stack(list(terms.losses.values())).sum()):
            values = ", ".join(f"{name}={float(value.detach()):.3g}" for name, value in terms.losses.items())
            step = self._state.step
            raise UserError(f"the loss is not finite at iteration {step} ({values}); lower optimizer.lr")
        total.backward()
        return terms

    def _after_step(self, terms: StepTerms) -> None:
        """Log and validate at their intervals."""
        step = self._state.step
        last = step == self._config.iterations
        if step % self._config.log_every == 0 or last:
            figures = {f"loss/{name}": float(value) for name, value in terms.losses.items()}
            figures["loss/total"] = sum(figures.values())
            figures |= group.means({name: float(value) for name, value in terms.figures.items()})
            figures["learning_rate"] = learning_rate(self._config.optimizer, step - 1, self._config.iterations)
            self._log(figures)
        if step % self._config.val_every == 0 or last:
            self._validate_now()

    def _validate_now(self) -> None:
        """Score the delivered weights and keep them if they are the best so far."""
        model = self._delivered()
        model.eval()
        self._latest_score = self._validate(model)
        self._log({f"val/{self._metric}": self._latest_score})
        if self._latest_score > self._state.best_score:
            self._state.best_score, self._state.best_step = self._latest_score, self._state.step
            if group.leads():
                self._checkpoints.save_best(model)
        self._strategy.validated(self._state.step, self._latest_score, self._validate)

    def _log(self, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self._state.curves.setdefault(name, []).append((self._state.step, value))
        self._run.log_metrics(figures, step=self._state.step)

    def _show(self, terms: StepTerms) -> None:
        figures = {"loss": sum(float(value) for value in terms.losses.values())}
        if self._latest_score is not None:
            figures[f"val_{self._metric}"] = self._latest_score
        self._progress.update(self._state.step, self._config.iterations, "iterations", **figures)

    def _deliver(self) -> Outcome:
        model = self._delivered()
        if self._config.select == "best":
            if group.leads():
                self._checkpoints.load_best(model)
            score = self._state.best_score
        else:
            score = self._state.curves[f"val/{self._metric}"][-1][1]
        return Outcome(model.eval(), self._state, score)
