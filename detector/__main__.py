"""`detector VERB ...`, also as `python -m detector VERB ...`."""

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module

from detector.commands import VERBS
from detector.version import __version__


def main(argv: Sequence[str] | None = None) -> None:
    """`VERB [ARGUMENT ...] | --help | --version`."""
    verb, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if verb in ("-h", "--help"):
        print(overview())
    elif verb == "--version":
        print(f"detector {__version__}")
    elif verb in VERBS:
        command(verb)[0](rest)
    else:
        near = ", ".join(get_close_matches(verb, VERBS)) or "none"
        sys.exit(f"error: unknown verb {verb!r}; near: {near}; write detector VERB, one of: {', '.join(VERBS)}")


def command(verb: str) -> tuple[Callable[[Sequence[str] | None], None], str]:
    """The function that runs a verb, and what it does in one line."""
    module, _, name = VERBS[verb].partition(":")
    found = import_module(f"detector.commands.{module}")
    function = getattr(found, name or "main")
    return function, ((function if name else found).__doc__ or "").partition("\n")[0]


def overview() -> str:
    """The verbs with a line each."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {command(verb)[1]}" for verb in VERBS]
    return "\n".join(
        [
            "usage: detector VERB [ARGUMENT ...]", "", *lines, "",
            "`detector VERB --help` explains a verb; `detector --version` prints the version.", "",
            "example:", "  detector train --config-file quickstart",
        ]
    )  # fmt: skip


if __name__ == "__main__":
    main()
