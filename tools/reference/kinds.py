"""The page of docs/reference on `detector check`: the kinds of findings, and the document that `--json` prints."""

from detector.tasks.doctor import SEVERITIES, VERSION
from detector.tasks.doctor_text import sorted_kinds

MEANINGS = {
    "error": "A training stops, or what it learns and measures is worthless.",
    "warning": "It is likely to be a mistake, or a training leaves it out and says so.",
    "note": "It is worth to be known.",
}

DOCUMENT = {
    "version": f"{VERSION}; another number when a key changes its meaning",
    "verdict": "`error`, `warning` or `clean`",
    "errors": "the number of findings of this severity",
    "warnings": "likewise",
    "notes": "likewise",
    "resize": "of a test by the config: `short`, `long`, `square`, pixels, 0 for none; null without a config",
    "sets": "a map for each data set that could be read: `entry`, `role` (`train`, `test` or empty), `name`, `format`, "
    "`annotations`, `pictures` (paths); `images`, of which `empty` without an object; `objects`, of which `difficult`, "
    "and `small`, `medium`, `large` in the pictures as they are; `resized`: these three after the resize, or null; "
    "`crowds`; `most`, `mean`: objects an image",
    "classes": "`name`; `objects`, `images`: lists with a number for each of `sets`; most frequent first",
    "kinds": "what was found, errors first: `id`, `count`, `severity`, `what`, `remedy`",
    "findings": "every example, in the order of `kinds`: `kind`, `text`, `picture`, `record`, `box` (x, y, width, "
    "height as in the file, or null)",
    "fix": "with `--fix`: `copies` (`entry`, `written`, `done`, `lost`, `emptied`: pictures that lost all boxes), and "
    "lists of kinds: `left_out` (records that could not be read) and `not_mended`, without `reach-recall`, which is a "
    "figure",
}
"""Key of the JSON document -> what it holds."""


def kinds_body() -> str:
    """The page without its first line."""
    lines = [
        "# What check finds",
        "",
        "The kinds of findings of `detector check`, by severity; `detector check --kinds` prints them as one table. "
        "How to use the command: [check data](../check.md).",
        "",
    ]
    for severity in SEVERITIES:
        lines += [f"## {severity.capitalize()}s", "", MEANINGS[severity], ""]
        if severity == "error":
            lines += [
                "With `DATALOADER.BROKEN skip` in the config, pictures that cannot be used are warnings, as a training "
                "then leaves them out.",
                "",
            ]
        lines += ["| kind | what is counted | remedy |", "|---|---|---|"]
        lines += [f"| `{id_}` | {kind.what} | {kind.remedy} |" for id_, kind in sorted_kinds(severity)]
        lines += [""]
    lines += ["## The JSON document", "", "What `--json` prints.", "", "| key | what it holds |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{key}` | {text} |" for key, text in DOCUMENT.items()), ""])
