"""Measures what clicks are worth: `make table-clicks`. Takes hours.

Needs WEAKREST_DATA and the Python environment. Networks and results are kept in target/clicks. Prints
Markdown.

A third of each kind of defect is never trained on. Of the rest, `all masks` takes every mask, `10-shot` ten,
`1-shot` one of each kind, and `0-shot` none: only good pictures of the product, and synthetic defects on
them. `general` is the network that ships. It has seen no picture of the product. For comparison: region
growing on the lengths of residuals, and OpenCV's GrabCut, with the same simulated clicks.
"""

import json
import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import experiments
from experiments import BINARY, CLICKS, SYNTHETIC, dataset, goods, package, spread

STEPS = 400
TRAINED = ("all masks", "10-shot", "1-shot", "0-shot")
BASELINES = ("region growing", "GrabCut")
VARIANTS = ("general", *TRAINED, *BASELINES)


def prepare(product: str, size: str) -> list[Any]:
    """Good pictures of a product, synthetic defects, and all defective test pictures with masks."""
    from weakrest_export import labels, prompts, splits, text, weak, workflow
    from weakrest_export.work import Product, Work

    category = splits.read_dataset(BINARY, dataset(product), "mvtec")
    defective = [s for s in category.test if s.defect and s.mask and not labels.is_empty(s.mask)]
    masked = weak.weak_labels(sorted(defective, key=lambda s: s.image), "masks")
    words = Path(__file__).with_name("prompts") / f"{product}.json"
    phrases = prompts.read(words) if words.exists() else {}
    folder = CLICKS / f"{product}-{size}" / "work"
    work = Work(folder, synthetics=SYNTHETIC, weakrest=BINARY, resume=True)
    encode = text.TextEncoder().encode
    items = Product(package(product, size), goods(product))
    return workflow.prepare_clicks(items, masked, work, phrases, encode)


def parts(samples: list[Any], seed: int) -> tuple[dict[str, list[Any]], list[Any]]:
    """Pictures to train on, by variant, and cases that no variant trains on."""
    from weakrest_export import labels
    from weakrest_export.click_metrics import Case

    kinds: dict[str, list[Any]] = {}
    for sample in samples:
        if sample.kind == "defective":
            kinds.setdefault(Path(sample.image).parent.name, []).append(sample)
    draw = random.Random(seed)
    left, cases = {}, []
    for kind in sorted(kinds):
        own = sorted(kinds[kind], key=lambda sample: sample.image)
        draw.shuffle(own)
        held = max(1, len(own) // 3)
        left[kind] = own[held:]
        for sample in own[:held]:
            image = Path(sample.image)
            truth = image.parents[2] / "ground_truth" / kind / f"{image.stem}_mask.png"
            size = sample.residuals.pictures[sample.index].frame
            cases.append(Case(sample, labels.read_mask(labels.Mask(truth), size), kind))
    rounds = [own[turn] for turn in range(10) for own in left.values() if turn < len(own)]
    chosen = {"all masks": [s for own in left.values() for s in own], "10-shot": rounds[:10]}
    chosen["1-shot"] = [own[0] for own in left.values()]
    chosen["0-shot"] = []
    return chosen, cases


def network_of(
    product: str, size: str, variant: str, seed: int, samples: list[Any], chosen: dict[str, list[Any]]
) -> Any:
    import torch

    from weakrest_export import adclick_train, click_metrics
    from weakrest_export.settings import ClickSettings

    if variant == "general":
        return click_metrics.from_graph(Path("models/adclick.onnx").read_bytes())
    settings = ClickSettings(seed=seed, steps=STEPS)
    kept = CLICKS / f"{product}-{size}" / f"{variant.replace(' ', '-')}-{seed}.pt"
    if kept.exists():
        network = experiments.untrained(samples, settings)
        network.load_state_dict(torch.load(kept, weights_only=True))
        return network
    others = [sample for sample in samples if sample.kind != "defective"]
    used = [*others, *chosen[variant]]
    network = click_metrics.calibrated(adclick_train.train(used, settings), used, seed)
    torch.save(network.state_dict(), kept)
    return network


def grow(sample: Any, clicks: Any, before: Any) -> Any:
    """Regions of long residuals round the positive clicks.

    They are at least half as long as under the click, and more where a negative click is near.
    """
    import numpy as np
    from scipy import ndimage

    from weakrest_export.adclick import STRIDE

    norms = sample.residuals.read(sample.index)[0].float().norm(dim=-1).numpy()
    fine = ndimage.zoom(norms, np.array(sample.share.shape) / norms.shape, order=1)
    mask = np.zeros(fine.shape, bool)
    last = np.array(fine.shape) - 1
    at = [tuple(np.minimum((int(c.y / STRIDE), int(c.x / STRIDE)), last)) for c in clicks]
    outside = [place for place, click in zip(at, clicks, strict=True) if not click.positive]
    for place, click in zip(at, clicks, strict=True):
        if not click.positive:
            continue
        for share in (0.5, 0.6, 0.7, 0.8, 0.9):
            regions, _ = ndimage.label(fine >= share * fine[place])
            region = regions == regions[place]
            if not any(region[other] for other in outside):
                break
        mask |= region
    return mask.astype(np.float32)


def grab_cut(sample: Any, clicks: Any, before: Any) -> Any:
    import cv2
    import numpy as np

    from weakrest_export.adclick import RADIUS, STRIDE

    seen = sample.residuals.read_picture(sample.index).float().numpy().transpose(1, 2, 0)
    picture = np.clip((seen + 2.2) * 52, 0, 255).astype(np.uint8)
    if not any(click.positive for click in clicks):
        return np.zeros(sample.share.shape, np.float32)
    height, width = picture.shape[:2]
    marks = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
    y, x = np.ogrid[:height, :width]
    for click in clicks:
        if click.positive:
            near = (x - click.x) ** 2 + (y - click.y) ** 2 <= (max(height, width) / 8) ** 2
            marks[near & (marks == cv2.GC_PR_BGD)] = cv2.GC_PR_FGD
    for click in clicks:
        near = (x - click.x) ** 2 + (y - click.y) ** 2 <= RADIUS**2
        marks[near] = cv2.GC_FGD if click.positive else cv2.GC_BGD
    try:
        cv2.grabCut(picture, marks, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    except cv2.error:
        return np.zeros(sample.share.shape, np.float32)
    inside = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    return inside.reshape(height // STRIDE, STRIDE, width // STRIDE, STRIDE).mean((1, 3))


def measure(product: str, size: str, variant: str, seed: int, words: str) -> dict[str, Any]:
    kept = CLICKS / f"{product}-{size}" / f"{variant.replace(' ', '-')}-{seed}-{words}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    import torch

    from weakrest_export import click_metrics

    torch.set_num_threads(1)
    samples = prepare(product, size)
    chosen, cases = parts(samples, seed)
    if variant in BASELINES:
        segment = grow if variant == "region growing" else grab_cut
    else:
        network = network_of(product, size, variant, seed, samples, chosen)
        kinds = sorted({case.kind for case in cases})
        first = {case.kind: case.sample.prompts[0] for case in cases if len(case.sample.prompts)}
        kind_of = {id(case.sample): case.kind for case in cases}

        def prompt_of(sample: Any) -> Any:
            step = 1 if words == "wrong" else 0
            return first[kinds[(kinds.index(kind_of[id(sample)]) + step) % len(kinds)]]

        segment = click_metrics.with_network(network, None if words == "none" else prompt_of)
    most = 20 if words == "right" or variant in BASELINES else 5
    result = vars(click_metrics.measure(cases, segment, most))
    kept.write_text(json.dumps(result))
    return result


def main() -> None:
    parser = experiments.parser(__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), metavar="VARIANT")
    options = parser.parse_args()
    experiments.need_data()
    prepare(options.product, options.size)
    runs = [
        (options.product, options.size, variant, seed, words)
        for seed in range(options.seeds)
        for variant in options.variants
        for words in (("right",) if variant in BASELINES else ("right", "none", "wrong"))
    ]
    # The three prompts share a network, which the first of them trains.
    first = [run for run in runs if run[4] == "right"]
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        results = dict(zip(first, pool.map(measure, *zip(*first, strict=True)), strict=True))
        rest = [run for run in runs if run not in results]
        if rest:
            results |= dict(zip(rest, pool.map(measure, *zip(*rest, strict=True)), strict=True))
    experiments.print_header(
        "masks",
        "AP at 0 / 1 / 2 / 3 / 5 clicks",
        "mean IoU at the same clicks",
        "clicks for 90 % IoU",
        "IoU at 1 click: right / no / wrong prompt",
    )
    for variant in options.variants:
        own = {run: result for run, result in results.items() if run[2] == variant}
        right = [result for run, result in own.items() if run[4] == "right"]
        counts = (1, 2, 3, 5) if variant in BASELINES else (0, 1, 2, 3, 5)
        cells = [variant]
        for key in ("precision", "overlap"):
            shown = [spread([result[key][count] for result in right]) for count in counts]
            cells.append(" / ".join((["–"] if variant in BASELINES else []) + shown))
        cells.append(spread([result["clicks"] for result in right]))
        words = [
            [result["overlap"][1] for run, result in own.items() if run[4] == told]
            for told in ("right", "none", "wrong")
        ]
        cells.append("–" if variant in BASELINES else " / ".join(spread(values) for values in words))
        experiments.print_row(*cells)


if __name__ == "__main__":
    main()
