"""report.html: the page of a comparison, one file that needs no other, from report.json alone."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from detector.report.charts import Chart
from detector.report.html import text
from detector.report.sections import SECTIONS, opening
from detector.report.shown import Document


def page(document: Document, charts: Sequence[Chart] = ()) -> str:
    """The whole page. Nothing in it is fetched, and no script but its own few lines can run."""
    style, script = (_own(name) for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    sections = "\n".join(section for make in SECTIONS if (section := make(document, charts)))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(", ".join(document["models"]))}: a comparison</title>
<style>
{style}</style>
</head>
<body>
<main>
<header>
{opening(document)}
</header>
{sections}
</main>
<script>{script}</script>
</body>
</html>
"""


def _own(name: str) -> str:
    return files("detector.report").joinpath(name).read_text(encoding="utf-8")
