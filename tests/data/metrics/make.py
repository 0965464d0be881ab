"""Makes metrics.json: cases and what scikit-learn says of them.

Run with Python 3.11, numpy 2.4.6, scipy 1.17.1 and scikit-learn 1.9.1:

    python tests/data/metrics/make.py > tests/data/metrics/metrics.json
"""

import json
import sys

import numpy as np
from scipy import ndimage
from sklearn import metrics

PRO_LIMIT = 0.3
RANDOM = np.random.default_rng(20240607)


def floats(values, digits=4):
    """Scores that a 32-bit float holds after the same decimal text was read."""
    return np.array([np.float32(round(float(v), digits)) for v in np.ravel(values)], dtype=np.float32)


def text(values):
    """The shortest decimals that give the same 32-bit floats."""
    return [float(str(v)) for v in np.ravel(values)]


def best_f1(labels, scores):
    precision, recall, thresholds = metrics.precision_recall_curve(labels, scores)
    total = np.maximum(precision + recall, 1e-300)
    f1 = (2 * precision * recall / total)[:-1]
    # Equal fractions differ in their last digit as floats; the lowest of the equal thresholds counts.
    at = int(np.flatnonzero(f1 >= f1.max() - 1e-12)[0])
    return float(f1[at]), float(str(thresholds[at]))


def image_case(name, scores, labels):
    scores, labels = np.asarray(scores, dtype=np.float32), np.asarray(labels, dtype=bool)
    f1, threshold = best_f1(labels, scores)
    return {
        "name": name,
        "scores": text(scores),
        "labels": labels.astype(int).tolist(),
        "auroc": float(metrics.roc_auc_score(labels, scores)),
        "average_precision": float(metrics.average_precision_score(labels, scores)),
        "best_f1": f1,
        "lowest_defective": threshold,
    }


def image_cases():
    def labels(good, defective):
        return RANDOM.permutation([False] * good + [True] * defective)

    def separated(truth, gap, digits=4):
        return floats(RANDOM.normal(size=truth.size) + gap * truth, digits)

    balanced, rare, one, one_good = labels(40, 40), labels(150, 3), labels(50, 1), labels(1, 20)
    yield image_case("balanced", separated(balanced, 1.0), balanced)
    yield image_case("many ties", separated(balanced, 1.0, 0), balanced)
    yield image_case("imbalanced", separated(rare, 2.0), rare)
    yield image_case("imbalanced with ties", separated(rare, 2.0, 0), rare)
    yield image_case("single defective", separated(one, 1.5), one)
    yield image_case("single good", separated(one_good, 1.5), one_good)
    yield image_case("perfect", separated(balanced, 50.0), balanced)
    yield image_case("worst", separated(balanced, -50.0), balanced)
    yield image_case("all equal", np.full(balanced.size, 0.5), balanced)
    yield image_case("both zeros are equal", [0.0, -0.0, 0.0, -0.0, 1.0, -1.0], [1, 0, 0, 1, 1, 0])
    yield image_case("huge and tiny", [3e38, 1e-38, -3e38, 1e-45, 0.0, 2e38], [1, 1, 0, 1, 0, 0])
    step = np.float32(1.0)
    neighbors = []
    for _ in range(12):
        neighbors.append(step)
        step = np.nextafter(step, np.float32(2.0))
    yield image_case("neighboring floats", neighbors, [0, 0, 1, 0, 1, 0, 0, 1, 1, 0, 1, 1])


def pro(maps, masks):
    """Mean overlap of the 8-connected defects over false-positive rates up to the limit, threshold by threshold."""
    scores = np.concatenate([m.ravel() for m in maps])
    truth = np.concatenate([m.ravel() for m in masks])
    defects = []
    for values, mask in zip(maps, masks):
        numbered, count = ndimage.label(mask, structure=np.ones((3, 3)))
        defects += [values[numbered == i + 1] for i in range(count)]
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(scores)[::-1]:
        rates.append(float((scores[~truth] >= threshold).mean()))
        overlaps.append(float(np.mean([(d >= threshold).mean() for d in defects])))
    # Overlaps at one rate rise vertically; the highest is where the curve goes on from.
    rates, overlaps = np.array(rates), np.array(overlaps)
    inside = rates <= PRO_LIMIT
    x, y = list(rates[inside]), list(overlaps[inside])
    if x[-1] < PRO_LIMIT:
        beyond = int(np.flatnonzero(~inside)[0])
        share = (PRO_LIMIT - x[-1]) / (rates[beyond] - x[-1])
        y.append(y[-1] + (overlaps[beyond] - y[-1]) * share)
        x.append(PRO_LIMIT)
    return float(metrics.auc(x, y)) / PRO_LIMIT, len(defects)


def pixel_case(name, maps, masks):
    scores = np.concatenate([m.ravel() for m in maps])
    truth = np.concatenate([m.ravel() for m in masks])
    f1, threshold = best_f1(truth, scores)
    overlap, defects = pro(maps, masks)
    return {
        "name": name,
        "images": [
            {
                "width": int(mask.shape[1]),
                "height": int(mask.shape[0]),
                "map": text(values),
                "mask": "".join("#" if bit else "." for bit in mask.ravel()),
            }
            for values, mask in zip(maps, masks)
        ],
        "auroc": float(metrics.roc_auc_score(truth, scores)),
        "average_precision": float(metrics.average_precision_score(truth, scores)),
        "best_f1": f1,
        "lowest_defective": threshold,
        "pro": overlap,
        "defects": defects,
    }


def pixel_cases():
    def mask(*rows):
        return np.array([[c == "#" for c in row] for row in rows])

    blobs = mask("##.....#", "##......", "........", "..#.....", "...#....", "........", "#.....##", "#....##.")
    sparse = mask(".....", "..#..", ".....")
    clean = np.zeros((6, 7), dtype=bool)

    def values(truth, gap, digits=3):
        return floats(RANDOM.random(truth.shape) + gap * truth, digits).reshape(truth.shape)

    truth = [blobs, sparse, clean]
    yield pixel_case("fair", [values(t, 0.5) for t in truth], truth)
    yield pixel_case("ties", [values(t, 0.5, 1) for t in truth], truth)
    yield pixel_case("the limit lies inside one block of ties", [values(t, 0.6, 0) for t in truth], truth)
    yield pixel_case("perfect", [values(t, 2.0) for t in truth], truth)
    yield pixel_case("worst", [values(t, -2.0) for t in truth], truth)
    yield pixel_case("constant", [np.full(t.shape, 0.25, dtype=np.float32) for t in truth], truth)
    yield pixel_case("one defective pixel", [values(t, 0.4) for t in (sparse, clean)], [sparse, clean])
    most = ~sparse
    yield pixel_case("nearly all defective", [values(most, 0.3)], [most])


json.dump({"images": list(image_cases()), "pixels": list(pixel_cases())}, sys.stdout, indent=None)
print()
