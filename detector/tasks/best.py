"""The measure that the best checkpoint has the highest of: its name, its score, and a resume that changes it."""

import logging
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from yacs.config import CfgNode

from detector.engine.run import NO_SCORE, Run
from detector.errors import UserError
from detector.evaluation.base import Indexed
from detector.evaluation.build import build_evaluators
from detector.evaluation.report import VOC, of_class
from detector.text import printable
from detector.weights.checkpoint import read_checkpoint
from detector.weights.load import listed
from detector.weights.read import FETCH, WeightFile

log = logging.getLogger("detector")


def best_by(cfg: CfgNode) -> str:
    """The name of the measure: TEST.BEST_BY, else COCO's AP, or VOC's AP50 where TEST.EVALUATOR is voc alone.

    Of salient objects it is max_f.
    """
    if cfg.MODEL.TASK == "saliency":
        return cfg.TEST.BEST_BY or "max_f"
    return cfg.TEST.BEST_BY or (f"{VOC}AP50" if cfg.TEST.EVALUATOR == ("voc",) else "AP")


def check_best_by(cfg: CfgNode, tests: Mapping[str, Indexed]) -> None:
    """Raise ValueError, with the names that there are, where a test set has no measure of the name TEST.BEST_BY."""
    name = cfg.TEST.BEST_BY
    for test, dataset in tests.items() if name else ():
        known = [one for evaluator in build_evaluators(cfg, dataset) for one in evaluator.names()]
        if name not in known:
            near = get_close_matches(name, known)
            plain = [one for one in known if not of_class(one)]
            inner = [one for one in known if of_class(one)]
            raise UserError(
                f"TEST.BEST_BY {printable(name)}: {printable(test)} has no such measure"
                f"{f'; near: {listed(near)}' if near else ''}; there are {', '.join(plain)}, and those of the classes, "
                f"like {printable(inner[0])}"
            )


def score(metrics: Mapping[str, Mapping[str, float]], name: str) -> float:
    """The mean of a measure over the test sets that have something to find; NO_SCORE without any. Higher is better."""
    found = [measures[name] for measures in metrics.values() if measures[name] != NO_SCORE]
    if not found:
        log.warning("%s: no test set has anything of it to find, so no evaluation is better than another", name)
    return sum(found) / len(found) if found else NO_SCORE


def best_text(content: Mapping[str, Any]) -> str:
    """Of which step the weights of a best checkpoint are, by which measure and how good: ", of step 3, .."."""
    name, metrics = content.get("best_by"), content.get("metrics")
    how = ""
    if isinstance(name, str) and metrics and all(name in measures for measures in metrics.values()):
        how = f", by {printable(name)}: {score(metrics, name):.3f}"
    return f"the best, of step {content.get('step')}{how}"


def carry_over(run: Run, file: WeightFile, name: str) -> None:
    """Fit what a resumed run knows of its best to the measure `name` and the test sets of now, run.facts["tests"].

    Scores of another measure, or of other sets, do not compare. Where the best checkpoint was tested on the same sets,
    its own score by the new measure counts, and the evaluation of this step is made again. Else the next evaluation
    is the best. Patience counts anew. Says so. Without test sets all stays as it is; checkpoints that name no measure
    are taken as of the same.
    """
    sets, content = list(run.facts["tests"]), file.content
    if not sets:
        run.metrics = None
        run.facts |= {key: content[key] for key in ("best_by", "tests") if key in content}
        return
    metrics = content.get("metrics") or {}
    was, were = content.get("best_by", name), list(content.get("tests", metrics or sets))
    if not run.evaluated or (was == name and sorted(were) == sorted(sets)):
        return
    run.best, run.best_step, run.stale, run.metrics = NO_SCORE, 0, 0, None
    path = run.folder / run.kept
    text = f"the best was chosen by {was} on {listed(were)}, and is by {name} on {listed(sets)} from here on"
    try:
        best = read_checkpoint(path, "metrics", "step").content if run.kept and path.is_file() else {}
    except UserError as error:
        log.warning("%s; it is left out", str(error).removesuffix(FETCH))
        best = {}
    known = best.get("metrics") or {}
    if known.keys() == set(sets) and all(name in measures for measures in known.values()):
        run.best, run.best_step = score(known, name), best["step"]
        log.warning("%s: %s, of step %d, has %.3f of it", text, path.name, run.best_step, run.best)
    else:
        log.warning(
            "%s: its score does not compare, so the next evaluation is the best%s",
            text,
            f" and takes the place of {path.name}" if best else "",
        )
