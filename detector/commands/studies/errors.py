"""The study of errors: of which kinds they are, and what each costs in AP50."""

import argparse
import logging

from detector.commands.base import show
from detector.commands.studies import Adder
from detector.commands.studies.drawing import picture
from detector.commands.studies.words import add_detections, read_detections
from detector.files import write_json

log = logging.getLogger("detector")

EXAMPLE = "detector analyze errors output/bccd_fcos_resnet18"


def add(command: Adder) -> None:
    """The command `errors`."""
    text = "the kinds of wrong detections and missed objects, and what each costs in AP50"
    add_detections(command("errors", text, EXAMPLE)).set_defaults(study=errors)


def errors(args: argparse.Namespace) -> None:
    """Print tables and what they say; write errors.json and errors.png."""
    from detector.analysis.error_charts import save_errors_chart
    from detector.evaluation.errors import KINDS, SPECIAL
    from detector.report.errors import by_loss, document, report_errors, text

    examined, output = read_detections(args)
    report = report_errors(examined.source.index, examined.found, examined.source.name)
    show(text(report, examined.name))
    write_json(output / "errors.json", document(report, examined.name))
    log.info("-> %s", output / "errors.json")
    by_class = 100 * report.found.costs()
    costs = report.found.mean(by_class).tolist()
    with picture(output / "errors.png"):
        save_errors_chart(
            output / "errors.png",
            f"{examined.name} on {examined.source.name}: AP50 {100 * report.measures['AP50']:.1f}",
            dict(zip(KINDS, costs[: len(KINDS)], strict=True)),
            dict(zip(SPECIAL, costs[len(KINDS) :], strict=True)),
            {report.classes[c]: by_class[: len(KINDS), c].tolist() for c in by_loss(report)},
        )
