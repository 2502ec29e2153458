"""What fits into a memory, and what makes it fit."""

import pytest
import torch

from detector.config import load_config
from detector.engine.memory import CARD, GIB
from detector.tasks import plan as plan_module
from detector.tasks.footprint import Footprint, Memory, Step
from detector.tasks.plan import fitting_batch, largest_batch, largest_side, plan, remedies

BASE = [
    *("MODEL.NUM_CLASSES", "3", "MODEL.NECK.OUT_CHANNELS", "64", "MODEL.FCOS.NUM_CONVS", "1"),
    *("MODEL.BACKBONE.NAME", "resnet10", "INPUT.MIN_SIZE_TRAIN", "256", "INPUT.MAX_SIZE_TRAIN", "320"),
]


class Line:
    """A footprint by a formula, which notes what was asked for; unit: bytes of all that follow."""

    least = 1
    recomputable = (2, 3, 4)

    def __init__(self, fixed=100, bend=0, unit=1):
        self.fixed, self.bend, self.unit, self.asked = fixed, bend, unit, []

    def test(self, images, size, precision):
        return round((self.fixed + 10 * images) * self.unit)

    def peak(self, step):
        self.asked.append(step)
        images = -(-step.images // step.parts)
        area = step.size[0] * step.size[1]
        variable = images * area / 1024 * (0.5 if step.precision != "off" else 1) * (1 - 0.1 * len(step.stages))
        total = round((self.fixed + variable + self.bend * (images > 4)) * self.unit)
        return Memory(total, {"weights": self.fixed * self.unit, "head": total - self.fixed * self.unit})


@pytest.mark.parametrize("bend", [0, 7, -7])
@pytest.mark.parametrize("allowed", [99, 103, 104, 108, 131, 165, 1000, 10**6])
def test_the_largest_batch_is_the_largest(allowed, bend):
    footprint, step = Line(bend=bend), Step(2, (64, 64))
    fits = [n for n in range(1, 65) if footprint.peak(step._replace(images=n)).total <= allowed]
    assert largest_batch(footprint, step, allowed) == max(fits, default=0)


def test_the_largest_batch_is_of_a_micro_batch_and_is_found_quickly():
    footprint = Line()
    assert largest_batch(footprint, Step(2, (64, 64), parts=2), 100 + 4 * 9) == 9
    assert {step.images for step in footprint.asked} == {2, 4, 18, 20}
    assert largest_batch(footprint, Step(2, (64, 64)), 1000, most=5) == 5
    footprint.least = 2
    assert largest_batch(footprint, Step(2, (64, 64)), 107) == 0


def test_the_largest_side_keeps_the_form():
    footprint = Line()
    assert largest_side(footprint, Step(1, (256, 512)), 100 + 128 * 256 // 1024, 32) == (128, 256)
    assert largest_side(footprint, Step(1, (256, 512)), 100 + 512 * 1024 // 1024 + 1, 32) == (512, 1024)
    assert largest_side(footprint, Step(1, (256, 512)), 10**9, 32) == (1024, 2048)
    assert largest_side(footprint, Step(1, (256, 512)), 100, 32) is None


def test_remedies_come_in_the_order_of_their_cost():
    groups = list(remedies(Step(8, (64, 64), stages=(4,)), (2, 3, 4)))
    assert [remedy.words for remedy in groups[0] + groups[1]] == [
        "SOLVER.AMP bf16",
        *(f"SOLVER.ACCUM_ITERS {number}" for number in (2, 4, 8)),
    ]
    assert [remedy.step.stages for remedy in groups[3]] == [(2, 4), (2, 3, 4)]
    assert groups[-1][0].words == "SOLVER.AMP bf16 SOLVER.ACCUM_ITERS 8 MODEL.BACKBONE.CHECKPOINT_STAGES 2,3,4"
    assert groups[-1][0].step == Step(8, (64, 64), "bf16", 8, (2, 3, 4))
    alone = list(remedies(Step(1, (64, 64), "fp16"), ()))
    assert not any(alone)


def written(text):
    """The KEY VALUE words after the last line's "write"."""
    last = text.splitlines()[-1]
    assert last.startswith("write ")
    return last.split()[1:]


def listed(text, heading):
    """GiB by KEY VALUE words of the lines under a heading."""
    found = {}
    for line in text.partition(heading)[2].splitlines()[1:]:
        if not line.startswith("  "):
            break
        words, _, needed = line.partition(": ")
        found[words] = float(needed.removesuffix(" GiB"))
    return found


@pytest.fixture
def lines(monkeypatch):
    """Footprints in MiB by a formula: 100, and 80 for an image of 256 x 320."""
    monkeypatch.setattr(plan_module, "Footprint", lambda cfg: Line(unit=2**20))


@pytest.mark.parametrize(
    ("share", "found"),
    [
        (0.8, ["SOLVER.AMP", "bf16"]),
        (0.4, ["SOLVER.ACCUM_ITERS", "4"]),
        (0.105, ["SOLVER.AMP", "bf16", "SOLVER.ACCUM_ITERS", "16"]),
        (0.095, ["SOLVER.AMP", "bf16", "SOLVER.ACCUM_ITERS", "16", "MODEL.BACKBONE.CHECKPOINT_STAGES", "2,3,4"]),
    ],
)
def test_the_report_names_the_cheapest_that_fits(lines, share, found):
    opts = [*BASE, "SOLVER.IMS_PER_BATCH", "16"]
    memory = CARD.needed(round(share * 2**20 * (100 + 16 * 80))) / GIB
    text = plan(load_config("base/fcos", opts), memory)
    assert "does not fit into" in text
    assert written(text) == found
    fitting = listed(text, "what makes it fit, the cheapest first:")
    assert next(iter(fitting)).split() == found
    assert max(fitting.values()) <= round(memory, 2)
    assert all(needed > memory - 0.005 for needed in listed(text, "what saves memory, and is not enough").values())
    assert "  fits into" in plan(load_config("base/fcos", [*opts, *found]), memory)


def check_words_that_fit(memory):
    opts = [*BASE, "SOLVER.IMS_PER_BATCH", "16"]
    text = plan(load_config("base/fcos", opts), memory)
    assert "does not fit into" in text
    assert "activations of the head" in text
    batch = text.partition("the largest batch: ")[2].split()[:2]
    side = text.partition("the largest side: ")[2].split()[:4]
    for words in (batch, side):
        again = plan(load_config("base/fcos", [*opts, *words]), memory)
        assert "  fits into" in again
    assert int(batch[1]) < 16
    one_more = [*opts, batch[0], str(int(batch[1]) + 1)]
    assert "does not fit into" in plan(load_config("base/fcos", one_more), memory)


@pytest.mark.parametrize("opts", [(), ("INPUT.SQUARE_SIZE", "256")])
def test_the_side_that_is_as_far_as_was_looked_is_not_called_the_largest(lines, opts):
    def side(mebibytes):
        text = plan(
            load_config("base/fcos", [*BASE, *opts, "SOLVER.IMS_PER_BATCH", "1"]), CARD.needed(mebibytes * 2**20) / GIB
        )
        (line,) = [line for line in text.splitlines() if "the largest side" in line]
        return line

    assert side(10**6).endswith(" or more")
    key = "INPUT.SQUARE_SIZE" if opts else "INPUT.MIN_SIZE_TRAIN"
    assert f"{key} 1024" in side(10**6)
    assert "or more" not in side(600)


def test_the_batch_and_the_side_that_are_named_fit(lines):
    check_words_that_fit(CARD.needed(600 * 2**20) / GIB)


@pytest.mark.parametrize(
    ("mebibytes", "opts", "said"),
    [
        (200, (), "a test meanwhile, of 8 images 800 x 1344 at a time: 0.69 GiB, fits"),
        (150, (), "0.69 GiB, does not fit: write TEST.IMS_PER_BATCH 4"),
        (105, (), "0.69 GiB, does not fit"),
        (150, ("TEST.IMS_PER_BATCH", "4", "INPUT.SQUARE_SIZE", "64"), "of 4 images 64 x 64 at a time: 0.65 GiB, fits"),
    ],
)
def test_the_report_tells_whether_a_test_fits(lines, mebibytes, opts, said):
    text = plan(load_config("base/fcos", [*BASE, *opts]), CARD.needed(mebibytes * 2**20) / GIB)
    (line,) = [line for line in text.splitlines() if "a test meanwhile" in line]
    assert line.endswith(said)
    none = plan(load_config("base/fcos", [*BASE, "DATASETS.TEST", "()"]), 8)
    assert "a test meanwhile" not in none


@pytest.mark.slow
def test_so_they_do_with_a_real_network():
    peak = Footprint(load_config("base/fcos", BASE)).peak(Step(16, (256, 320))).total
    check_words_that_fit(CARD.needed(round(0.8 * peak)) / GIB)


def test_what_nothing_makes_fit_is_said(lines):
    text = plan(load_config("base/fcos", [*BASE, "SOLVER.IMS_PER_BATCH", "2"]), 0.1)
    assert "not a single image" in text
    assert "makes it fit" not in text
    assert len(listed(text, "what saves memory, and is not enough for 0.10 GiB:")) == 7
    assert text.splitlines()[-1] == "none of them: take a smaller side or backbone"


def test_the_report_says_what_takes_more_than_tensors(lines):
    card = plan(load_config("base/fcos", BASE), 8)
    assert "at the peak; on a CUDA card (MODEL.DEVICE auto) with 0.50 GiB for libraries and 10% for" in card
    host = plan(load_config("base/fcos", [*BASE, "MODEL.DEVICE", "cpu"]), 8)
    assert "at the peak; on the CPU with 0.75 GiB for libraries and 25% for" in host


class Data:
    """As much of a data set as a batch needs."""

    classes = ("a", "b", "c")

    def __init__(self, number):
        self.number = number

    def __len__(self):
        return self.number


@pytest.fixture
def fitted(monkeypatch):
    """fitted(free bytes, number of images, *opts): the SOLVER that the batch was chosen for."""

    def build(free, number, *opts):
        monkeypatch.setattr(plan_module, "free_memory", lambda device: free)
        monkeypatch.setattr(plan_module, "Footprint", lambda cfg: Line(unit=2**20))
        monkeypatch.setattr(plan_module, "largest_input", lambda cfg, data, train: (256, 320))
        cfg = load_config("base/fcos", [*BASE, *opts])
        return fitting_batch(cfg, torch.device("cpu"), Data(number)).SOLVER

    return build


def test_the_batch_is_as_large_as_memory_reference_and_data_allow(fitted):
    solver = fitted(100 * GIB, 1000)
    assert (solver.IMS_PER_BATCH, solver.REFERENCE_BATCH) == (64, 16)  # 16 was the config's own
    solver = fitted(100 * GIB, 1000, "SOLVER.REFERENCE_BATCH", "8")
    assert (solver.IMS_PER_BATCH, solver.REFERENCE_BATCH) == (8, 8)
    assert fitted(100 * GIB, 5).IMS_PER_BATCH == 5
    assert fitted(100 * GIB, 1000, "SOLVER.ACCUM_ITERS", "3").IMS_PER_BATCH == 63
    small = fitted(GIB, 1000)
    assert 1 <= small.IMS_PER_BATCH < 16
    assert small.REFERENCE_BATCH == 16


def test_no_memory_is_an_error_of_one_line(fitted):
    with pytest.raises(ValueError, match=r"--batch auto: 0\.50 GiB are free on cpu, and the smallest batch needs 0\.9"):
        fitted(GIB // 2, 1000)
    with pytest.raises(ValueError, match=r"cannot be told here: write SOLVER\.IMS_PER_BATCH N"):
        fitted(None, 1000)
