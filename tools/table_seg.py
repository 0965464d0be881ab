"""Compares masks of a few clicks with true masks: `make table-seg`.

Needs WEAKREST_DATA and the Python environment. Results are kept in target/clicks. Prints Markdown.

Trains ADClick-Seg, the network without clicks, on synthetic defects and on defective pictures. The masks of
defective pictures are the true masks, or ADClick makes them of 3 to 5 simulated clicks. That ADClick is the
network that ships, or a network that was trained on the product without any mask (`0-shot` of
table_clicks.py). `weakrest evaluate` judges all other pictures.

For several products, one network learns their true masks: told which product it sees, not told, and told the
words of another product.
"""

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import experiments
import table_clicks
from experiments import CLICKS, chosen, rounded_mean, slug

PROMPTS = Path(__file__).with_name("prompts") / "products.json"
ALONE = ("no labels", "3 to 5 clicks", "3 to 5 clicks, 0-shot", "true masks")
TOGETHER = ("product named", "not named", "named as another")
# Seconds of labeling a picture, from the papers. A click takes as long as each of the four of a rotated box.
SECONDS = {"no labels": 0, "3 to 5 clicks": 5.5, "3 to 5 clicks, 0-shot": 5.5}
MASK = 30


def clicked(sample: Any, number: int, segment: Any) -> Any:
    """The sample with the mask of `number` clicks, without a prompt."""
    import numpy as np

    from weakrest_export.clicks import next_click

    truth, known = sample.share > 0.5, ~np.isnan(sample.share)
    mask, clicks = np.zeros_like(truth), []
    for _ in range(number):
        click = next_click(truth, mask, known)
        if click is not None:
            clicks.append(click)
        mask = segment(sample, clicks, mask) > 0.5
    return replace(sample, share=np.where(known, mask, np.nan).astype(np.float32))


def pictures(product: str, size: str, setting: str, seed: int) -> list[Any]:
    """What a setting trains on."""
    samples = table_clicks.prepare(product, size)
    ten = {os.path.realpath(sample.image) for sample in chosen(product, seed)}
    real = [sample for sample in samples if os.path.realpath(sample.image) in ten]
    if setting.startswith("3 to 5 clicks"):
        from weakrest_export import click_metrics

        variant = "0-shot" if setting.endswith("0-shot") else "general"
        held, _ = table_clicks.parts(samples, seed)
        network = table_clicks.network_of(product, size, variant, seed, samples, held)
        segment = click_metrics.with_network(network)
        real = [clicked(sample, 3 + at % 3, segment) for at, sample in enumerate(real)]
    used = [sample for sample in samples if sample.kind != "defective"]
    return used if setting == "no labels" else used + real


def network_of(
    products: tuple[str, ...], size: str, setting: str, seed: int, steps: int
) -> tuple[Any, dict[str, Any], float]:
    """The network of a setting, the words of each product, and the minutes of training."""
    import torch

    from weakrest_export import adclick_train, prompts, text
    from weakrest_export.settings import ClickSettings

    words: dict[str, Any] = dict.fromkeys(products)
    if setting in ("product named", "named as another"):
        encode = text.TextEncoder().encode
        phrases = prompts.of_products(PROMPTS, products)
        words = {product: encode(own) for product, own in zip(products, phrases, strict=True)}
    used = [
        sample
        for product in products
        for sample in adclick_train.of_product(pictures(product, size, setting, seed), words[product])
    ]
    settings = ClickSettings(seed=seed, steps=steps).unclicked()
    # What it is told in the end does not change how it was trained.
    name = TOGETHER[0] if setting == TOGETHER[2] else setting
    kept = CLICKS / f"seg-{'-'.join(products)}-{size}-{slug(name)}-{seed}-{steps}.pt"
    if kept.exists():
        network = experiments.untrained(used, settings)
        state = torch.load(kept, weights_only=True)
        network.load_state_dict(state["network"])
        return network, words, state["minutes"]
    start = time.monotonic()
    network = adclick_train.train(used, settings)
    minutes = (time.monotonic() - start) / 60
    torch.save({"network": network.state_dict(), "minutes": minutes}, kept)
    return network, words, minutes


def measure(
    products: tuple[str, ...], size: str, setting: str, seed: int, steps: int
) -> dict[str, dict[str, Any]]:
    """A setting's result for each product."""
    together = f"-{'-'.join(products)}" if len(products) > 1 else ""
    name = f"seg{together}-{slug(setting)}-{seed}-{steps}"
    folders = {product: CLICKS / f"{product}-{size}" / name for product in products}
    kept = [folder / "result.json" for folder in folders.values()]
    if not all(path.exists() for path in kept):
        network, words, minutes = network_of(products, size, setting, seed, steps)
        for at, (product, folder) in enumerate(folders.items()):
            folder.mkdir(parents=True, exist_ok=True)
            told = words[products[at - 1] if setting == "named as another" else product]
            result = judge(network, product, size, seed, folder, setting, None if told is None else told[0])
            (folder / "result.json").write_text(json.dumps({"minutes": minutes, **result}))
    return {product: json.loads(path.read_text()) for product, path in zip(products, kept, strict=True)}


def judge(
    network: Any, product: str, size: str, seed: int, folder: Path, setting: str, prompt: Any
) -> dict[str, Any]:
    from weakrest_export import adclick_export, head_export

    # The package's manifest names the backbone's file by its hash.
    backbone = table_clicks.prepare(product, size)[0].residuals.backbone
    made = adclick_export.export_head(network, backbone, setting=setting, source="table", prompt=prompt)
    head = head_export.write(made, folder)
    return experiments.judged(product, seed, folder, experiments.package(product, size), head)


def main() -> None:
    parser = experiments.parser(__doc__, nargs="+")
    parser.add_argument("--steps", type=int, default=400, help="for each product")
    parser.add_argument("--settings", nargs="+", choices=(*ALONE, *TOGETHER))
    options = parser.parse_args()
    experiments.need_data()
    products = tuple(options.products)
    experiments.print_header(
        "ADClick-Seg, trained on",
        "image AUROC",
        "pixel AUROC",
        "PRO",
        "pixel AP",
        "labeling s per picture",
        "minutes",
    )
    for setting in options.settings or (ALONE if len(products) == 1 else TOGETHER):
        seeds, steps = range(options.seeds), options.steps * len(products)
        results = [measure(products, options.size, setting, seed, steps) for seed in seeds]
        for product in products:
            own = [result[product] for result in results]
            minutes = rounded_mean(result["minutes"] for result in own)
            labeling = f"{SECONDS.get(setting, MASK):g}"
            experiments.print_row(f"{product}: {setting}", *experiments.accuracy(own), labeling, minutes)


if __name__ == "__main__":
    main()
