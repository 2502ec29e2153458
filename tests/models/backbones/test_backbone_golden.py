"""Every backbone against the numbers that its published implementation computed."""

import re

import torch
from torch.utils.flop_counter import FlopCounterMode

from detector.models.backbones import BACKBONES, Classifier, build_backbone
from detector.models.backbones.dla import UNUSED
from detector.weights.load import load_state
from detector.weights.rename import translate

NORMS = {"_frozenbn": "frozen_bn", "_bn": "bn", "_gn": "gn"}


def entry_and_norm(file):
    """A file is called as the registered name and, unless it is bn, its norm; "_pytorch" is the stride in the 3x3."""
    suffix = re.search(r"(_frozenbn|_bn|_gn)?$", file)[0]
    return file.removesuffix(suffix).removesuffix("_pytorch"), NORMS.get(suffix, "bn")


def build(file, keys):
    """The network of a golden file: a classifier where the file has one."""
    name, norm = entry_and_norm(file)
    backbone = build_backbone(name, norm, norm_eps=0.0 if norm == "frozen_bn" else None)
    return Classifier(backbone) if any(key.startswith("fc.") for key in keys) else backbone


def check_features(golden, what, features):
    for name, x in features.items():
        golden.check(what, name.upper(), x)


@torch.no_grad()
def test_equals_the_published_network(golden, golden_name):
    record = golden(golden_name)
    numbers = record.record
    network = build(golden_name, numbers["state_dict"]).double()
    weights = BACKBONES[entry_and_norm(golden_name)[0]].weights
    state, aside = translate(record.state(), weights, network.state_dict())
    assert not aside
    own = network.state_dict()
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in own.items()}
    load_state(network, state)
    features = network.features if isinstance(network, Classifier) else network
    network.eval()
    check_features(record, "eval", features(record.images("eval")))
    if numbers["eval_odd"]:  # a published DLA cannot run an odd size
        check_features(record, "eval_odd", features(record.images("eval_odd")))
    if numbers["eval"].get("logits"):
        record.check("eval", "logits", network(record.images("eval")))
    if numbers["train"]:
        network.train()
        record.check("train", "C5", features(record.images("train"))["c5"])
        trained, statistics = network.state_dict(), [key for key in numbers["train"] if key in numbers["state_dict"]]
        assert statistics or not any(key.endswith("running_mean") for key in own)
        for key in statistics:
            record.check("train", key, trained[key.removeprefix("stem.")])


def test_counts_equal_the_published_network(golden, golden_name):
    numbers = golden(golden_name).record
    with torch.device("meta"):
        network = build(golden_name, numbers["state_dict"]).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, 224, 224))
    assert counter.get_total_flops() // 2 + unused_macs(network) == numbers["macs_224"]
    parameters = {name: p.numel() for name, p in network.named_parameters()}
    assert sum(parameters.values()) == numbers["params_total"]
    assert sum(n for name, n in parameters.items() if not name.startswith("fc.")) == numbers["params_backbone"]


def unused_macs(network):
    """Multiply-adds of a DLA's unused projections at 224 x 224: the published network computes them in vain."""
    weights = {key: value for key, value in network.named_parameters() if key.startswith(UNUSED) and value.ndim == 4}
    sides = {key: 224 // 2 ** int(key.removeprefix("level")[0]) for key in weights}
    return sum(weight.numel() * sides[key] ** 2 for key, weight in weights.items())
