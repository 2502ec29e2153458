"""Made-up detectors with errors of every kind, and what tidecv says of them."""

import numpy as np

from detector.evaluation.matching import Guesses, Truth


def erring(seed, images=30, objects=150, detections=600, classes=4):
    """Objects and detections of distinct scores, without crowds; numbers that no release of NumPy changes."""
    random = np.random.RandomState(seed)
    xywh = np.concatenate([random.uniform(0, 60, (objects, 2)), random.uniform(10, 40, (objects, 2))], 1)
    image, labels = np.sort(random.randint(0, images, objects)), random.randint(0, classes, objects)
    truth = Truth(image, labels, xywh, xywh[:, 2:].prod(1), np.zeros(objects, bool))
    copied = random.randint(0, objects * 3 // 4, detections)
    moved = xywh[copied] + random.normal(0, random.choice([1, 6], (detections, 1)), (detections, 4))
    moved[:, 2:] = np.maximum(moved[:, 2:], 1)
    far = random.uniform(size=detections) < 0.2
    moved[far, :2] = random.uniform(0, 200, (far.sum(), 2))
    label = np.where(random.uniform(size=detections) < 0.75, labels[copied], random.randint(0, classes, detections))
    order = np.argsort(image[copied], kind="stable")
    scores = random.permutation(detections) / detections
    return truth, Guesses(image[copied][order], label[order], moved[order], scores[order])


def said_by_tidecv(truth, guesses, images):
    """AP50, the number of errors of each kind, what they cost alone and one after the other, and the special costs.

    Kinds in the order of the article; points of a hundred. Needs tidecv.
    """
    from tidecv import TIDE, Data

    objects, found = Data("truth", max_dets=100), Data("found", max_dets=100)
    for i in range(images):
        objects.add_image(i, str(i))
    columns = (truth.image.tolist(), truth.labels.tolist(), truth.xywh.tolist(), truth.crowd.tolist())
    for image, label, box, crowd in zip(*columns, strict=True):
        (objects.add_ignore_region if crowd else objects.add_ground_truth)(image, label, box)
    for image, label, box, score in zip(*(column.tolist() for column in guesses), strict=True):
        found.add_detection(image, label, score, box)
    run = TIDE().evaluate(objects, found, mode=TIDE.BOX)
    numbers, alone, special = run.count_errors(), run.fix_main_errors(), run.fix_special_errors()
    in_turn, kinds = run.fix_main_errors(progressive=True), TIDE._error_types
    return {
        "ap50": run.ap,
        "numbers": [numbers[kind] for kind in kinds],
        "alone": [*(alone[kind] for kind in kinds), *(special[kind] for kind in TIDE._special_error_types)],
        "in_turn": [in_turn[kind] for kind in kinds],
    }
