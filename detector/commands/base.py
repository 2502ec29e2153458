"""What the commands share: parsers, the words of a command line, plugins, and errors in one line."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from textwrap import indent
from typing import NoReturn

from yacs.config import CfgNode

from detector.commands.libraries import lacking_library
from detector.config import load_config, no_value_text
from detector.console import printing, setup_logging
from detector.errors import LostProcessError, MissingFileError, NonFiniteError, UserError
from detector.files import no_empty_folders
from detector.files import output_folder as output_folder
from detector.launch import launch
from detector.plugins import load_plugins
from detector.text import printable
from detector.weights.address import shown

CLASSIFIER_FLAGS = {
    "MODEL.BACKBONE.NAME": "--backbone",
    "MODEL.BACKBONE.NORM": "--norm",
    "MODEL.BACKBONE.PASSES": "--passes",
    "MODEL.BACKBONE.CHECKPOINT_STAGES": "--checkpoint-stages",
    "MODEL.WEIGHT": "--weight",
    "MODEL.DEVICE": "--device",
    "OUTPUT_DIR": "--output",
    "LOG.TENSORBOARD": "--tensorboard",
}
"""Config key -> what it is called in the commands for classifiers, which have flags and no config."""

AMP = ("off", "bf16", "fp16")
"""The precisions of `detector.engine.device.AMP`, which needs torch."""

WEIGHT = "MODEL.WEIGHT"

AUTO = "auto"
"""The threshold that is each class's own."""

ALONE = 15.0
"""Seconds after which a process that stops while others wait for it says why itself."""

SHORT = 3
"""Lines of a usage that is printed before what is wrong with the words."""

LAYOUT = "\n\t"
"""Control characters of messages themselves."""


class Parser(argparse.ArgumentParser):
    """One whose complaints are not lost behind the usage: a long one is left to --help."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the words, and end the process with status 2."""
        if len(self.format_usage().splitlines()) <= SHORT:
            super().error(message)
        self.exit(2, f"{self.prog}: error: {message} (all flags: `{self.prog} --help`)\n")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Names the defaults, but that of nothing, and leaves the lines of an example as they are."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def expanded(text: str) -> str:
    """The type of a flag that takes a path: `~` is the home folder also where no shell has seen it."""
    return os.path.expanduser(text)


def plain_parser(description: str | None, verb: str = "", example: str = "") -> argparse.ArgumentParser:
    """A parser without flags. verb: of `detector VERB`, "" for a script of its own; example: ends its help."""
    return Parser(
        prog=f"detector {verb}" if verb else None, description=description, formatter_class=HelpFormatter,
        epilog=f"example:\n{indent(example, '  ')}" if example else None, allow_abbrev=False,
    )  # fmt: skip


def tool_parser(description: str | None, verb: str = "", example: str = "") -> argparse.ArgumentParser:
    """A parser of `[--import PACKAGE]`."""
    parser = plain_parser(description, verb, example)
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="PACKAGE",
        help="Python package that registers further parts; may be repeated",
    )  # fmt: skip
    return parser


def config_parser(description: str | None, verb: str = "", example: str = "") -> argparse.ArgumentParser:
    """A parser of `--config-file FILE [--import PACKAGE] [KEY VALUE ...]`."""
    parser = tool_parser(description, verb, example)
    add_config_file(parser, required=True)
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides, e.g. MODEL.BACKBONE.NAME sreresnet50")
    return parser


def trained_parser(description: str | None, verb: str, example: str, *forms: str) -> argparse.ArgumentParser:
    """A parser of `[--config-file FILE] [--which newest|best] [--import PACKAGE]` and of words for `split_words`.

    forms: of the words and flags that say which detector works on what, for the usage.
    """
    parser = tool_parser(description, verb, example)
    parser.usage = "\n       ".join(f"%(prog)s {form} [FLAG ...] [KEY VALUE ...]" for form in forms)
    add_config_file(parser)
    parser.add_argument(
        "--which", choices=("newest", "best"), help="checkpoint of the run that counts; None: the newest"
    )
    parser.add_argument(
        "words", nargs="*", metavar=forms[0],
        help="RUN: a run's folder or a checkpoint, which holds its config; KEY VALUE: overrides, e.g. TEST.AMP bf16",
    )  # fmt: skip
    return parser


def add_config_file(parser: argparse.ArgumentParser, *, required: bool = False, note: str = "") -> None:
    """`--config-file FILE`; note: what it is for, where that is not the whole config."""
    parser.add_argument(
        "--config-file", type=expanded, required=required, metavar="FILE",
        help=f"YAML file{note}, or the name of a shipped one: see `detector configs`",
    )  # fmt: skip


def add_workers(parser: argparse.ArgumentParser) -> None:
    """`--workers N`, of the commands for classifiers."""
    parser.add_argument(
        "--workers", type=int, default=4, metavar="N", help="reading processes, at most one a core; 0: this one"
    )


def score_or_auto(text: str) -> float | str:
    """The type of `--threshold SCORE|auto`."""
    if text == AUTO:
        return text
    try:
        score = float(text)
    except ValueError:
        score = -1
    if not 0 <= score <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a score in 0..1 nor {AUTO}")
    return score


def split_words(
    parser: argparse.ArgumentParser, words: Sequence[str], names: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The first words, one for each of `names`, and the KEY VALUE pairs behind them.

    A word too few or a key without value ends the process; the usage, which stands above the message, has the form.
    """
    first, opts = list(words[: len(names)]), list(words[len(names) :])
    if len(first) < len(names):
        parser.error(f"{names[len(first)]} is missing")
    if len(opts) % 2:
        parser.error(no_value_text(opts[-1]))
    return first, opts


def read_config(args: argparse.Namespace) -> CfgNode:
    """Load plugins, then the config that the arguments name."""
    load_plugins(args.imports)
    return load_config(args.config_file, args.opts)


def exported_path(trained: str, which: str | None, opts: Sequence[str]) -> Path:
    """The path of an exported file. Raises ValueError where other weights are named beside it."""
    for word in [f"--which {which}"] * (which is not None) + [WEIGHT] * (WEIGHT in opts[::2]):
        raise UserError(f"{trained} holds its weights, so leave out {word}")
    return Path(expanded(trained))


def read_trained(
    args: argparse.Namespace, trained: str | None, opts: Sequence[str]
) -> tuple[CfgNode, str | Path | None]:
    """Load plugins, then the config of a trained detector; and the weights that the user names for it, if any.

    trained: a run's folder, or a checkpoint, which is itself the weights; None: --config-file counts.
    MODEL.WEIGHT in `opts` is not what a training started from but what to take now; it does not reach the config.
    """
    load_plugins(args.imports)
    pairs = list(zip(opts[::2], opts[1::2], strict=True))
    weight = dict(pairs).get(WEIGHT)
    others = [word for key, value in pairs if key != WEIGHT for word in (key, value)]
    if weight is not None and args.which is not None:
        raise UserError(f"{WEIGHT} {shown(weight)} and --which {args.which} are two wishes: leave one of them out")
    if trained is None:
        return load_config(args.config_file, others), weight
    trained = expanded(trained)
    if not trained or not Path(trained).exists():
        raise MissingFileError(f"RUN {trained}: there is no such folder or checkpoint; write output/NAME or FILE.pth")
    if Path(trained).is_file():
        if weight is not None:
            raise UserError(
                f"{trained} is a checkpoint, so leave out {WEIGHT} {shown(weight)}, or name the run's folder"
            )
        if args.which is not None:
            raise UserError(f"{trained} is a checkpoint, so leave out --which {args.which}, or name the run's folder")
    from detector.tasks.trained import run_config

    return run_config(Path(trained), others), weight or Path(trained)


def run(action: Callable[[], object], flags: Mapping[str, str] | None = None, *, log: bool = True) -> None:
    """Run a command's work; a person's mistake is printed as one line and ends the process with status 1.

    So is what the operating system says of a file. Everything else is a bug and keeps its traceback.

    flags: config keys that an error may name, and what the user of this command writes instead. log: whether log lines
    go to standard output; without, what is printed there can go into a file, and warnings go to standard error.
    """
    if log:
        setup_logging()
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:  # both are read when torch is imported
        # Threads that wait at a barrier soon sleep. By default they spin long, and one busy neighbour on the cores
        # makes everything several times slower; without any spinning (the policy passive) a step takes 5 to 10 % more.
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    try:
        with no_empty_folders(), nullcontext() if log else printing():
            action()
    except (UserError, OSError) as error:
        if not isinstance(error, UserError) and error.filename is None and error.errno is None:
            raise
        text = str(error) if isinstance(error, UserError) or not error.filename else _system_text(error)
        for key, flag in (flags or {}).items():
            text = text.replace(key, flag)
        here = launch()
        if here.rank and _said_by_another(error):
            sys.exit(1)
        place = f" of process {here.rank}" * (here.world > 1)
        sys.exit(f"error{place}: {printable(text, keep=LAYOUT)}")
    except ImportError as error:
        if not (text := lacking_library(error)):
            raise
        sys.exit(f"error: {text}")
    except KeyboardInterrupt as stop:  # of a training: Stopped, which says what became of it
        with suppress(OSError):
            if not launch().rank:
                print(stop.args[0] if stop.args else "interrupted", file=sys.stderr)
        sys.exit(getattr(stop, "status", 130))
    finally:
        let_go()


def _said_by_another(error: Exception) -> bool:
    """Whether the first process, or the one that ended, says the same.

    Before the first step all may make the same mistake, or one alone; the latter is heard after ALONE.
    """
    if isinstance(error, LostProcessError | NonFiniteError):
        return True
    together = "torch" in sys.modules and sys.modules["torch"].distributed.is_initialized()
    if not together or getattr(error, "at_the_beginning", False):
        time.sleep(ALONE)  # torchrun ends this process meanwhile if the first one ends too
    return False


def _system_text(error: OSError) -> str:
    """What the operating system says of a file (of a renaming: the new one), without the number."""
    name = error.filename2 or error.filename
    name = os.fsdecode(name) if isinstance(name, bytes) else name
    return f"{name}: {error.strerror or type(error).__name__}"


def show(text: str) -> None:
    """Print; a reader that has seen enough, such as `head`, ends the process without complaint."""
    try:
        print(text.removesuffix("\n"), flush=True)
    except BrokenPipeError:
        let_go()
        sys.exit(1)


def let_go() -> None:
    """Turn what nobody reads any more, a pipe or a closed terminal, into nothing; Python would end with status 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except (AttributeError, ValueError):  # there is none, or it is closed
            continue
