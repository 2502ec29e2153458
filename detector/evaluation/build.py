"""From config to evaluators."""

from yacs.config import CfgNode

from detector.evaluation.base import Evaluator, Indexed
from detector.evaluation.coco import CocoEvaluator
from detector.evaluation.voc import VocEvaluator

EVALUATORS: dict[str, type[Evaluator]] = {"coco": CocoEvaluator, "voc": VocEvaluator}
"""The names in TEST.EVALUATOR."""


def build_evaluators(cfg: CfgNode, dataset: Indexed) -> list[Evaluator]:
    """The evaluators of TEST.EVALUATOR; "auto" is COCO's, and for data in VOC's layout both."""
    names = cfg.TEST.EVALUATOR
    if names == ("auto",):
        names = ("coco", "voc") if dataset.index.kind == "voc" else ("coco",)
    return [EVALUATORS[name](dataset) for name in names]
