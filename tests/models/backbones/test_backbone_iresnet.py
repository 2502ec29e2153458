"""iResNet and its relatives against the published rules, written out over the state dict."""

import pytest
import torch
import torch.nn.functional as F

from detector.models.backbones import BACKBONES, build_backbone

DEPTHS = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 6, 3),
    "iresnet101": (3, 4, 23, 3),
    "iresnet152": (3, 8, 36, 3),
    "iresnet200": (3, 24, 36, 3),
    "iresnet302": (4, 34, 58, 4),
    "iresnet404": (4, 46, 80, 4),
    "iresnet1001": (4, 155, 170, 4),
    "iresgroup50": (3, 4, 6, 3),
    "iresgroup101": (3, 4, 23, 3),
    "iresgroup152": (3, 8, 36, 3),
    "iresgroupfix50": (3, 4, 6, 3),
    "iresgroupfix101": (3, 4, 23, 3),
    "iresgroupfix152": (3, 8, 36, 3),
    "resgroup50": (3, 4, 6, 3),
    "resgroupfix50": (3, 4, 6, 3),
    "resstage50": (3, 4, 6, 3),
}


class Plain:
    """The network in small steps: conv, norm and relu by key, nothing in place, nothing shared with ours."""

    def __init__(self, name, state):
        self.state, self.improved_shortcut = state, name.startswith("ires")
        self.by_place, self.fixed = not name.startswith("resgroup"), "fix" in name
        self.last = 2 if name in ("iresnet18", "iresnet34") else 3

    def norm(self, key, x):
        s = self.state
        return F.batch_norm(
            x, *(s[f"{key}.{what}"] for what in ("running_mean", "running_var", "weight", "bias")), False, 0.0, 1e-5
        )

    def conv(self, key, x, stride=1):
        weight = self.state[f"{key}.weight"]
        return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, x.shape[1] // weight.shape[1])

    def shortcut(self, key, x, stride):
        if self.improved_shortcut:
            x = F.max_pool2d(x, 3, stride, 1)
            if f"{key}.1.weight" not in self.state:
                return x
            return self.norm(f"{key}.2", self.conv(f"{key}.1", x))
        return self.norm(f"{key}.1", self.conv(f"{key}.0", x, stride))

    def block(self, key, x, index, depth, stride):
        y = x
        if self.by_place and index == 1:
            y = x = F.relu(x)
        elif self.by_place and index > 1:
            y = F.relu(self.norm(f"{key}.bn0", x))
        strided = self.last - 1  # conv2 of a bottleneck, conv1 of a basic block
        for i in range(1, self.last):
            y = F.relu(self.norm(f"{key}.bn{i}", self.conv(f"{key}.conv{i}", y, stride if i == strided else 1)))
        y = self.conv(f"{key}.conv{self.last}", y)
        ends_here, norm = index == depth - 1, f"{key}.bn{self.last}"
        if not self.by_place or index == 0:
            y = self.norm(norm, y)
        y = y + (self.shortcut(f"{key}.downsample", x, stride) if index == 0 else x)
        if not self.by_place:
            return F.relu(y)
        return F.relu(self.norm(norm, y)) if ends_here else y

    def __call__(self, x, depths):
        x = F.relu(self.norm("bn1", self.conv("conv1", x, 2)))
        if not self.improved_shortcut:
            x = F.max_pool2d(x, 3, 2, 1)
        levels = {}
        for i, depth in enumerate(depths):
            for j in range(depth):
                stride = 2 if j == 0 and (i or self.improved_shortcut) else 1
                x = self.block(f"layer{i + 1}.{j}", x, j, depth, stride)
            levels[f"c{i + 2}"] = x
        return levels


@pytest.mark.parametrize(
    "name", ["iresnet18", "iresnet34", "iresnet50", "iresgroup50", "iresgroupfix50", "resgroup50", "resgroupfix50",
             "resstage50"],
)  # fmt: skip
@torch.no_grad()
def test_equals_the_plain_form(name, randomised):
    trunk = randomised(build_backbone(name, "bn")).double().eval()
    images = torch.randn(1, 3, 75, 58, dtype=torch.float64)
    want = Plain(name, trunk.state_dict())(images, DEPTHS[name])
    torch.testing.assert_close(trunk(images), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", DEPTHS)
def test_depths_widths_and_groups(name):
    with torch.device("meta"):
        trunk = build_backbone(name, "bn")
    assert tuple(len(stage) for stage in trunk.stages()) == DEPTHS[name]
    if "group" not in name:
        expansion = 1 if name in ("iresnet18", "iresnet34") else 4
        assert [level.channels for level in trunk.levels.values()] == [w * expansion for w in (64, 128, 256, 512)]
        return
    assert [level.channels for level in trunk.levels.values()] == [128, 256, 512, 1024]
    middle = [stage[0].conv2 for stage in trunk.stages()]
    assert [conv.out_channels for conv in middle] == [256, 512, 1024, 2048]
    assert [conv.groups for conv in middle] == ([64] * 4 if "fix" in name else [8, 16, 32, 64])


@pytest.mark.parametrize("name", [name for name in DEPTHS if not name.startswith("resgroup")])
def test_norms_that_no_block_uses_do_not_exist(name):
    with torch.device("meta"):
        trunk = build_backbone(name, "bn")
    for stage in trunk.stages():
        for j, block in enumerate(stage):
            assert hasattr(block, "bn0") == (j > 1)
            assert hasattr(block, f"bn{block.last}") == (j in (0, len(stage) - 1))


@torch.no_grad()
def test_the_second_block_rectifies_its_identity():
    _, second, third, *_ = build_backbone("iresnet50", "bn").eval().layer3
    x = torch.randn(1, 1024, 4, 4)
    torch.testing.assert_close(second(x.clone()), second(x.relu()))
    assert not torch.allclose(third(x), third(x.relu()))


def test_records_name_one_file_each():
    published = {name: BACKBONES[name].weights for name in DEPTHS}
    without = [name for name, weights in published.items() if not weights.urls]
    assert without == ["iresnet18", "iresnet34", "iresnet1001"]
    urls = [url for weights in published.values() for url in weights.urls]
    assert len(set(urls)) == len(urls) == 15
    assert all(url.startswith("https://drive.google.com/uc?export=download&id=") for url in urls)
