"""Trains a head on residuals with block labels."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from weakrest_export import checkpoint
from weakrest_export import samples as sampled
from weakrest_export.anchored import Anchored, Judged
from weakrest_export.batches import Batch, Drawer
from weakrest_export.blocks import NEGATIVE, POSITIVE, UNKNOWN, find_regions
from weakrest_export.checkpoint import Progress
from weakrest_export.devices import device_of, multiplies_in_bfloat16
from weakrest_export.errors import Exit, ExportError
from weakrest_export.head import Head, Shape
from weakrest_export.optimizer import Optimizer
from weakrest_export.resmixmatch import (
    Mixed,
    augment,
    balanced,
    focal,
    guess,
    mix_up,
    squared,
    surely_defective,
)
from weakrest_export.samples import Sample
from weakrest_export.scores import evaluate, probability
from weakrest_export.settings import HeadSettings

LOG = "training.jsonl"


@dataclass(frozen=True)
class Trained:
    """A trained head.

    Attributes:
        head: in evaluation mode, on the CPU.
        step: of the head's averaged weights.
        precision: block-level average precision on the pictures for validation; None without any.
        log: entries of the log.
    """

    head: Head
    step: int
    precision: float | None
    log: list[dict[str, Any]]


Report = Callable[[Mapping[str, Any]], None]


def train(
    samples: Sequence[Sample],
    settings: HeadSettings,
    work: Path | None = None,
    resume: bool = False,
    report: Report | None = None,
) -> Trained:
    """Trains a head.

    The same samples, settings, seed and number of threads give the same head, resumed or not.

    Args:
        samples: of any number of residuals folders with the same backbone.
        settings: see `HeadSettings`.
        work: existing directory for the checkpoint and the log; None keeps neither.
        resume: continue from the checkpoint in `work`, if there is one.
        report: called with every entry of the log, which is JSON.

    Raises:
        ExportError: if there is nothing to learn, the samples do not fit together, the loss is no longer
            a number, or the checkpoint is of another training.
    """
    return _Training(samples, settings, work, report or (lambda entry: None)).run(resume)


class _Training:
    def __init__(
        self, samples: Sequence[Sample], settings: HeadSettings, work: Path | None, report: Report
    ) -> None:
        sampled.check(samples)
        self.settings = settings
        self.work = work
        self.report = report
        self.samples, self.validation = sampled.split(samples, settings)
        # The sizes of synthetic defects say nothing about real ones.
        power = {"good": 0.0, "synthetic": 0.0, "defective": settings.balance, "pasted": settings.balance}
        self.weights = {id(sample): balanced(sample.labels, power[sample.kind]) for sample in self.samples}
        unknown = {id(sample): sample.labels == UNKNOWN for sample in self.samples}
        self.regions = {name: find_regions(blocks) for name, blocks in unknown.items() if blocks.any()}
        self.surely = {id(sample): np.zeros(sample.labels.shape, bool) for sample in self.samples}
        self.by_kind = sampled.by_kind(self.samples)
        self.scales, stride = samples[0].residuals.scales, samples[0].residuals.stride
        self.drawer = Drawer(self.by_kind, self.surely, self.weights, settings, self.scales)
        self.weak = any((sample.labels == UNKNOWN).any() for sample in self.samples)
        self.fingerprint = checkpoint.fingerprint(samples, settings)
        self.device = device_of(settings.device)
        self.lower = settings.precision == "bfloat16" or (
            settings.precision == "auto" and multiplies_in_bfloat16(self.device)
        )
        self.augmentation = settings.augmentation
        if "shake" in settings.without:
            self.augmentation = replace(self.augmentation, shake=0.0)

        torch.manual_seed(settings.seed)
        self.shape = Shape(
            sum(self.scales), settings.width, settings.depth, settings.ratio, settings.reads, settings.body
        )
        self.head = Anchored(Head(self.shape), stride).to(self.device)
        self.average = Anchored(Head(self.shape), stride).to(self.device).eval().requires_grad_(False)
        self.average.load_state_dict(self.head.state_dict())
        self.optimizer = Optimizer(self.head, self.average, settings)
        self.progress = Progress()
        self.best = checkpoint.copy(self.average)

    def run(self, resume: bool) -> Trained:
        if resume and self.work is not None and (self.work / checkpoint.FILE).is_file():
            self._load(self.work / checkpoint.FILE)
        self._suspect()
        checks = {
            max(1, round(self.settings.steps * (at + 1) / self.settings.checks))
            for at in range(self.settings.checks)
        } | {self.settings.steps}
        losses: list[tuple[float, float]] = []
        while self.progress.step < self.settings.steps:
            started = time.monotonic()
            losses.append(self._advance())
            self.progress.step += 1
            self.progress.seconds += time.monotonic() - started
            if self.progress.step in checks:
                self._check_in(losses)
                losses = []
            elif self.progress.step % 10 == 0:
                self._note(losses)
                losses = []
        self.average.load_state_dict(self.best)
        head = self.average.head.cpu()
        return Trained(head, self.progress.best_step, self.progress.best_precision, self.progress.log)

    def _advance(self) -> tuple[float, float]:
        """One step of the optimizer. Returns the losses of labeled and of guessed blocks."""
        settings = self.settings
        # One seed per step: a resumed training draws the same as an uninterrupted one.
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.progress.step)
        batch = self.drawer.draw(generator, self.device)
        if self.device.type != "cpu":
            generator = torch.Generator(self.device).manual_seed(generator.initial_seed())
        mixed = self._targets(batch, generator)
        if self.weak and settings.mixup:
            mixed = mix_up(mixed, settings.mix_alpha, settings.unmixed, generator)

        with self._autocast():
            judged: Judged = self.head(mixed.residuals, mixed.lengths, batch.present)
        logits = judged.blocks
        # A guessed block counts like a labeled one. With a mean over guesses alone, the guesses of one small
        # box could outweigh the labels of all pictures.
        count = (mixed.labeled | mixed.guessed).sum().clamp_min(1)
        losses = focal(logits, mixed.targets, settings.alpha, settings.gamma) * batch.weights
        labeled = (losses * mixed.labeled).sum() / count
        guessed = (squared(logits, mixed.targets) * mixed.guessed).sum() / count
        ramp = min(1.0, self.progress.step / max(1.0, settings.ramp * settings.steps))
        shows_defect = (
            ((batch.labels == POSITIVE) | (batch.labels == UNKNOWN) | batch.surely).flatten(1).any(1)
        )
        pictures = F.binary_cross_entropy_with_logits(judged.pictures, shows_defect.float())
        loss = labeled + settings.guessed * ramp * guessed + settings.picture * pictures
        if not math.isfinite(loss.item()):
            raise ExportError(
                f"step {self.progress.step}: the loss is no longer a number: "
                "train with a lower rate or in float32",
                Exit.FAULT,
            )
        self.optimizer.step(loss, self.progress.step)
        return labeled.item(), guessed.item()

    def _targets(self, batch: Batch, generator: torch.Generator) -> Mixed:
        """An augmented copy with soft labels: the given labels, and guesses for unknown blocks."""
        settings = self.settings
        residuals = augment(batch.residuals, self.augmentation, generator)
        positive = batch.labels == POSITIVE
        labeled = batch.labels >= NEGATIVE
        unknown = batch.labels == UNKNOWN
        weak = unknown.flatten(1).any(1)
        if "fix" in settings.without:
            unknown = unknown | ((batch.labels == NEGATIVE) & weak[:, None, None])
            labeled = labeled & ~unknown
        sure = batch.surely
        positive, labeled, unknown = positive | sure, labeled | sure, unknown & ~sure
        targets = positive.float()
        if "guess" in settings.without or not weak.any():
            return Mixed(residuals, batch.lengths, targets, labeled, torch.zeros_like(labeled))
        weakly, lengths, present = batch.residuals[weak], batch.lengths[weak], batch.present[weak]

        def logits_of(copy: Tensor) -> Tensor:
            # The average is steadier than the current head, which would follow its own mistakes.
            with self._autocast():
                judged: Judged = self.average(copy, lengths, present)
            return judged.blocks

        guesses = guess(
            logits_of,
            settings.copies,
            lambda: augment(weakly, self.augmentation, generator),
            settings.temperature,
        )
        spread = torch.zeros_like(targets)
        spread[weak] = guesses
        return Mixed(residuals, batch.lengths, torch.where(unknown, spread, targets), labeled, unknown)

    def _suspect(self) -> None:
        """Decides which unknown blocks are surely defective, first by the length of their residuals."""
        if "fix" in self.settings.without:
            return
        for sample in self.samples:
            regions = self.regions.get(id(sample))
            if regions is None:
                continue
            residuals = sample.residuals.read(sample.index)[:1]
            if self.progress.step == 0:
                suspicion = residuals[0].float().square().mean(-1)
            else:
                suspicion = probability(self.average, residuals, self.scales)
            # A tag does not say how large the defect is.
            share = 0.0 if sample.is_only_tagged else self.settings.filled
            surely = surely_defective(suspicion.numpy(), regions, share)
            known = np.where(surely, POSITIVE, sample.labels).astype(np.int8)
            self.surely[id(sample)] = surely
            self.weights[id(sample)] = balanced(known, self.settings.balance)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.lower)

    def _note(self, losses: Sequence[tuple[float, float]], **more: Any) -> None:
        progress = self.progress
        labeled, guessed = np.mean(losses, 0).tolist()
        entry = {
            "step": progress.step,
            "of": self.settings.steps,
            "labeled_loss": labeled,
            "guessed_loss": guessed if self.weak else None,
            "rate": self.settings.rate_at(progress.step),
            "seconds": round(progress.seconds, 3),
            **more,
        }
        progress.log.append(entry)
        self.report(entry)
        if self.work is not None:
            mode = "w" if len(progress.log) == 1 else "a"
            with (self.work / LOG).open(mode, encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    def _check_in(self, losses: Sequence[tuple[float, float]]) -> None:
        """Measures on the pictures for validation, keeps the better weights, writes a checkpoint."""
        progress = self.progress
        precision = evaluate(self.average, self.validation) if self.validation else None
        self._suspect()
        # Synthetic defects would choose against real ones, and there are too few real ones to spare some.
        best = precision is None or self.by_kind["defective"] or precision >= (progress.best_precision or 0.0)
        if best and 2 * progress.step >= self.settings.steps:
            self.best = checkpoint.copy(self.average)
            progress.best_step, progress.best_precision = progress.step, precision
        self._note(losses, validation_ap=precision)
        if self.work is not None:
            self._save(self.work / checkpoint.FILE)

    def _save(self, path: Path) -> None:
        networks = {
            "head": checkpoint.copy(self.head),
            "average": checkpoint.copy(self.average),
            "best": self.best,
        }
        checkpoint.save(path, self.progress, networks, self.optimizer.inner, self.fingerprint)

    def _load(self, path: Path) -> None:
        self.progress, networks = checkpoint.load(
            path, ("head", "average", "best"), self.optimizer.inner, self.fingerprint
        )
        self.head.load_state_dict(networks["head"])
        self.average.load_state_dict(networks["average"])
        self.best = networks["best"]
        if self.work is not None:
            lines = "".join(json.dumps(entry) + "\n" for entry in self.progress.log)
            (self.work / LOG).write_text(lines, "utf-8")
