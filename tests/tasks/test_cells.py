"""What a comparison consists of: arms from words, budgets, folders, and what may not change when it goes on."""

import pytest

from detector.config import load_config
from detector.errors import UserError
from detector.tasks.cells import (
    Arm,
    Budget,
    Cell,
    Part,
    State,
    budgeted,
    cells_of,
    decisive,
    folder_name,
    make_arms,
    read_part,
)

KEY = "MODEL.BACKBONE.NAME"


@pytest.mark.parametrize(
    ("text", "label", "words"),
    [
        ("resnet50", "resnet50", ("resnet50",)),
        ("mine:resnet50", "mine", ("resnet50",)),
        ("sre: resnet18 MODEL.BACKBONE.PASSES 2", "sre", ("resnet18", "MODEL.BACKBONE.PASSES", "2")),
        ("resnet18 MODEL.BACKBONE.PASSES 2", "resnet18_2", ("resnet18", "MODEL.BACKBONE.PASSES", "2")),
        ("a: x DATASETS.TRAIN '[a b, c]'", "a", ("x", "DATASETS.TRAIN", "[a b, c]")),
    ],
)
def test_a_part_is_a_name_with_a_label_and_keys(text, label, words):
    assert read_part(text, KEY, "--backbones") == Part(label, (KEY, *words))


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "write NAME"), ("a: ", "write NAME"), ("resnet18 KEY", "write NAME"), ("'x", "No closing"),
     ("SOLVER.MAX_ITER", "is a key; KEY VALUE pairs stand behind another flag")],
)  # fmt: skip
def test_a_part_that_is_none(text, told):
    with pytest.raises(UserError, match=told):
        read_part(text, KEY, "--backbones")


def test_every_backbone_meets_every_head():
    bodies = ["resnet18", "sre: resnet18 MODEL.BACKBONE.PASSES 2"]
    arms = make_arms("bccd/fcos_resnet18", ["SOLVER.BASE_LR", "0.02"], bodies, ["fcos", "faster_rcnn"], Budget())
    assert [arm.name for arm in arms] == ["fcos resnet18", "fcos sre", "faster_rcnn resnet18", "faster_rcnn sre"]
    assert [arm.cfg.MODEL.BACKBONE.PASSES for arm in arms] == [0, 2, 0, 2]
    assert [arm.cfg.MODEL.HEAD.NAME for arm in arms] == ["fcos", "fcos", "faster_rcnn", "faster_rcnn"]
    assert {arm.cfg.SOLVER.BASE_LR for arm in arms} == {0.02}
    (alone,) = make_arms("bccd/fcos_resnet18", [], [], [], Budget())
    assert (alone.name, alone.backbone, alone.head) == ("fcos resnet18", "resnet18", "fcos")


def test_two_arms_of_one_name_are_refused():
    with pytest.raises(UserError, match="two arms are called 'fcos a b'"):
        make_arms("bccd/fcos_resnet18", [], ["a/b: resnet18", "'a b:resnet34'"], [], Budget())


def test_parts_that_do_not_fit_are_told_with_the_arm():
    with pytest.raises(UserError, match=r"^faster_rcnn_32 resnet10: MODEL\.RPN\.ANCHOR_SIZES"):
        make_arms("quickstart", [], [], ["fcos", "faster_rcnn MODEL.RPN.ANCHOR_SIZES 32"], Budget())


def test_an_unknown_backbone_is_named_with_the_nearest():
    with pytest.raises(KeyError, match=r"MODEL\.BACKBONE\.NAME.*resnet18"):
        make_arms("bccd/fcos_resnet18", [], ["resnet81"], [], Budget())


def solver(budget, *opts, step_s=0.0):
    (arm,) = make_arms("bccd/fcos_resnet18", [*opts], [], [], Budget())
    return budgeted(arm.cfg, budget, step_s).SOLVER


def test_a_budget_keeps_the_form_of_the_schedule():
    """The file has 1000 steps of 4 images, the rate falls after 800, the warm-up lasts 100."""
    for budget, step_s in ((Budget("steps", 500), 0), (Budget("images", 2000), 0), (Budget("hours", 0.5), 3.6)):
        found = solver(budget, step_s=step_s)
        assert (found.MAX_ITER, found.STEPS, found.WARMUP_ITERS, found.TEST_PERIOD) == (500, (400,), 50, 125)
    assert solver(Budget("steps", 500), "SOLVER.TEST_PERIOD", "100").TEST_PERIOD == 50
    assert solver(Budget()).TEST_PERIOD == 250
    assert solver(Budget("hours", 1)).MAX_ITER == 1000  # not known before a step is measured


def test_a_budget_replaces_epochs():
    found = solver(Budget("steps", 500), "SOLVER.EPOCHS", "7")
    assert (found.EPOCHS, found.MAX_ITER, found.STEPS) == (0, 500, (400,))
    untouched = solver(Budget(), "SOLVER.EPOCHS", "7")
    assert (untouched.EPOCHS, untouched.TEST_PERIOD) == (7, 0)


def test_a_reference_batch_is_applied_before_the_budget():
    """8 images in place of 4: twice the rate, and the budget in steps is that of the steps which are made."""
    found = solver(Budget("steps", 500), "SOLVER.REFERENCE_BATCH", "4", "SOLVER.IMS_PER_BATCH", "8")
    assert (found.MAX_ITER, found.STEPS, found.BASE_LR, found.REFERENCE_BATCH) == (500, (400,), 0.02, 8)


@pytest.mark.parametrize("budget", [Budget("steps", 3), Budget("images", 8), Budget("hours", 1e-4)])
def test_a_budget_of_nothing_is_refused(budget):
    with pytest.raises(UserError, match=f"--{budget.kind}"):
        solver(budget, step_s=1)


@pytest.mark.parametrize(
    ("budget", "opts", "told", "least"),
    [
        (Budget("steps", 2), (), "--steps 2: 2 steps of 4 images", Budget("steps", 4)),
        (Budget("images", 4), (), "--images 4: 1 step of 4 images", Budget("images", 16)),
        (Budget("hours", 2e-4), (), "--hours 0.0002: 2 steps of 4 images", Budget("hours", 0.0004)),
        (Budget(), ("SOLVER.MAX_ITER", "3"), "SOLVER.MAX_ITER 3: 3 steps of 4 images", None),
    ],
)
def test_a_small_budget_is_told_the_least(budget, opts, told, least):
    with pytest.raises(UserError) as error:
        budgeted(load_config("bccd/fcos_resnet18", [*opts]), budget, step_s=0.3)
    said, words = str(error.value), f"--{least.kind} {least.number:g}" if least else "SOLVER.MAX_ITER 4"
    assert said == f"{told}, too few for the 4 points of a learning curve: take {words} or more"
    if least:
        assert solver(least, step_s=0.3).MAX_ITER == 4


def test_cells_go_seed_by_seed_in_folders_of_plain_names(tmp_path):
    (arm,) = make_arms("bccd/fcos_resnet18", [], [], [], Budget())
    other = Arm("fcos ../a:b", "x", "fcos", arm.cfg)
    cells = cells_of([arm, other], {arm.name: 10, other.name: 20}, 2, tmp_path)
    names = ["fcos_resnet18_seed0", "fcos_.._a_b_seed0", "fcos_resnet18_seed1", "fcos_.._a_b_seed1"]
    assert cells[:2] == [
        Cell(arm.name, 0, tmp_path / names[0], 10),
        Cell(other.name, 0, tmp_path / names[1], 20),
    ]
    assert [cell.folder.name for cell in cells] == names
    assert cells[3].name == "fcos ../a:b, seed 1"
    assert folder_name("..") == "arm"
    assert folder_name("fcos ä") != folder_name("fcos ö")


@pytest.fixture
def arm():
    return make_arms("bccd/fcos_resnet18", [], [], [], Budget("steps", 100))[0]


STEPS = Budget("steps", 100)


def other(*opts, budget=STEPS):
    return make_arms("bccd/fcos_resnet18", [*opts], [], [], budget)[0]


def begin(folder, arm):
    """Leave what a training leaves that has begun."""
    run = folder / f"{folder_name(arm.name)}_seed0"
    run.mkdir()
    (run / "log.jsonl").touch()


def test_a_comparison_goes_on_with_what_it_began_with(tmp_path, arm):
    state = State(tmp_path)
    assert state.steps(arm.name) is None
    assert state.goes_on(arm, STEPS) is None
    state.note(arm, STEPS, {"step_s": 0.5}, 100)
    state.write()
    again = State(tmp_path)
    assert again.steps(arm.name) == 100
    assert again.goes_on(arm, STEPS) == (arm, {"step_s": 0.5})
    moved = other("DATALOADER.NUM_WORKERS", "0", "SEED", "5")
    assert again.goes_on(moved, STEPS) == (moved, {"step_s": 0.5})


def test_other_settings_are_refused_by_key(tmp_path, arm):
    """But where nothing was trained yet: there they count from now on."""
    state = State(tmp_path)
    state.note(arm, STEPS, {}, 100)
    changed = other("SOLVER.BASE_LR", "0.02")
    assert state.goes_on(changed, STEPS) is None
    begin(tmp_path, arm)
    with pytest.raises(UserError, match=r"fcos resnet18 began with other settings \(SOLVER.BASE_LR default -> 0.02\)"):
        state.goes_on(changed, STEPS)
    assert "SEED" not in decisive(changed.cfg)
    assert decisive(changed.cfg)["SOLVER.BASE_LR"] == 0.02


def test_hours_become_steps_once(tmp_path):
    """Whatever a step takes when the comparison goes on."""
    hours = Budget("hours", 0.5)
    bare = other(budget=hours)
    state = State(tmp_path)
    arm = bare._replace(cfg=budgeted(bare.cfg, hours, 3.6))
    state.note(arm, hours, {"step_s": 3.6}, 500)
    begin(tmp_path, arm)
    again, pace = state.goes_on(bare, hours)
    assert again.cfg == arm.cfg
    assert (again.cfg.SOLVER.MAX_ITER, pace) == (500, {"step_s": 3.6})
    with pytest.raises(UserError, match=r"the budget --hours 0.5 -> --hours 1"):
        state.goes_on(bare, Budget("hours", 1))


@pytest.mark.parametrize("content", ["[]", "{", '{"version": 1, "arms": {"a": 1}}', '{"version": 99, "arms": {}}'])
def test_a_file_that_is_no_comparison_is_left_alone(tmp_path, content):
    (tmp_path / "comparison.json").write_text(content)
    with pytest.raises(UserError, match="is no comparison's"):
        State(tmp_path)
