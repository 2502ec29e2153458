"""report.json documents of invented comparisons, of every shape that a report must show."""

import math
import random

MEASURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def row(value, se=0.01, **more):
    """A value with everything that stands beside it."""
    bounds = [value - 1.96 * se, value + 1.96 * se]
    alone = {"se": se, "interval95": bounds}
    return {"value": value, "se": se, "interval95": bounds, "bca95": bounds, "images": alone, "seeds": None, **more}


def gap(value, se=0.01, **more):
    """A difference; a tie where its interval holds 0."""
    p = math.erfc(abs(value) / se / math.sqrt(2))
    return {**row(value, se), "p": p, "tie": abs(value) <= 1.96 * se, **more}


NOTHING = {"value": None, "se": None, "interval95": [None, None], "bca95": [None, None]}
"""A measure without an object, as the document has it."""


def results(aps, classes=("cat", "dog"), se=0.01, truth="t.json"):
    """Results files: model -> AP; each class has its model's AP, the differences fall from class to class."""
    models, differences = {}, []
    first = next(iter(aps))
    for name, ap in aps.items():
        every = {measure: row(ap, se) for measure in MEASURES} | {"APs": dict(NOTHING)}
        of_class = {f"AP/{each}": row(ap, se) for each in classes}
        models[name] = {"file": f"{name}.json", **every, **of_class}
        if name != first:
            gaps = {measure: gap(ap - aps[first], se) for measure in MEASURES}
            gaps["APs"] = {**NOTHING, "p": None, "tie": True}
            for place, each in enumerate(classes):
                shrunk = gap((ap - aps[first]) / (1 + place), se)
                gaps[f"AP/{each}"] = {**shrunk, "p_holm": min(1.0, shrunk["p"] * len(classes))}
            differences.append({"models": [name, first], **gaps})
    return {
        "version": 2, "kind": "results", "truth": truth, "images": 400, "objects": 1200, "replicates": 1000,
        "classes": list(classes), "models": models, "differences": differences,
        "compared": {"same": {}, "differ": {}}, "versions": {"detector": "0.9"}, "device": "",
        "failed": [], "notes": [],
    }  # fmt: skip


def runs(names=("resnet50", "sreresnet50", "iresnet50", "res2net50", "resnest50"), seeds=3, classes=("RBC", "WBC")):
    """Arms of several seeds, with costs and curves; the second ties with the first, the third is better, two worse."""
    draw = random.Random(0)
    step = (0.0, 0.004, 0.031, -0.027, -0.055)
    document = results({name: 0.6 + step[i % 5] for i, name in enumerate(names)}, classes, se=0.012)
    document.update(kind="runs", truth="voc:bccd:test", images=72, objects=1021, device="2 x Intel Xeon, cpu")
    document["versions"] = {"detector": "0.9", "torch": "2.14.1", "python": "3.11.2"}
    for i, (name, model) in enumerate(document["models"].items()):
        ap = model["AP"]["value"]
        model.pop("file")
        for measure in MEASURES:
            if model[measure]["value"] is not None:
                model[measure]["seeds"] = {"n": seeds, "sd": 0.008, "se": 0.005, "interval95": [ap - 0.02, ap + 0.02]}
        model.update(
            backbone=name, head="fcos",
            runs=[
                {"folder": f"runs/{name}_{k}", "seed": k, "AP": ap + 0.01 * (k - 1), "AP50": ap + 0.2, "AP75": ap,
                 "train_s": 700 + 90 * i + k, "steps": 600}
                for k in range(seeds)
            ],
            facts={
                "params": 32_000_000 + 1_700_000 * i, "macs": 4.1e9 + 6e8 * i, "macs_backbone": 3e9 + 5e8 * i,
                "size": [240, 320], "step_s": 1.1 + 0.2 * i, "image_s": 0.052 + 0.011 * i, "memory_mb": 900 + 300 * i,
                "train_s": 700 + 90 * i, "correlation": 0.052 + 0.004 * i, "steps": 600, "images_seen": 4800,
            },
            curves=[
                {"seed": k,
                 "loss": [
                     [s, 3 * math.exp(-s / 150) + 0.6 + 0.02 * i + draw.gauss(0, 0.06)] for s in range(20, 601, 20)
                 ],
                 "evaluations": [
                     [s, (ap + 0.01 * (k - 1)) * (1 - math.exp(-s / 160)), ap + 0.2] for s in range(100, 601, 100)
                 ]}
                for k in range(seeds)
            ],
        )  # fmt: skip
    for pair in document["differences"]:
        value = pair["AP"]["value"]
        images = {"se": 0.009, "interval95": [value - 0.018, value + 0.018], "bca95": None, "p": 0.2}
        of_seeds = {
            "n": seeds,
            "mean": value,
            "sd": 0.01,
            "se": 0.006,
            "interval95": [value - 0.02, value + 0.02],
            "p": 0.25,
        }
        pair["AP"].update(images=images, seeds=of_seeds)
    document["compared"] = {
        "same": {"SOLVER.MAX_ITER": 600, "SOLVER.BASE_LR": 0.0025, "DATASETS.TRAIN": ["voc:bccd:train"]},
        "differ": {"MODEL.BACKBONE.NAME": {name: name for name in names}},
    }
    document["notes"] = ["Fewer than six seeds cannot reach p < 0.05 by the sign-flip test."]
    return document
