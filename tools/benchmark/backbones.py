"""Speed and memory of the backbones against timm's networks, or their plain written-out forms, in the same run.

Both networks hold the same weights and give the same numbers, which is checked first; then they take turns. Printed are
the peer's time over ours (above 1: ours is faster; the median of the rounds and its 95 % interval) and the memory that
is kept for the backward pass, ours over the peer's. Needs timm: pip install -e ".[timm]".
"""

import argparse
import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from detector.errors import UserError
from detector.models.backbones import build_backbone
from detector.models.backbones.base import Backbone
from detector.models.norm import FrozenNorm

Foreign = Any
"""A network of another project, or a part of one, whose attributes are not declared."""

BURST = 0.15  # seconds of each network before the other takes its turn
PRECISE = 0.02  # width of the median's interval that ends the measurement
FEWEST = 6  # rounds whose smallest and largest ratio enclose the median with 95 %
LONGEST = 4  # times --rounds, after which it ends anyway


def main() -> None:
    """Measure all families, or the names given, with both norms."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PEERS)}; all without any")
    parser.add_argument("--norm", nargs="+", choices=("frozen_bn", "bn"), default=("frozen_bn", "bn"))
    parser.add_argument(
        "--size", type=int, nargs=3, default=(2, 256, 320), metavar=("N", "H", "W"), help="of the input"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=9,
        help=f"at least {FEWEST}; up to {LONGEST} times as many where the median is uncertain",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0 is torch's own choice")
    args = parser.parse_args()
    if args.rounds < FEWEST:
        parser.error(f"--rounds is {args.rounds}: fewer than {FEWEST} say nothing about the median")
    unknown = [name for name in args.names if name not in PEERS]
    if unknown:
        parser.error(f"no peer for {', '.join(unknown)}; there is one for {', '.join(PEERS)}")
    try:
        import timm  # noqa: F401
    except ImportError:
        sys.exit("error: timm is missing: pip install timm")
    if args.threads:
        torch.set_num_threads(args.threads)
    count, height, width = args.size
    print(
        f"torch {torch.__version__}, {args.device}, {torch.get_num_threads()} threads, {count} x 3 x {height} x {width}"
    )
    print(f"{'backbone':<24}{'norm':<11}{'forward':>8} {'95 %':<13}{'step':>8} {'95 %':<13}{'memory':>8}")
    for norm in args.norm:
        for name in tqdm(args.names or PEERS, leave=False, unit="network"):
            tqdm.write(measure(name, norm, torch.randn(count, 3, height, width, device=args.device), args.rounds))


def measure(name: str, norm: str, images: Tensor, rounds: int) -> str:
    """One row: forward in evaluation, forward and backward in training, and what the latter keeps in memory."""
    torch.manual_seed(0)
    images = images.to(memory_format=torch.channels_last)
    ours = build_backbone(name, norm)
    peer = PEERS[name](ours)
    for module in (ours, peer):
        module.to(images.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    require_equal(name, ours, peer, images)
    forward = ratios(lambda: infer(ours, images), lambda: infer(peer, images), rounds, images.device)
    ours.train()
    peer.train()
    step = ratios(lambda: train(ours, images), lambda: train(peer, images), rounds, images.device)
    memory = kept_bytes(ours, images) / kept_bytes(peer, images)
    cells = [f"{median:>8.3f} {f'{low:.2f}..{high:.2f}':<13}" for low, median, high in (forward, step)]
    return f"{name:<24}{norm:<11}{''.join(cells)}{memory:>8.3f}"


def require_equal(name: str, ours: nn.Module, peer: nn.Module, images: Tensor) -> None:
    """Stop unless both networks give the same coarsest map."""
    got, want = infer(ours.eval(), images), infer(peer.eval(), images)
    error = ((got - want).abs().max() / want.abs().max()).item()
    if not error < 1e-3:
        sys.exit(f"error: {name} differs from its peer by {error:.1e} of the largest value")


@torch.inference_mode()
def infer(network: nn.Module, images: Tensor) -> Tensor:
    """The coarsest map."""
    return coarsest(network, images)


def coarsest(network: nn.Module, images: Tensor) -> Tensor:
    """c5 of a backbone, or the output of a peer."""
    output = network(images)
    return output["c5"] if isinstance(output, dict) else output


def train(network: nn.Module, images: Tensor) -> None:
    """Forward and backward."""
    coarsest(network, images).mean().backward()
    network.zero_grad(set_to_none=True)


def ratios(
    ours: Callable[[], object], peer: Callable[[], object], rounds: int, device: torch.device
) -> tuple[float, float, float]:
    """Median of the peer's time over ours, between the ends of its 95 % interval.

    A round is ours, peer, peer, ours, or the other way about, so that neither a drift of the machine's speed nor who
    follows whom shows. Further rounds follow until the interval is narrow, or LONGEST times `rounds` are done.
    """

    def seconds(function: Callable[[], object], repeats: int) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds(ours, 2)
    seconds(peer, 1)
    repeats = max(1, round(BURST / seconds(peer, 1)))
    found: list[float] = []
    gc.collect()
    gc.disable()
    try:
        while len(found) < rounds * LONGEST:
            order = (ours, peer, peer, ours) if len(found) % 2 else (peer, ours, ours, peer)
            spent = {ours: 0.0, peer: 0.0}
            for function in order:
                spent[function] += seconds(function, repeats)
            found.append(spent[peer] / spent[ours])
            low, median, high = median_interval(found)
            if len(found) >= rounds and high - low <= PRECISE:
                break
    finally:
        gc.enable()
    return low, median, high


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median between two of the values that enclose the true one with 95 %, whatever the distribution.

    So many values lie below it as heads fall in as many throws of a coin.
    """
    ordered, count = sorted(values), len(values)
    chances = [math.comb(count, heads) / 2**count for heads in range(count + 1)]
    cut = max((i for i in range(count // 2) if 2 * sum(chances[: i + 1]) <= 0.05), default=0)
    return ordered[cut], statistics.median(ordered), ordered[-1 - cut]


def kept_bytes(network: nn.Module, images: Tensor) -> int:
    """Bytes that autograd keeps between forward and backward, each storage once, parameters aside."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers(), images)}
    kept: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        coarsest(network, images).mean()
    return sum(size for size, _ in kept.values())


# ---------------------------------------------------------------------------- peers


class Peer(nn.Module):
    """Another network with our weights. Its frozen norms are batch norms in evaluation, one call as ours are."""

    def __init__(self, backbone: Backbone) -> None:
        """Frozen where `backbone` is."""
        super().__init__()
        self.frozen = any(isinstance(module, FrozenNorm) for module in backbone.modules())

    def train(self, mode: bool = True) -> "Peer":
        """Sets the mode of all modules but frozen norms."""
        super().train(mode)
        for module in self.modules() if self.frozen else ():
            if isinstance(module, nn.BatchNorm2d):
                module.eval().requires_grad_(False)
        return self


class Timm(Peer):
    """A network of timm without its classifier; `passes` as in SReResNet."""

    def __init__(self, network: Foreign, backbone: Backbone, passes: int = 1) -> None:
        """Takes over the weights of `backbone`. Raises ValueError when timm has other keys."""
        super().__init__(backbone)
        network.reset_classifier(0)
        missing = network.load_state_dict(backbone.state_dict(), strict=False).missing_keys
        if [key for key in missing if not key.endswith("num_batches_tracked")]:
            raise UserError(f"timm's network has other keys: {', '.join(missing[:5])}")
        self.network, self.passes = network, passes

    def forward(self, images: Tensor) -> Tensor:
        """The coarsest map; the others are made and held until the end, as a detector needs them."""
        net: Any = self.network
        levels: list[Tensor] = []
        if hasattr(net, "base_layer"):  # a DLA
            x = net.base_layer(images)
            stages = [[module] for name, module in net.named_children() if name.startswith("level")]
        else:
            x = net.maxpool(net.act1(net.bn1(net.conv1(images))))
            stages = [[*stage] for stage in (net.layer1, net.layer2, net.layer3, net.layer4)]
        for stage in stages:
            for block in [*stage, *stage[1:] * (self.passes - 1)]:
                x = block(x)
            levels.append(x)
        return levels[-1]


class Plain(Peer):
    """iResNet and its relatives one step after the other, as published."""

    def __init__(self, backbone: Backbone) -> None:
        """Takes a copy of the modules of `backbone`."""
        super().__init__(backbone)
        self.trunk = deepcopy(backbone)
        for module in list(self.trunk.modules()):
            for name, child in module.named_children():
                if isinstance(child, FrozenNorm):
                    norm = nn.BatchNorm2d(len(child.weight))
                    norm.load_state_dict(child.state_dict(), strict=False)
                    setattr(module, name, norm)

    def forward(self, images: Tensor) -> Tensor:
        """The coarsest map; the others are made and held until the end, as a detector needs them."""
        trunk: Any = self.trunk
        levels: list[Tensor] = []
        x = trunk.maxpool(torch.relu_(trunk.bn1(trunk.conv1(images))))
        for stage in trunk.stages():
            for index, block in enumerate(stage):
                x = self.block(block, x, index, len(stage))
            levels.append(x)
        return levels[-1]

    @staticmethod
    def block(block: Foreign, x: Tensor, index: int, depth: int) -> Tensor:
        """One block; the arrangement by place is told from the norms that the block has."""
        by_place = hasattr(block, "place")
        y = x
        if by_place and index == 1:
            y = x = torch.relu_(x)
        elif by_place and index > 1:
            y = torch.relu_(block.bn0(x))
        y = torch.relu_(block.bn1(block.conv1(y)))
        y = block.conv3(torch.relu_(block.bn2(block.conv2(y))))
        if not by_place or index == 0:
            y = block.bn3(y)
        shortcut = x
        for module in block.downsample or ():
            shortcut = module(shortcut)
        y += shortcut
        if by_place and index == depth - 1:
            y = block.bn3(y)
        return torch.relu_(y) if not by_place or index == depth - 1 else y


def timm_net(name: str, passes: int = 1) -> Callable[[Backbone], nn.Module]:
    """Builder of timm's network `name`."""

    def build(backbone: Backbone) -> nn.Module:
        import timm

        return Timm(timm.create_model(name), backbone, passes)

    return build


def timm_se_res2net(backbone: Backbone) -> nn.Module:
    """Res2Net blocks with squeeze and excitation, both of timm, which has no name for them."""
    from timm.layers import SEModule
    from timm.models.res2net import Bottle2neck
    from timm.models.resnet import ResNet

    block: Any = Bottle2neck  # ResNet takes any block of this form, and declares its own two
    args = {"scale": 4, "attn_layer": SEModule}
    return Timm(ResNet(block, (3, 4, 6, 3), base_width=26, block_args=args), backbone)


PEERS: dict[str, Callable[[Backbone], nn.Module]] = {
    "resnet50": timm_net("resnet50"),
    "resnext50_32x4d": timm_net("resnext50_32x4d"),
    "sreresnet50": timm_net("resnet50", passes=2),
    "iresnet50": Plain,
    "iresgroup50": Plain,
    "resgroup50": Plain,
    "resstage50": Plain,
    "res2net50_26w_4s": timm_net("res2net50_26w_4s"),
    "res2net50_v1b_26w_4s": timm_net("res2net50d"),
    "res2next50": timm_net("res2next50"),
    "se_res2net50_26w_4s": timm_se_res2net,
    "res2net_dla60": timm_net("dla60_res2net"),
    "resnest50": timm_net("resnest50d"),
    "resnest50_fast_4s2x40d": timm_net("resnest50d_4s2x40d"),
    "seresnet50": timm_net("seresnet50"),
    "skresnet50": timm_net("skresnet50"),
}


if __name__ == "__main__":
    main()
