"""A hook of mkdocs: pages may link files of the repository, as they are read there; the site then holds copies."""

import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?P<path>(?:\.\./)+[^)#\s]+)(?P<rest>#[^)]*)?\)")
COPIES = "source"


def linked(page: str, text: str) -> dict[str, PurePosixPath]:
    """Target as a page writes it -> file of the repository, for those outside of docs."""
    found = {}
    for match in LINK.finditer(text):
        path = (ROOT / "docs" / page).parent.joinpath(match["path"]).resolve()
        if path.is_file() and ROOT / "docs" not in path.parents and ROOT in path.parents:
            found[match["path"]] = PurePosixPath(path.relative_to(ROOT).as_posix())
    return found


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a copy of every file that a page links, as text that a browser shows."""
    wanted = {
        path for page in files.documentation_pages() for path in linked(page.src_uri, page.content_string).values()
    }
    for path in sorted(wanted):
        copy = File.generated(config, f"{COPIES}/{path}.txt", content=(ROOT / path).read_text(encoding="utf-8"))
        files.append(copy)
    return files


def on_page_markdown(markdown: str, *, page: object, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to the copies."""
    uri = page.file.src_uri  # type: ignore[attr-defined]
    targets = linked(uri, markdown)
    up = "../" * uri.count("/")

    def lead(match: re.Match[str]) -> str:
        path = targets.get(match["path"])
        return f"]({up}{COPIES}/{path}.txt)" if path else match[0]

    return LINK.sub(lead, markdown)
