"""ADClick-Seg: what masks of a few clicks are worth beside true ones: `make table-seg` (needs WEAKREST_DATA and the Python environment).

Trains the network without clicks on synthetic defects and defective pictures, whose masks are the true ones, or those that
ADClick makes of 3 to 5 simulated clicks: the one that ships, or one that was trained on the product without any mask (`0-shot`
of table_clicks.py); or on no such pictures. Judged by `weakrest evaluate` on all other pictures, like the
heads of `make table-bottle`, and trained on the same pictures. Of several products one network is made, of their true masks:
told which product it sees, not told, and told another one's words. Kept in target/clicks. Prints Markdown.
"""

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import table_clicks
import table_heads
from table_heads import chosen, dataset, package, spread, weakrest

PROMPTS = Path(__file__).with_name("prompts") / "products.json"
ALONE = ("no labels", "3 to 5 clicks", "3 to 5 clicks, 0-shot", "true masks")
TOGETHER = ("product named", "not named", "named as another")
# Seconds of labeling a picture, of the papers: a click takes as long as each of the four that make a rotated box.
SECONDS = {"no labels": 0, "3 to 5 clicks": 5.5, "3 to 5 clicks, 0-shot": 5.5}
MASK = 30


def clicked(sample, number: int, segment):
    """The sample with the mask of so many clicks, without knowing the type of defect."""
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


def pictures(product: str, size: str, setting: str, seed: int) -> list:
    """What a setting trains on."""
    samples = table_clicks.prepare(product, size)
    ten = {os.path.realpath(sample.image) for sample in chosen(product, seed)}
    real = [sample for sample in samples if os.path.realpath(sample.image) in ten]
    if setting.startswith("3 to 5 clicks"):
        from weakrest_export import click_metrics

        variant = "0-shot" if setting.endswith("0-shot") else "general"
        held, _ = table_clicks.parts(samples, seed)
        segment = click_metrics.with_network(table_clicks.network_of(product, size, variant, seed, samples, held))
        real = [clicked(sample, 3 + at % 3, segment) for at, sample in enumerate(real)]
    used = [sample for sample in samples if sample.kind != "defective"]
    return used if setting == "no labels" else used + real


def network_of(products: tuple[str, ...], size: str, setting: str, seed: int, steps: int):
    """The network of a setting, the words of each product, and the minutes that training took."""
    import torch
    from weakrest_export import adclick_train, prompts, text
    from weakrest_export.adclick import AdClick, Shape

    words = dict.fromkeys(products)
    if setting in ("product named", "named as another"):
        encode = text.TextEncoder().encode
        words = {p: encode(own) for p, own in zip(products, prompts.of_products(PROMPTS, products), strict=True)}
    used = [s for p in products for s in adclick_train.of_product(pictures(p, size, setting, seed), words[p])]
    settings = adclick_train.unclicked(adclick_train.Settings(seed=seed, steps=steps))
    # What it is told in the end does not change how it was trained.
    name = TOGETHER[0] if setting == TOGETHER[2] else setting
    kept = table_clicks.KEPT / f"seg-{'-'.join(products)}-{size}-{name.replace(',', '').replace(' ', '-')}-{seed}-{steps}.pt"
    if kept.exists():
        network = AdClick(Shape(used[0].residuals.channels, width=settings.width, depth=settings.depth)).eval()
        state = torch.load(kept, weights_only=True)
        network.load_state_dict(state["network"])
        return network, words, state["minutes"]
    start = time.monotonic()
    network = adclick_train.train(used, settings)
    minutes = (time.monotonic() - start) / 60
    torch.save({"network": network.state_dict(), "minutes": minutes}, kept)
    return network, words, minutes


def measure(products: tuple[str, ...], size: str, setting: str, seed: int, steps: int) -> dict[str, dict]:
    """A setting's result for each product."""
    together = f"-{'-'.join(products)}" if len(products) > 1 else ""
    folders = {
        product: table_clicks.KEPT / f"{product}-{size}" / f"seg{together}-{setting.replace(',', '').replace(' ', '-')}-{seed}-{steps}"
        for product in products
    }
    kept = [folder / "result.json" for folder in folders.values()]
    if not all(path.exists() for path in kept):
        network, words, minutes = network_of(products, size, setting, seed, steps)
        for at, (product, folder) in enumerate(folders.items()):
            folder.mkdir(parents=True, exist_ok=True)
            told = words[products[at - 1] if setting == "named as another" else product]
            result = judge(network, product, size, seed, folder, setting, None if told is None else told[0])
            (folder / "result.json").write_text(json.dumps({"minutes": minutes, **result}))
    return {product: json.loads(path.read_text()) for product, path in zip(products, kept, strict=True)}


def judge(network, product: str, size: str, seed: int, folder: Path, setting: str, prompt) -> dict:
    from weakrest_export import adclick_export, head_export

    left = folder / "trained-on.txt"
    ten = sorted(os.path.realpath(sample.image) for sample in chosen(product, seed))
    left.write_text("".join(f"{image}\n" for image in ten))
    bank, new, goods = package(product, size, "soft"), folder / "with-head.weakrest", dataset(product) / "train/good"
    # The package's manifest names the backbone's file by its hash.
    backbone = table_clicks.prepare(product, size)[0].residuals.backbone
    made = adclick_export.export_head(network, backbone, setting=setting, source="table", prompt=prompt)
    head = head_export.write(made, folder)
    weakrest("package", "add-head", bank, "--head", head, "--images", goods, "--output", new, "--overwrite")
    text = weakrest("evaluate", "--dataset", dataset(product), "--package", new, "--leave-out", left, "--json")
    result = json.loads(text)["categories"][0]
    del result["outcomes"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("products", nargs="+", choices=table_heads.PRODUCTS)
    parser.add_argument("--size", default="256")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400, help="for each product")
    parser.add_argument("--settings", nargs="+", choices=(*ALONE, *TOGETHER))
    options = parser.parse_args()
    if not os.environ.get("WEAKREST_DATA"):
        sys.exit("table: WEAKREST_DATA names no folder of data sets; see docs/contributing.md")
    products = tuple(options.products)
    print("| ADClick-Seg, trained on | image AUROC | pixel AUROC | PRO | pixel AP | labeling s per picture | minutes |")
    print("|---|---|---|---|---|---|---|")
    for setting in options.settings or (ALONE if len(products) == 1 else TOGETHER):
        seeds = range(options.seeds)
        results = [measure(products, options.size, setting, seed, options.steps * len(products)) for seed in seeds]
        for product in products:
            own = [result[product] for result in results]
            cells = [f"{product}: {setting}", spread([result["image_auroc"] for result in own], 4)]
            for key, digits in (("auroc", 4), ("pro", 3), ("average_precision", 3)):
                cells.append(spread([result["pixels"][key] for result in own], digits))
            cells += [f"{SECONDS.get(setting, MASK):g}", f"{statistics.mean(result['minutes'] for result in own):.1f}"]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
