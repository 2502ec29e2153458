"""The count of the waits for the device: each kind at its line, and nothing where the host may go on."""

import sys
import warnings

import pytest
import torch
from helpers import ROOT

from detector.commands.base import run
from detector.models.heads.fcos import FCOS
from detector.structures import Level

sys.path.insert(0, str(ROOT / "tools/benchmark"))
waits = pytest.importorskip("waits")
CPU = torch.device("cpu")
X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
ROWS = torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(
    "action",
    [
        lambda: X[0, 0].item(),
        lambda: bool((X > 0).any()),
        lambda: X.tolist(),
        lambda: X.cpu(),
        lambda: (X > 0).nonzero(),
        lambda: X[X > 0],
        lambda: X.clone().index_put_((X > 0,), X.new_zeros(())),
        lambda: X.masked_select(X > 0),
        lambda: X[:, [0, 2]],
        lambda: X.new_tensor([1, 2]),
        lambda: X.unique(),
        lambda: X.repeat_interleave(torch.ones(5, dtype=torch.int64), 0),
    ],
)
def test_what_waits_is_counted_at_its_line(action):
    ((place, count),) = waits.host_waits(action, CPU).items()
    assert count == 1
    assert place.startswith(f"tests/tools/test_waits.py:{action.__code__.co_firstlineno} lambda: ")


@pytest.mark.parametrize(
    "action",
    [
        lambda: X[ROWS],
        lambda: X[1:, 0],
        lambda: X[-1],
        lambda: X.clone()[1:].fill_(0),
        lambda: X.masked_fill(X > 0, -1),
        lambda: torch.where(X > 0, X, 3.0),
        lambda: X.new_full((3,), 2),
        lambda: X.argsort(stable=True),
        lambda: X.numel(),
    ],
)
def test_what_does_not_wait_is_not_counted(action):
    assert not waits.host_waits(action, CPU)


def test_waits_in_the_backward_pass_count():
    x = X.clone().requires_grad_()
    total = x[X > 0].sum()
    assert waits.host_waits(total.backward, CPU).total() == 1


def test_the_door_of_a_command_is_no_place():
    places = waits.host_waits(lambda: run(lambda: X.tolist(), log=False), CPU)
    assert [place.split(":")[0] for place in places] == ["tests/tools/test_waits.py"]


def test_on_cuda_every_warning_counts_and_the_mode_is_put_back(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)

    def step():
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation (Triggered internally)", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = warnings.showwarning
        ((place, count),) = waits.host_waits(step, torch.device("cuda")).items()
        assert warnings.showwarning is shown
    assert (count, place.split()[0]) == (3, f"tests/tools/test_waits.py:{step.__code__.co_firstlineno + 2}")
    assert modes == ["warn", "default"]
    with pytest.raises(ZeroDivisionError):
        waits.host_waits(lambda: 1 / 0, torch.device("cuda"))
    assert modes == ["warn", "default"] * 2


def test_there_is_no_share_without_a_device():
    assert waits.wait_share(lambda: pytest.fail("is not run"), CPU) is None


@pytest.mark.parametrize("iou_loss_type", ["iou", "giou", "plain_giou"])
@pytest.mark.parametrize("crowds", [0, 1])
def test_the_losses_of_fcos_wait_once_whatever_the_number_of_images(iou_loss_type, crowds):
    levels = {f"p{i}": Level(16, 2**i) for i in range(3, 8)}
    head = FCOS(levels, 3, num_convs=1, iou_loss_type=iou_loss_type, center_sampling_radius=1.5, norm_reg_targets=True)
    features = {
        name: torch.randn(3, 16, 64 // level.stride + 1, 64 // level.stride + 1) for name, level in levels.items()
    }
    boxes = torch.tensor([[4.0, 4, 40, 40], [10, 20, 60, 50]])
    target = {"boxes": boxes, "labels": torch.tensor([0, 2]), "ignore": boxes[:crowds], "draw": 0}
    empty = {"boxes": boxes[:0], "labels": ROWS[:0], "ignore": boxes[:0], "draw": 0}
    places = waits.host_waits(
        lambda: sum(head.loss(features, [target, empty, target], [(64, 64)] * 3).values()).backward(), CPU
    )
    assert {place.split(":")[0]: count for place, count in places.items()} == {"detector/models/heads/fcos.py": 1}
