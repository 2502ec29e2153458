"""What is known of other processes, in one process: which errors are theirs, who speaks, which device is whose."""

import pytest
import torch

from detector import distributed
from detector.data.capacity import usable_cores
from detector.engine.device import pick_device
from detector.errors import LostProcessError, UserError
from detector.launch import Launch, launch


@pytest.fixture
def second_of_two(monkeypatch):
    """The variables that torchrun gives to the second of two processes of a machine."""
    values = {"RANK": 1, "WORLD_SIZE": 2, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "x"}
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))


def test_a_process_knows_its_place(second_of_two, monkeypatch):
    assert launch() == Launch(1, 2, 1, 2)
    monkeypatch.setenv("LOCAL_RANK", "one")
    assert launch() == Launch()


def test_variables_of_another_program_mean_nothing(second_of_two, monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert launch() == Launch(0, 1, 0, 1)


LOST = (
    "[../gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:10163",
    "Read error [127.0.0.1]:17307: Connection reset by peer. This is ..\nmore",
    "Timed out waiting 1800000ms for recv operation to complete",
    "NCCL communicator was aborted on rank 1.",
)


@pytest.mark.parametrize("text", LOST)
def test_the_end_of_another_process_is_told_in_short_with_the_reason(second_of_two, text):
    with pytest.raises(LostProcessError, match="another of the 2 processes has ended") as told, distributed.talking():
        raise RuntimeError(text)
    assert text.splitlines()[0] in str(told.value)
    assert "more" not in str(told.value)


@pytest.mark.parametrize("text", ["the weights cannot be restored", "no such store", "a bug", "NCCL error: no device"])
def test_a_bug_of_ones_own_stays_one(second_of_two, text):
    with pytest.raises(RuntimeError, match=text) as told, distributed.talking():
        raise RuntimeError(text)
    assert not isinstance(told.value, UserError)


def test_alone_nobody_else_is_to_blame():
    with pytest.raises(RuntimeError, match="closed by peer") as told, distributed.talking():
        raise RuntimeError(LOST[0])
    assert not isinstance(told.value, UserError)


def test_cores_are_shared(second_of_two, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(9), raising=False)
    assert usable_cores() == 4


def test_a_device_for_each_process(second_of_two, monkeypatch):
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match=r"cuda:1 is one device for 2 processes: write cuda, auto or cpu"):
        pick_device("cuda:1")
    taken = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(
        UserError, match="2 processes on a machine of 1 CUDA devices: write torchrun --nproc-per-node 1"
    ):
        pick_device("auto")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", taken.append)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "a card")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr("torch.cuda.get_arch_list", lambda: ["sm_90"])
    assert pick_device("auto") == torch.device("cuda:1") == taken[0]


def test_in_one_process_all_is_as_it_is():
    x = torch.tensor([1.5])
    assert distributed.largest([3, 4]) == [3, 4]
    assert distributed.sum_over(x) == distributed.mean_over(x) == x
    assert distributed.gathered("a") == ["a"]
    assert distributed.from_main("a") == "a"
    model = torch.nn.Linear(1, 1)
    assert distributed.wrap(model) is model
    distributed.follow_main([x])
