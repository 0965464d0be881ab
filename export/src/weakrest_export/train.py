"""Trains a head on residuals with block labels."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from weakrest_export.blocks import IGNORED, NEGATIVE, POSITIVE, UNKNOWN, find_regions
from weakrest_export.errors import Exit, ExportError
from weakrest_export.head import Head, Reads, Shape
from weakrest_export.optimizer import Optimizer, Schedule
from weakrest_export.residuals import Residuals, check_alike
from weakrest_export.resmixmatch import (
    Augmentation,
    Mixed,
    augment,
    balanced,
    focal,
    guess,
    mix_up,
    squared,
    surely_defective,
)

Kind = Literal["good", "synthetic", "defective"]
KINDS: tuple[Kind, ...] = ("good", "synthetic", "defective")

Part = Literal["guess", "fix", "shake"]
PARTS: tuple[Part, ...] = ("guess", "fix", "shake")
"""Steps of ResMixMatch that can be left out, to see what each is worth."""

CHECKPOINT = "checkpoint.safetensors"
LOG = "training.jsonl"

_CHECKPOINT_FORMAT = 1


@dataclass(frozen=True)
class Sample:
    """One picture to learn from.

    Attributes:
        residuals: folder that it is in.
        index: within `residuals.pictures`.
        labels: int8 `[rows, cols]`, block labels.
        kind: of the picture.
    """

    residuals: Residuals
    index: int
    labels: npt.NDArray[np.int8]
    kind: Kind

    @property
    def image(self) -> str:
        return self.residuals.pictures[self.index].image


@dataclass(frozen=True)
class Settings(Schedule):
    """How a head is built and trained; the defaults suit pictures of 256 pixels on two cores.

    Attributes:
        width: see `head.Shape`.
        depth: see `head.Shape`.
        ratio: see `head.Shape`.
        reads: see `head.Shape`.
        batch: pictures per step.
        crop: larger grids are cut to this many blocks a side; the head looks no farther anyway.
        alpha: see `resmixmatch.focal`.
        gamma: see `resmixmatch.focal`.
        balance: power of the weights that small real defects have, see `resmixmatch.balanced`.
        composition: how often good, synthetic and really defective pictures are drawn.
        augmentation: of residuals.
        copies: on which unknown blocks are guessed.
        temperature: see `resmixmatch.sharpen`.
        mixup: mix the tokens of weakly labeled pictures, and of others, with each other. The papers do; here
            it made heads worse.
        mix_alpha: see `resmixmatch.mix_up`.
        unmixed: see `resmixmatch.mix_up`.
        filled: share of a box that is surely defective, see `resmixmatch.surely_defective`.
        guessed: weight of a guessed block's loss, relative to that of a labeled one.
        ramp: share of the steps in which that weight rises from zero.
        without: parts of ResMixMatch to leave out. Without `guess`, unknown blocks are not learned from;
            without `fix`, all blocks of a weakly labeled picture are guessed and none is sure.
        validation: share of the synthetic pictures that is only used to choose among checkpoints.
        checks: checkpoints, evenly spread over the steps.
        window: side of the sliding window in which the head is to be run, in blocks; 0: the whole grid.
        stride: of that window.
        seed: of everything random.
        precision: `auto` computes in bfloat16 where the processor multiplies in it.
        device: `auto` takes a GPU where there is one.

    Raises:
        ExportError: if no head can be built or trained so.
    """

    width: int = 128
    depth: int = 2
    ratio: float = 2.0
    reads: Reads = "signed"
    batch: int = 8
    crop: int = 32
    alpha: float = 0.5
    gamma: float = 2.0
    balance: float = 0.75
    composition: tuple[float, float, float] = (2, 3, 3)
    augmentation: Augmentation = field(default_factory=Augmentation)
    copies: int = 2
    temperature: float = 0.5
    mixup: bool = False
    mix_alpha: float = 0.75
    unmixed: float = 0.5
    filled: float = 0.3
    guessed: float = 1.0
    ramp: float = 0.4
    without: tuple[Part, ...] = ()
    validation: float = 0.1
    checks: int = 10
    window: int = 0
    stride: int = 0
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.crop, self.checks, self.copies) < 1:
            raise ExportError("steps, batch, crop, checks and copies must be at least 1")
        self.shape(1)

    def shape(self, channels: int) -> Shape:
        """Of the head, for residuals of so many channels; raises ExportError if it cannot be built."""
        return Shape(channels, self.width, self.depth, self.ratio, self.reads)


def semirest(settings: Settings) -> Settings:
    """The same as SemiREST does it: squared residuals, MixUp, judged in windows of 32 blocks that overlap."""
    return replace(settings, reads="squares", crop=32, window=32, stride=8, mixup=True)


@dataclass(frozen=True)
class Trained:
    """A trained head.

    Attributes:
        head: in evaluation mode, on the CPU.
        step: whose averaged weights it has.
        precision: block-level average precision on the pictures kept for validation; None without any.
        log: one entry per line of the log.
    """

    head: Head
    step: int
    precision: float | None
    log: list[dict[str, Any]]


Report = Callable[[Mapping[str, Any]], None]


def train(
    samples: Sequence[Sample],
    settings: Settings,
    work: Path | None = None,
    resume: bool = False,
    report: Report | None = None,
) -> Trained:
    """Trains a head.

    The same samples, settings, seed and number of threads give the same head, resumed or not.

    Args:
        samples: of any number of residuals folders, which must have the same backbone.
        settings: see there.
        work: existing directory for the checkpoint and the log; None keeps neither.
        resume: continue from the checkpoint in `work`, if there is one.
        report: is given every entry of the log, which is JSON.

    Raises:
        ExportError: if there is nothing to learn, the samples do not fit together, the loss is no longer
            a number, or the checkpoint is of another training.
    """
    return _Training(samples, settings, work, report or (lambda entry: None)).run(resume)


@dataclass(frozen=True)
class _Batch:
    """Tensors of one step; all but the first are `[N, rows, cols]`.

    Attributes:
        residuals: f16 `[N, neighbors, rows, cols, channels]`.
        labels: int8, block labels.
        surely: bool, see `resmixmatch.surely_defective`.
        weights: f32, see `resmixmatch.balanced`.
        present: f32, 1 where there is a block.
    """

    residuals: Tensor
    labels: Tensor
    surely: Tensor
    weights: Tensor
    present: Tensor


class _Training:
    def __init__(
        self, samples: Sequence[Sample], settings: Settings, work: Path | None, report: Report
    ) -> None:
        _check(samples)
        self.settings = settings
        self.work = work
        self.report = report
        self.samples, self.validation = _split(samples, settings)
        # How large synthetic defects are says nothing about real ones.
        power = {"good": 0.0, "synthetic": 0.0, "defective": settings.balance}
        self.weights = {id(sample): balanced(sample.labels, power[sample.kind]) for sample in self.samples}
        unknown = {id(sample): sample.labels == UNKNOWN for sample in self.samples}
        self.regions = {name: find_regions(blocks) for name, blocks in unknown.items() if blocks.any()}
        self.surely = {id(sample): np.zeros(sample.labels.shape, bool) for sample in self.samples}
        self.by_kind = _by_kind(self.samples)
        self.weak = any((sample.labels == UNKNOWN).any() for sample in self.samples)
        self.fingerprint = _fingerprint(samples, settings)
        self.device = torch.device(_device(settings.device))
        self.lower = settings.precision == "bfloat16" or (
            settings.precision == "auto" and multiplies_in_bfloat16(self.device)
        )
        self.augmentation = settings.augmentation
        if "shake" in settings.without:
            self.augmentation = replace(self.augmentation, shake=0.0)

        torch.manual_seed(settings.seed)
        shape = settings.shape(samples[0].residuals.channels)
        self.head = Head(shape).to(self.device)
        self.average = Head(shape).to(self.device).eval().requires_grad_(False)
        self.average.load_state_dict(self.head.state_dict())
        self.optimizer = Optimizer(self.head, self.average, settings)
        self.step = 0
        self.best_step = 0
        self.best_precision: float | None = None
        self.best = _copy(self.average)
        self.log: list[dict[str, Any]] = []
        self.seconds = 0.0

    def run(self, resume: bool) -> Trained:
        if resume and self.work is not None and (self.work / CHECKPOINT).is_file():
            self._load(self.work / CHECKPOINT)
        self._suspect()
        checks = {
            max(1, round(self.settings.steps * (at + 1) / self.settings.checks))
            for at in range(self.settings.checks)
        } | {self.settings.steps}
        losses: list[tuple[float, float]] = []
        while self.step < self.settings.steps:
            started = time.monotonic()
            losses.append(self._advance())
            self.step += 1
            self.seconds += time.monotonic() - started
            if self.step in checks:
                self._check_in(losses)
                losses = []
            elif self.step % 10 == 0:
                self._note(losses)
                losses = []
        head = Head(self.head.shape)
        head.load_state_dict(self.best)
        return Trained(head.eval(), self.best_step, self.best_precision, self.log)

    def _advance(self) -> tuple[float, float]:
        """One step of the optimizer. Returns the losses of labeled and of guessed blocks."""
        settings = self.settings
        # One seed per step, so that a resumed training draws what an uninterrupted one would.
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.step)
        batch = self._draw(generator)
        if self.device.type != "cpu":
            generator = torch.Generator(self.device).manual_seed(generator.initial_seed())
        mixed = self._targets(batch, generator)
        if self.weak and settings.mixup:
            mixed = mix_up(mixed, settings.mix_alpha, settings.unmixed, generator)

        with self._autocast():
            logits = self.head(mixed.residuals, batch.present)
        # A guessed block counts like a labeled one, however few there are: a mean over guesses alone would
        # let those of one small box outweigh the labels of all pictures.
        count = (mixed.labeled | mixed.guessed).sum().clamp_min(1)
        losses = focal(logits, mixed.targets, settings.alpha, settings.gamma) * batch.weights
        labeled = (losses * mixed.labeled).sum() / count
        guessed = (squared(logits, mixed.targets) * mixed.guessed).sum() / count
        ramp = min(1.0, self.step / max(1.0, settings.ramp * settings.steps))
        loss = labeled + settings.guessed * ramp * guessed
        if not math.isfinite(loss.item()):
            raise ExportError(
                f"step {self.step}: the loss is no longer a number: train with a lower rate or in float32",
                Exit.FAULT,
            )
        self.optimizer.step(loss, self.step)
        return labeled.item(), guessed.item()

    def _targets(self, batch: _Batch, generator: torch.Generator) -> Mixed:
        """An augmented copy with soft labels: those given, and guesses for unknown blocks."""
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
            return Mixed(residuals, targets, labeled, torch.zeros_like(labeled))
        weakly, present = batch.residuals[weak], batch.present[weak]

        def logits_of(copy: Tensor) -> Tensor:
            # The average is steadier than the head of this step, which would follow its own mistakes.
            with self._autocast():
                logits: Tensor = self.average(copy, present)
            return logits

        guesses = guess(
            logits_of,
            settings.copies,
            lambda: augment(weakly, self.augmentation, generator),
            settings.temperature,
        )
        spread = torch.zeros_like(targets)
        spread[weak] = guesses
        return Mixed(residuals, torch.where(unknown, spread, targets), labeled, unknown)

    def _suspect(self) -> None:
        """Decides which unknown blocks are surely defective, at first by the length of their residuals."""
        if "fix" in self.settings.without:
            return
        for sample in self.samples:
            regions = self.regions.get(id(sample))
            if regions is None:
                continue
            residuals = sample.residuals.read(sample.index)[:1]
            if self.step == 0:
                suspicion = residuals[0].float().square().mean(-1)
            else:
                suspicion = _probability(self.average, residuals)
            # A tag says that something is defective, but not how much.
            share = 0.0 if _is_only_tagged(sample) else self.settings.filled
            surely = surely_defective(suspicion.numpy(), regions, share)
            known = np.where(surely, POSITIVE, sample.labels).astype(np.int8)
            self.surely[id(sample)] = surely
            self.weights[id(sample)] = balanced(known, self.settings.balance)

    def _draw(self, generator: torch.Generator) -> _Batch:
        """Draws, turns, crops and pads pictures, on the device."""
        pieces = [self._piece(generator) for _ in range(self.settings.batch)]
        count = len(pieces)
        rows = max(piece[1].shape[0] for piece in pieces)
        cols = max(piece[1].shape[1] for piece in pieces)
        neighbors = min(piece[0].shape[0] for piece in pieces)
        channels = pieces[0][0].shape[-1]
        residuals = torch.zeros(count, neighbors, rows, cols, channels, dtype=torch.float16)
        labels = torch.full((count, rows, cols), IGNORED, dtype=torch.int8)
        surely = torch.zeros(count, rows, cols, dtype=torch.bool)
        weights = torch.ones(count, rows, cols)
        present = torch.zeros(count, rows, cols)
        for at, (piece, label, sure, weight) in enumerate(pieces):
            height, width = label.shape
            residuals[at, :, :height, :width] = piece[:neighbors]
            labels[at, :height, :width] = label
            surely[at, :height, :width] = sure
            weights[at, :height, :width] = weight
            present[at, :height, :width] = 1
        parts = (residuals, labels, surely, weights, present)
        return _Batch(*(part.to(self.device) for part in parts))

    def _piece(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Residuals `[neighbors, rows, cols, channels]`, labels, sure blocks and weights of a random crop."""

        def below(bound: int) -> int:
            return int(torch.randint(bound, (), generator=generator))

        shares = torch.tensor(
            [
                float(share) if self.by_kind[kind] else 0.0
                for kind, share in zip(KINDS, self.settings.composition, strict=True)
            ]
        )
        kind = KINDS[int(torch.multinomial(shares, 1, generator=generator))]
        # Every package counts the same, however many pictures it has.
        packages = self.by_kind[kind]
        group = packages[below(len(packages))]
        sample = group[below(len(group))]

        residuals = sample.residuals.read(sample.index)
        known, surely, weights = sample.labels, self.surely[id(sample)], self.weights[id(sample)]
        if _is_only_tagged(sample):
            # Guesses for a whole picture are mostly wrong about a defect's fainter parts: worse than none.
            known = np.where(surely, POSITIVE, IGNORED).astype(np.int8)
        blocks = [torch.from_numpy(of) for of in (known, surely, weights)]
        # Residuals know no up and down, nor left and right.
        if below(2):
            residuals, blocks = residuals.transpose(1, 2), [of.T for of in blocks]
        for axis in (0, 1):
            if below(2):
                residuals, blocks = residuals.flip(axis + 1), [of.flip(axis) for of in blocks]
        rows, cols = crop(blocks[0], self.settings.crop, generator)
        labels, sure, weight = (of[rows, cols] for of in blocks)
        return residuals[:, rows, cols], labels, sure, weight

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.lower)

    def _note(self, losses: Sequence[tuple[float, float]], **more: Any) -> None:
        labeled, guessed = np.mean(losses, 0).tolist()
        entry = {
            "step": self.step,
            "of": self.settings.steps,
            "labeled_loss": labeled,
            "guessed_loss": guessed if self.weak else None,
            "rate": self.settings.rate_at(self.step),
            "seconds": round(self.seconds, 3),
            **more,
        }
        self.log.append(entry)
        self.report(entry)
        if self.work is not None:
            with (self.work / LOG).open("w" if len(self.log) == 1 else "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    def _check_in(self, losses: Sequence[tuple[float, float]]) -> None:
        """Measures on the pictures kept for validation, keeps the better weights, writes a checkpoint."""
        precision = None
        if self.validation:
            precision = evaluate(self.average, self.validation)
        self._suspect()
        # Synthetic defects would choose against real ones, of which there are too few to spare some.
        best = (
            precision is None or bool(self.by_kind["defective"]) or precision >= (self.best_precision or 0.0)
        )
        if best and 2 * self.step >= self.settings.steps:
            self.best, self.best_step, self.best_precision = _copy(self.average), self.step, precision
        self._note(losses, validation_ap=precision)
        if self.work is not None:
            self._save(self.work / CHECKPOINT)

    def _save(self, path: Path) -> None:
        tensors = {f"head.{name}": tensor for name, tensor in _copy(self.head).items()}
        tensors |= {f"average.{name}": tensor for name, tensor in _copy(self.average).items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for at, state in self.optimizer.inner.state_dict()["state"].items():
            tensors |= {f"optimizer.{at}.{name}": value.cpu() for name, value in state.items()}
        state = {
            "format": _CHECKPOINT_FORMAT,
            "training": self.fingerprint,
            "step": self.step,
            "best_step": self.best_step,
            "best_precision": self.best_precision,
            "seconds": self.seconds,
            "log": self.log,
        }
        temporary = path.with_name(f".{path.name}")
        try:
            save_file(tensors, temporary, {"state": json.dumps(state)})
            temporary.replace(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise ExportError(f"{path}: cannot be written: {error}", Exit.FAULT) from error

    def _load(self, path: Path) -> None:
        try:
            with safetensors.safe_open(str(path), framework="pt") as file:
                state = json.loads(file.metadata()["state"])
                tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise ExportError(f"{path}: damaged ({error}): delete it, or train without resuming") from error
        if state.get("format") != _CHECKPOINT_FORMAT:
            raise ExportError(f"{path}: not a checkpoint of this release: train without resuming")
        for key, value in self.fingerprint.items():
            if state["training"].get(key) != value:
                raise ExportError(
                    f"{path}: of a training with another {key} ({state['training'].get(key)!r}, now "
                    f"{value!r}): train without resuming, or as before"
                )

        def part(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

        self.head.load_state_dict(part("head."))
        self.average.load_state_dict(part("average."))
        self.best = part("best.")
        optimizer = self.optimizer.inner.state_dict()
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part("optimizer.").items():
            at, _, key = name.partition(".")
            moments.setdefault(int(at), {})[key] = tensor
        self.optimizer.inner.load_state_dict({**optimizer, "state": moments})
        self.step, self.best_step = state["step"], state["best_step"]
        self.best_precision, self.seconds = state["best_precision"], state["seconds"]
        self.log = state["log"]
        if self.work is not None:
            lines = "".join(json.dumps(entry) + "\n" for entry in self.log)
            (self.work / LOG).write_text(lines, "utf-8")


def crop(labels: Tensor, side: int, generator: torch.Generator) -> tuple[slice, slice]:
    """Rows and columns of at most `side` blocks each; three in four hold one that is or may be defective.

    Args:
        labels: `[rows, cols]`, block labels.
        side: see above.
        generator: of the random numbers.
    """
    if max(labels.shape) <= side:
        return slice(None), slice(None)

    def below(bound: int) -> int:
        return int(torch.randint(bound, (), generator=generator))

    center = None
    defective = ((labels == POSITIVE) | (labels == UNKNOWN)).nonzero()
    if len(defective) and below(4):
        center = defective[below(len(defective))].tolist()
    spans = []
    for axis, length in enumerate(labels.shape):
        last = max(0, length - side)
        start = below(last + 1) if center is None else center[axis] - below(min(side, length))
        start = min(max(start, 0), last)
        spans.append(slice(start, start + side))
    rows, cols = spans
    return rows, cols


def evaluate(head: Head, samples: Sequence[Sample]) -> float:
    """Average precision of a head over all positive and negative blocks of the samples, 0..1."""
    scores, truths = [], []
    for sample in samples:
        defective = _probability(head, sample.residuals.read(sample.index)[:1]).numpy()
        known = sample.labels >= NEGATIVE
        scores.append(defective[known])
        truths.append(sample.labels[known] == POSITIVE)
    return average_precision(np.concatenate(scores), np.concatenate(truths))


def _probability(head: Head, residuals: Tensor) -> Tensor:
    """Of being defective, `[rows, cols]` on the CPU, for residuals `[1, rows, cols, channels]`."""
    with torch.inference_mode():
        logits = head(residuals.float().to(next(head.parameters()).device))
    defective: Tensor = logits[0].softmax(-1)[..., 1].cpu()
    return defective


def average_precision(scores: npt.NDArray[np.float32], truths: npt.NDArray[np.bool_]) -> float:
    """Step-wise average precision, 0..1; 0 if nothing is true. Equal scores are one step."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truths[order])
    if not len(hits) or not hits[-1]:
        return 0.0
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    recall = hits[ends] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * hits[ends] / (ends + 1)))


def _check(samples: Sequence[Sample]) -> None:
    if not any((sample.labels == POSITIVE).any() for sample in samples):
        raise ExportError(
            "no block is labeled defective: add synthetic defects, or pictures with masks of defects"
        )
    check_alike(sample.residuals for sample in samples)
    for sample in samples:
        grid = sample.residuals.pictures[sample.index].grid
        if sample.labels.shape != grid or sample.labels.dtype != np.int8:
            raise ExportError(
                f"{sample.image}: labels are {sample.labels.dtype} {list(sample.labels.shape)}, "
                f"its residuals int8 {list(grid)} blocks"
            )


def _is_only_tagged(sample: Sample) -> bool:
    return bool((sample.labels == UNKNOWN).all())


def _split(samples: Sequence[Sample], settings: Settings) -> tuple[list[Sample], list[Sample]]:
    """Samples to learn from, and synthetic ones to choose among checkpoints by."""
    synthetic = [at for at, sample in enumerate(samples) if sample.kind == "synthetic"]
    count = round(len(synthetic) * settings.validation)
    order = np.random.default_rng(settings.seed).permutation(synthetic)
    kept = set(order[:count].tolist())
    held = [samples[at] for at in sorted(kept)]
    return [sample for at, sample in enumerate(samples) if at not in kept], held


def _by_kind(samples: Sequence[Sample]) -> dict[Kind, list[list[Sample]]]:
    groups: dict[Kind, dict[int, list[Sample]]] = {kind: {} for kind in KINDS}
    for sample in samples:
        groups[sample.kind].setdefault(id(sample.residuals), []).append(sample)
    return {kind: list(packages.values()) for kind, packages in groups.items()}


def _fingerprint(samples: Sequence[Sample], settings: Settings) -> dict[str, Any]:
    """What must be the same for a training to be continued, in words of JSON."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample.residuals.package} {sample.image} {sample.kind}\n".encode())
        digest.update(sample.labels.tobytes())
    chosen = json.loads(json.dumps(asdict(settings)))
    # Where it is computed does not matter.
    del chosen["device"]
    packages = sorted({sample.residuals.package for sample in samples})
    return {"packages": packages, "samples": digest.hexdigest(), **chosen}


def _copy(head: Head) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in head.state_dict().items()}


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def multiplies_in_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for it; without them it is many times slower."""
    if device.type == "cpu":
        # Older versions cannot tell.
        tell = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        return tell is not None and bool(tell())
    return device.type == "cuda" and torch.cuda.is_bf16_supported()
