"""What `detector VERB` runs, one file a verb; nothing below knows a flag.

No module here imports torch before its work begins, so that `--help` and a mistyped flag are answered at once.
"""

VERBS = {
    "train": "train",
    "check": "check",
    "plan": "plan",
    "test": "test",
    "predict": "predict",
    "export": "export",
    "compare": "compare",
    "card": "card",
    "convert": "convert",
    "convert-data": "convert_data",
    "info": "info",
    "analyze": "analyze",
    "pretrain": "pretrain",
    "classify": "classify",
    "config": "config",
    "configs": "lists:configs",
    "backbones": "lists:backbones",
    "necks": "lists:necks",
    "heads": "lists:heads",
    "datasets": "lists:datasets",
}
"""Verb -> the module here whose `main` runs it, or MODULE:FUNCTION."""
