"""Write docs/reference of the code: keys, commands, backbones, parts, the public Python names, what `check` finds."""

import argparse

from pages import FOLDER, PAGES

from detector.files import write_atomic


def main() -> None:
    """`[--only FILE ..]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=tuple(PAGES), default=tuple(PAGES), help="pages to make anew")
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        write_atomic(FOLDER / name, PAGES[name]().rstrip().encode() + b"\n")
        print(FOLDER / name)


if __name__ == "__main__":
    main()
