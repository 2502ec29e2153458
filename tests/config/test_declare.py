"""A plugin adds keys of its own."""

import pytest

from detector.config import (
    checks,
    config_from_text,
    config_text,
    declare,
    defaults,
    get_defaults,
    load_config,
    validate,
)


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    """What a test declares is gone after it."""
    monkeypatch.setattr(defaults, "DEFAULTS", get_defaults())
    before = dict(checks.RULES)
    yield
    checks.RULES.clear()
    checks.RULES.update(before)


def test_a_declared_key_is_like_any_other(tmp_path):
    declare("MODEL.MY_HEAD.WIDTH", 64, "1 or more", test=lambda v: v >= 1)
    declare("MODEL.MY_HEAD.NAMES", ("a",))
    declare("SOLVER.MY_RATE", 0.5)
    path = tmp_path / "a.yaml"
    path.write_text("MODEL: {MY_HEAD: {WIDTH: 32}}\nSOLVER.MY_RATE: 1\n")
    cfg = load_config(path, ["MODEL.MY_HEAD.NAMES", "[x, y]"])
    assert (cfg.MODEL.MY_HEAD.WIDTH, cfg.MODEL.MY_HEAD.NAMES, cfg.SOLVER.MY_RATE) == (32, ("x", "y"), 1.0)
    assert type(cfg.SOLVER.MY_RATE) is float
    assert load_config(None).MODEL.MY_HEAD.WIDTH == 64
    assert config_from_text(config_text(cfg)) == cfg
    with pytest.raises(ValueError, match=r"command line: MODEL.MY_HEAD.WIDTH: 0 is not allowed; allowed: 1 or more"):
        load_config(None, ["MODEL.MY_HEAD.WIDTH", "0"])
    with pytest.raises(ValueError, match=r"MODEL.MY_HEAD.WIDTH: expected an integer, got '1.5'"):
        load_config(None, ["MODEL.MY_HEAD.WIDTH", "1.5"])
    with pytest.raises(ValueError, match=r"MODEL.MY_HED.WIDTH: unknown key; near: MODEL.MY_HEAD.WIDTH"):
        load_config(None, ["MODEL.MY_HED.WIDTH", "1"])


def test_a_checkpoint_without_its_plugin_names_the_remedy(monkeypatch):
    before = get_defaults()
    declare("MODEL.MY_HEAD.WIDTH", 64)
    text = config_text(load_config(None))
    monkeypatch.setattr(defaults, "DEFAULTS", before)
    with pytest.raises(ValueError, match=r"last.pth: MODEL.MY_HEAD.WIDTH: unknown key.*add --import PACKAGE"):
        config_from_text(text, "last.pth")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("SOLVER.MAX_ITER", 1), "SOLVER.MAX_ITER exists already"),
        (("MODEL.FCOS", 1), "MODEL.FCOS is a section of keys"),
        (("SEED.MINE", 1), "SEED.MINE lies below SEED, which is a key"),
        (("MODEL.MY_HEAD.WIDTH", None), "its default None must be text, a number"),
        (("MODEL.MY_HEAD.WIDTH", {"a": 1}), "its default {'a': 1} must be"),
        (("MODEL.MY_HEAD.WIDTH", [1]), "must be"),
        (("MODEL.MY_HEAD.WIDTH", (1, 2.0)), "must be"),
        (("MODEL.MY_HEAD.WIDTH", (True,)), "must be"),
        (("model.my_head.width", 1), "in capitals"),
        (("WIDTH", 1), "write a section and a name in capitals"),
        (("MODEL.MY_HEAD.WIDTH", 1, "", bool), "a test needs words"),
        (("MODEL.MY_HEAD.WIDTH", 0, "not 0", bool), "a default that passes"),
    ],
)
def test_what_cannot_be_declared(arguments, problem):
    before = get_defaults()
    with pytest.raises(ValueError, match="declared key") as error:
        declare(*arguments)
    assert problem in str(error.value)
    assert get_defaults() == before
    validate(get_defaults())


def test_a_key_is_declared_once():
    declare("MODEL.MY_HEAD.WIDTH", 1)
    with pytest.raises(ValueError, match=r"MODEL.MY_HEAD.WIDTH exists already"):
        declare("MODEL.MY_HEAD.WIDTH", 1)
