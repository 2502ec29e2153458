"""Every backbone against the numbers that its published implementation computed."""

import re

import torch
from torch.utils.flop_counter import FlopCounterMode

from detector.models.backbones import BACKBONES, build_backbone, build_classifier, load_state
from detector.models.backbones.load import translate

NORMS = {"_frozenbn": "frozen_bn", "_bn": "bn", "_gn": "gn"}


def entry_and_norm(file):
    """A file is called as the registered name and, unless it is bn, its norm; "_pytorch" is the stride in the 3x3."""
    suffix = re.search(r"(_frozenbn|_bn|_gn)?$", file)[0]
    return file.removesuffix(suffix).removesuffix("_pytorch"), NORMS.get(suffix, "bn")


def build(file):
    name, norm = entry_and_norm(file)
    if norm == "frozen_bn":
        return build_backbone(name, norm, norm_eps=0.0)
    return build_classifier(name, norm=norm)


def check_features(golden, what, features):
    for name, x in features.items():
        golden.check(what, name.upper(), x)


@torch.no_grad()
def test_equals_the_published_network(golden, golden_name):
    record = golden(golden_name)
    network = build(golden_name).double()
    state, aside = translate(record.state(), BACKBONES[entry_and_norm(golden_name)[0]].weights, network.state_dict())
    assert not aside
    own = network.state_dict()
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in own.items()}
    load_state(network, state)
    frozen = entry_and_norm(golden_name)[1] == "frozen_bn"
    features = network if frozen else network.features
    network.eval()
    for what in ("eval", "eval_odd"):
        check_features(record, what, features(record.images(what)))
    if frozen:
        return
    record.check("eval", "logits", network(record.images("eval")))
    record.check("train", "C5", features.__self__.train().features(record.images("train"))["c5"])
    statistics = [key for key in record.record["train"] if key in own]
    assert statistics or "running_mean" not in str(list(own))
    for key in statistics:
        record.check("train", key, network.state_dict()[key])


def test_counts_equal_the_published_network(golden, golden_name):
    record = golden(golden_name).record
    with torch.device("meta"):
        network = build(golden_name).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, 224, 224))
    assert counter.get_total_flops() == 2 * record["macs_224"]
    parameters = {name: p.numel() for name, p in network.named_parameters()}
    assert sum(n for name, n in parameters.items() if not name.startswith("fc.")) == record["params_backbone"]
