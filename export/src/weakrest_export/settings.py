"""Settings of all that is exported, made and trained.

This file does not import PyTorch: the command line reads its options from here, and `--help` must not wait.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from weakrest_export import options
from weakrest_export.files import check_name
from weakrest_export.options import Option, Range

Part = Literal["guess", "fix", "shake"]
"""A step of ResMixMatch that can be left out, to measure what it is worth."""

Precision = Literal["float32", "float16", "int8"]
"""Of a head's weights in the package."""

BackbonePrecision = Literal["float32", "float16"]
"""Of a backbone's weights in its file. It computes in float32."""

Reads = Literal["signed", "sizes", "squares"]
"""What a head reads of a residual r.

`signed`: r and log(1 + r²). `sizes`: |r| and log(1 + r²). `squares`: r² only, as in SemiREST. The sign says
what the block looks like instead. That helps on the product that the head was trained on and misleads on
others.
"""

Body = Literal["swin", "conv"]
"""How blocks see their surroundings: attention in shifted windows, or convolutions over 5×5 blocks."""

LabelSetting = Literal["auto", "unsupervised", "tags", "boxes", "rotated", "blocks", "semirest"]
"""Which labels a head sees, see `workflow.read_labels`."""

LICENSE = "LicenseRef-own"
"""Of weights that users trained on their own pictures: they decide."""

HEAD_WIDTH = 32
"""Features per attention head: a network's width is a multiple of this."""

Steps = Annotated[int, Range(least=1), Option("training steps", "N")]
Width = Annotated[int, Range(multiple=HEAD_WIDTH), Option("features per block", "N")]
Depth = Annotated[int, Range(least=1), Option("layers", "N")]
Positive = Annotated[int, Range(least=1)]
Seed = Annotated[int, Range(least=0)]


@dataclass(frozen=True)
class BackboneSettings:
    """How a backbone is exported.

    Attributes:
        network: see `networks.load`.
        scales: strides of each scale's feature maps, in pixels, with commas. A weight in distances can follow
            a stride after a colon; without it, it is 1. None: see `networks.load`.
        blocks: the same for a vision transformer, which has blocks instead of strides, numbered from 1.
        grid: stride of the output, in pixels; None: see `graph.FeatureGrid`.
        channels: a scale's concatenated maps are averaged to this many channels; None: all are kept.
        weights: see `networks.load`.
        precision: of the weights in the file; half precision halves it.
        half: compute in half precision, too. Input and output stay in single precision.
        name: of the backbone; None: the network's, with `-` for `:`.
    """

    network: str
    scales: Annotated[
        tuple[str, ...] | None,
        Option(
            "strides of each scale's feature maps, with commas and :WEIGHT in distances",
            "STRIDES",
            unset="4,8,16",
        ),
    ] = None
    blocks: Annotated[
        tuple[str, ...] | None,
        Option("the same for a vision transformer: its blocks, from 1", "BLOCKS", unset="the last"),
    ] = None
    grid: Annotated[
        int | None, Option("stride of the output grid", "STRIDE", unset="8, or a vision transformer's patch")
    ] = None
    channels: Annotated[
        int | None, Option("average neighboring channels down to N", "N", unset="keep all")
    ] = None
    weights: Annotated[
        str,
        Option(
            "pretrained, a file (.safetensors, .pth), a torchvision tag such as IMAGENET1K_V1, or none "
            "(random, for tests)",
            "WEIGHTS",
        ),
    ] = "pretrained"
    precision: Annotated[BackbonePrecision, Option("of the weights in the file")] = "float32"
    half: Annotated[bool, Option("also compute in half precision, for GPUs")] = False
    name: Annotated[str | None, Option("name of the files", "NAME", unset="the network's name")] = None


@dataclass(frozen=True)
class SynthesisSettings:
    """How synthetic defects are made.

    Attributes:
        count: pictures to make.
        seed: of everything random.
        workers: processes that share the work.

    Raises:
        ExportError: if a value is out of its range.
    """

    count: Annotated[int, Range(least=1), Option("pictures to make", "N")]
    seed: Annotated[Seed, Option("the same seed makes the same pictures", "S")] = 0
    workers: Annotated[int, Range(least=1), Option("processes that share the work", "N")] = 1

    def __post_init__(self) -> None:
        options.check(self)


@dataclass(frozen=True)
class ChoiceSettings:
    """How defective pictures are chosen from a data set.

    Attributes:
        count: pictures, in all or of each kind of defect.
        per_type: `count` pictures of each kind.
        seed: another seed chooses other pictures.

    Raises:
        ExportError: if a value is out of its range.
    """

    count: Annotated[int, Range(least=1), Option("defective pictures", "N")] = 10
    per_type: Annotated[bool, Option("choose N pictures of each kind of defect")] = False
    seed: Annotated[Seed, Option("another seed chooses other pictures", "S")] = 0

    def __post_init__(self) -> None:
        options.check(self)


@dataclass(frozen=True)
class NetworkSettings:
    """What a trained network is called in its package.

    Attributes:
        name: of the network, and of its files without extension.
        license: of the weights, as an SPDX expression.

    Raises:
        ExportError: if no file can have the name.
    """

    name: Annotated[str, Option("name of the network and its files", "NAME")]
    license: Annotated[str, Option("SPDX license of the weights", "SPDX")] = LICENSE

    def __post_init__(self) -> None:
        check_name(self.name)


@dataclass(frozen=True)
class Augmentation:
    """How one copy of the residuals differs from the next.

    Attributes:
        neighbors: how often the first, second, third … neighbor is taken, per token.
        shake: standard deviation of the logarithm of the factors; 0: values stay as they are.
        shaken: largest share of channels to shake; the share is drawn per picture.
        dropout: largest share of tokens to set to zero; the share is drawn per picture.
    """

    neighbors: tuple[float, ...] = (5, 3, 2)
    shake: float = 0.15
    shaken: float = 0.5
    dropout: float = 0.1


@dataclass(frozen=True)
class Training:
    """What the training of all networks has in common.

    Attributes:
        steps: in all.
        rate: largest learning rate.
        decay: weight decay.
        clip: largest norm of the gradient.
        warmup: share of the steps in which the rate rises. It then falls like a cosine.
        average: decay of the moving average of the weights. The result is the average.
        augmentation: of residuals.
        seed: of everything random.
    """

    steps: Steps = 400
    rate: float = 1e-3
    decay: float = 0.05
    clip: float = 1.0
    warmup: float = 0.05
    average: float = 0.99
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: Seed = 0

    def __post_init__(self) -> None:
        options.check(self)

    def rate_at(self, step: int) -> float:
        """The learning rate of a step; steps count from 0."""
        warmup = max(1, round(self.warmup * self.steps))
        if step < warmup:
            return self.rate * (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        return self.rate * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class HeadSettings(Training):
    """How a head is built and trained. The defaults suit pictures of 256 pixels on two cores.

    Attributes:
        body: see `head.Shape`.
        width: see `head.Shape`.
        depth: see `head.Shape`.
        ratio: see `head.Shape`.
        reads: see `Reads`.
        batch: pictures per step.
        crop: larger grids are cut to this many blocks a side. The head sees no farther.
        alpha: see `resmixmatch.focal`.
        gamma: see `resmixmatch.focal`.
        balance: power of the weights of small real defects, see `resmixmatch.balanced`.
        composition: how often pictures of each of `samples.KINDS` are drawn.
        picture: weight of the loss of pictures, relative to the loss of blocks.
        copies: number of augmented copies for a guess.
        temperature: see `resmixmatch.sharpen`.
        mixup: mix the tokens of weakly labeled pictures with others. The papers do; here it made heads worse.
        mix_alpha: see `resmixmatch.mix_up`.
        unmixed: see `resmixmatch.mix_up`.
        filled: share of a box that is surely defective, see `resmixmatch.surely_defective`.
        guessed: weight of a guessed block's loss, relative to a labeled block.
        ramp: share of the steps in which that weight rises from zero.
        without: parts of ResMixMatch to leave out. Without `guess`, unknown blocks teach nothing. Without
            `fix`, all blocks of a weakly labeled picture are guessed and none is sure.
        validation: share of the synthetic pictures that only serves to choose among checkpoints.
        checks: checkpoints, evenly spread over the steps.
        window: side of the sliding window that the head runs in, in blocks; 0: the whole grid.
        stride: of that window.
        precision: of the training; `auto`: bfloat16 where the processor multiplies in it.
        device: `auto`: a GPU where there is one.

    Raises:
        ExportError: if a value is out of its range.
    """

    body: Annotated[Body, Option("how a block sees its surroundings")] = "swin"
    width: Width = 128
    depth: Depth = 2
    ratio: Annotated[float, Range(above=0)] = 2.0
    reads: Reads = "signed"
    steps: Steps = 150
    rate: float = 2e-3
    batch: Positive = 16
    crop: Positive = 16
    alpha: float = 0.5
    gamma: float = 2.0
    balance: float = 0.75
    composition: tuple[float, float, float, float] = (3, 1, 2, 2)
    picture: float = 0.125
    copies: Positive = 2
    temperature: float = 0.5
    mixup: Annotated[
        bool,
        Option("mix blocks of weakly labeled pictures with others, as the papers do (implied by semirest)"),
    ] = False
    mix_alpha: float = 0.75
    unmixed: float = 0.5
    filled: float = 0.3
    guessed: float = 1.0
    ramp: float = 0.4
    without: Annotated[
        tuple[Part, ...], Option("steps of learning from weak labels to leave out, for comparisons")
    ] = ()
    validation: float = 0.1
    checks: Positive = 10
    window: int = 0
    stride: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"

    def semirest(self) -> "HeadSettings":
        """The same as in SemiREST: squared residuals, MixUp, overlapping windows of 32 blocks."""
        return replace(self, reads="squares", crop=32, window=32, stride=8, mixup=True)


@dataclass(frozen=True)
class ClickSettings(Training):
    """How ADClick is built and trained. The defaults suit pictures of 256 pixels on two cores.

    Attributes:
        width: see `adclick.Shape`.
        depth: see `adclick.Shape`.
        batch: pictures per step.
        crop: larger grids are cut to this many blocks a side.
        gamma: of the normalized focal loss.
        rounds: largest number of clicks after the first. Each is set where the mask is most wrong.
        untouched: share of the pictures without any click. The network learns to suggest a first mask from
            them, and ADClick-Seg learns from nothing else.
        silent: share of the pictures without a prompt.
        contrary: share of pictures with the prompt of another type of defect, among defective pictures with a
            prompt and without a click. Their true mask is empty. These pictures give words a meaning.
        composition: how often pictures of each of `samples.KINDS` are drawn.

    Raises:
        ExportError: if a value is out of its range.
    """

    width: Annotated[int, Range(multiple=HEAD_WIDTH)] = 128
    depth: Positive = 3
    steps: Steps = 600
    batch: Positive = 8
    crop: Positive = 24
    gamma: float = 2.0
    rounds: int = 3
    untouched: float = 0.25
    silent: float = 0.4
    contrary: float = 0.5
    composition: tuple[float, float, float, float] = (1, 3, 4, 0)

    def unclicked(self) -> "ClickSettings":
        """Settings of ADClick-Seg, a head: no clicks, and a product's prompt, if any, is always there."""
        return replace(self, untouched=1.0, silent=0.0)
