"""Names that nobody registered, and how many others a message lists."""

import pytest

from detector.__main__ import VERBS
from detector.data.catalog import DATASETS
from detector.models.backbones import BACKBONES
from detector.models.heads import HEADS
from detector.models.necks import NECKS
from detector.registry import SHORT, Registry


def message(registry, name):
    with pytest.raises(KeyError) as caught:
        registry[name]
    return str(caught.value)


def test_a_short_list_stands_in_the_message_and_a_long_one_behind_its_verb():
    parts = Registry("part", "parts")
    for i in range(SHORT):
        parts.register(f"part{i}")(i)
    assert message(parts, "part") == f"unknown part 'part'; close: part9, part8, part7; all: {', '.join(sorted(parts))}"
    parts.register("one")(1)
    assert message(parts, "part") == "unknown part 'part'; close: part9, part8, part7; `detector parts` lists all 11"
    parts.verb = ""
    assert message(parts, "zzz") == f"unknown part 'zzz'; close: none; all: {', '.join(sorted(parts))}"


@pytest.mark.parametrize("registry", [BACKBONES, NECKS, HEADS, DATASETS], ids=lambda registry: registry.kind)
def test_the_verbs_of_messages_exist(registry):
    assert registry.verb in VERBS
    assert len(message(registry, "resnet5O")) < 250
