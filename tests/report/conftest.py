"""What the tests of reports share."""

import pytest
from helpers import comparisons

HOSTILE = "$x$<script>alert(1)</script>\"'&|\x1b[31m\u202e 日本"


@pytest.fixture
def hostile():
    """A document in which every text that comes from elsewhere would like to be markup."""
    names = (HOSTILE, "$b$|c", "<img src=x onerror=alert(1)>")
    document = comparisons.runs(names, classes=(HOSTILE, "</td></table>", '"><svg onload=alert(1)>'))
    document.update(truth=HOSTILE, device=HOSTILE, notes=[HOSTILE], versions={HOSTILE: HOSTILE})
    document["failed"] = [{"cell": HOSTILE, "why": HOSTILE}]
    document["compared"] = {"differ": {HOSTILE: {HOSTILE: HOSTILE}}, "same": {HOSTILE: [HOSTILE]}}
    for model in document["models"].values():
        model["backbone"] = model["backbone"] + HOSTILE
        for run in model["runs"]:
            run["folder"] = HOSTILE
    return document


@pytest.fixture
def empty():
    """A document of runs in which nothing is known: null wherever there may be null."""
    document = comparisons.runs(("a", "b", "c"))
    for model in document["models"].values():
        model.update(backbone=None, head=None, facts=dict.fromkeys(model["facts"]), curves=[], runs=[])
        model.update({name: dict(comparisons.NOTHING) for name in [*comparisons.MEASURES, "AP/RBC", "AP/WBC"]})
    for pair in document["differences"]:
        for name in [*comparisons.MEASURES, "AP/RBC", "AP/WBC"]:
            pair[name] = {**comparisons.NOTHING, "p": None, "tie": True, "p_holm": None, "images": None, "seeds": None}
    document.update(device=None, versions={}, compared={"same": {}, "differ": {}})
    return document
