import shlex

import pytest
import torch
from helpers import ROOT
from helpers.inputs import target

from detector.config import load_config
from detector.models import heads
from detector.models.build import build_detector, resolve_parts
from detector.models.norm import FrozenNorm

TINY = [
    *("MODEL.BACKBONE.NAME", "resnet18", "MODEL.NUM_CLASSES", "3", "MODEL.NECK.OUT_CHANNELS", "64"),
    *("MODEL.FCOS.NUM_CONVS", "1", "MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "0"),
]


def tiny(*opts):
    return build_detector(load_config(None, [*TINY, *opts]))


def test_pixels_are_normalised_and_padding_is_zero():
    images = torch.full((2, 3, 8, 8), 200, dtype=torch.uint8)
    images[:, 0] = 255
    x = tiny().normalize(images, [(8, 8), (4, 6)])
    assert x[0, 0, 0, 0].item() == pytest.approx((255 / 255 - 0.485) / 0.229, abs=1e-4)
    assert x[0, 2, 7, 7].item() == pytest.approx((200 / 255 - 0.406) / 0.225, abs=1e-4)
    assert (x[1, :, 4:] == 0).all()
    assert (x[1, :, :, 6:] == 0).all()
    assert (x[1, :, :4, :6] == x[0, :, :4, :6]).all()


@pytest.fixture(scope="module")
def model():
    return tiny()


IMAGES, SIZES = torch.zeros(2, 3, 64, 96, dtype=torch.uint8), [(64, 96), (50, 60)]


@pytest.mark.parametrize(
    ("images", "sizes", "error", "said"),
    [
        (IMAGES.float() / 255, SIZES, TypeError, "a tensor of torch.float32: pass pixels as they are, uint8 from 0"),
        (IMAGES.long(), SIZES, TypeError, "a tensor of torch.int64"),
        (IMAGES.numpy(), SIZES, TypeError, "images are ndarray"),
        (IMAGES[0], SIZES, ValueError, r"images are \(3, 64, 96\): pass \[N, 3, H, W\], a single one as image\[None\]"),
        (IMAGES.permute(0, 2, 3, 1), SIZES, ValueError, r"images are \(2, 64, 96, 3\)"),
        (IMAGES[:, :1], SIZES, ValueError, r"images are \(2, 1, 64, 96\)"),
        (IMAGES[:0], [], ValueError, r"images are \(0, 3, 64, 96\)"),
        (IMAGES, SIZES[:1], ValueError, "2 images with 1 sizes"),
        (IMAGES, [*SIZES, SIZES[0]], ValueError, "2 images with 3 sizes"),
        (IMAGES, [SIZES[0], (96, 64)], ValueError, r"sizes\[1\] is 96 x 64 \(height x width\) and .* 64 x 96"),
        (IMAGES, [(64, 97), SIZES[1]], ValueError, r"sizes\[0\] is 64 x 97"),
        (IMAGES, [(0, 96), SIZES[1]], ValueError, r"sizes\[0\] is 0 x 96"),
    ],
)
@pytest.mark.parametrize("truth", [False, True])
def test_what_is_no_input_is_refused(model, images, sizes, error, said, truth):
    targets = [target([(1, 1, 20, 20)]) for _ in sizes] if truth else None
    with pytest.raises(error, match=said):
        model(images, sizes, targets)


def test_targets_are_one_for_each_image(model):
    with pytest.raises(ValueError, match="2 images with 2 sizes and 1 targets"):
        model(IMAGES, SIZES, [target([(1, 1, 20, 20)])])
    assert all(torch.isfinite(loss) for loss in model(IMAGES, SIZES, [target(), target([(1, 1, 20, 20)])]).values())


def test_caffe_weights_see_bgr():
    model = build_detector(load_config(None, ["MODEL.BACKBONE.NAME", "resnet50_caffe"]))
    images = torch.arange(3, dtype=torch.uint8).view(1, 3, 1, 1)
    x = model.normalize(images, [(1, 1)]).flatten().tolist()
    assert x == pytest.approx([2 - 102.9801, 1 - 115.9465, 0 - 122.7717], abs=1e-4)


def test_a_config_may_have_its_own_pixel_statistics():
    model = tiny("INPUT.PIXEL_MEAN", "[1, 2, 3]", "INPUT.PIXEL_STD", "[2, 2, 4]")
    x = model.normalize(torch.full((1, 3, 1, 1), 11, dtype=torch.uint8), [(1, 1)])
    assert x.flatten().tolist() == [5, 4.5, 2]


def test_frozen_norms_take_their_eps_from_the_record_or_the_config():
    def eps(*opts):
        return {m.eps for m in tiny(*opts).modules() if isinstance(m, FrozenNorm)}

    assert eps() == {1e-5}
    assert eps("MODEL.BACKBONE.NORM_EPS", "0") == {0.0}
    assert eps("MODEL.BACKBONE.NAME", "resnet50_caffe") == {0.0}
    assert eps("MODEL.BACKBONE.NAME", "resnet50_caffe", "MODEL.BACKBONE.NORM_EPS", "0.001") == {0.001}
    with pytest.raises(
        ValueError, match=r"MODEL\.BACKBONE\.NORM_EPS 0\.001 is for NORM frozen_bn; with gn set it to -1"
    ):
        tiny("MODEL.BACKBONE.NORM", "gn", "MODEL.BACKBONE.NORM_EPS", "0.001")


FEW = ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "64", "MODEL.RPN.POST_NMS_TOP_N_TEST", "100")
RESNEST_RECIPE = ("MODEL.BACKBONE.NORM", "sync_bn", "MODEL.NECK.NORM", "sync_bn", "MODEL.ROI_BOX_HEAD.NORM", "sync_bn")


@pytest.mark.parametrize(
    "opts",
    [
        ("MODEL.ROI_BOX_HEAD.NUM_CONV", "4", "MODEL.ROI_BOX_HEAD.NUM_FC", "1", *RESNEST_RECIPE),
        ("MODEL.ROI_HEADS.CASCADE_IOUS", "0.5,0.6,0.7", "MODEL.CLS_AGNOSTIC_BBOX_REG", "True"),
        ("MODEL.ROI_HEADS.NMS_METHOD", "soft_linear", "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "giou"),
    ],
)
def test_options_of_faster_rcnn_train_from_the_config(opts):
    cfg = load_config(
        ROOT / "configs/base/faster_rcnn.yaml", [*TINY[:6], "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", "32", *FEW, *opts]
    )
    model = build_detector(cfg)
    images = torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8)
    losses = model(images, [(64, 96)] * 2, [target([[8, 8, 40, 40]], [1]), target()])
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)
    assert len(model.eval()(images, [(64, 96)] * 2)) == 2


@pytest.mark.parametrize("training", [True, False])
def test_targets_decide_what_comes_out_not_the_mode(training):
    model = tiny().train(training)
    images = torch.randint(0, 255, (1, 3, 64, 96), dtype=torch.uint8)
    losses = model(images, [(64, 96)], [target([[8, 8, 40, 40]], [1])])
    assert set(losses) == {"loss_cls", "loss_reg", "loss_centerness"}
    (detection,) = model(images, [(64, 96)])
    assert set(detection) == {"boxes", "labels", "scores"}


def test_detections_lie_inside_the_image_and_descend():
    model = tiny("MODEL.FCOS.PRIOR_PROB", "0.3").eval()
    images = torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        detections = model(images, [(64, 96), (50, 70)])
    for detection, (height, width) in zip(detections, [(64, 96), (50, 70)]):
        boxes = detection["boxes"]
        assert 0 < len(boxes) <= 100
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= width).all()
        assert (boxes[:, 3] <= height).all()
        assert (detection["scores"].diff() <= 0).all()
        assert ((detection["scores"] > 0) & (detection["scores"] <= 1)).all()
        assert ((detection["labels"] >= 0) & (detection["labels"] < 3)).all()


def test_the_memory_format_does_not_change_the_numbers():
    images = torch.randint(0, 255, (1, 3, 64, 96), dtype=torch.uint8)
    plain = tiny("MODEL.CHANNELS_LAST", "False").double()
    last = tiny().double()
    last.load_state_dict(plain.state_dict())
    assert last.backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    truth = [target([[8, 8, 40, 40]], [1])]
    for key, value in plain(images, [(64, 96)], truth).items():
        torch.testing.assert_close(last(images, [(64, 96)], truth)[key], value, rtol=1e-9, atol=1e-12)


def test_unknown_parts_suggest_near_names():
    with pytest.raises(KeyError, match=r"unknown backbone 'resnet51'; close: .*resnet50"):
        tiny("MODEL.BACKBONE.NAME", "resnet51")
    with pytest.raises(KeyError, match="unknown head 'fcoss'; close: fcos"):
        tiny("MODEL.HEAD.NAME", "fcoss")
    with pytest.raises(ValueError, match=r"MODEL\.NECK\.SOURCES \('c3', 'c7'\): resnet18 has .*c5"):
        tiny("MODEL.NECK.SOURCES", "('c3', 'c7')")


def test_another_neck_counts_with_one_warning_and_follows_its_own_paper(caplog):
    cfg = load_config(None, ["MODEL.HEAD.NAME", "refinedet", "MODEL.NECK.NAME", "fpn"])
    resolved = resolve_parts(cfg)
    neck = resolved.MODEL.NECK
    assert (neck.NAME, neck.SOURCES, neck.EXTRA_LEVELS, neck.L2NORM_SCALES) == (
        *("fpn", ("c2", "c3", "c4", "c5"), "maxpool"),
        (),
    )
    assert resolved.DATALOADER.SIZE_DIVISIBILITY == 64
    with torch.device("meta"):
        assert list(build_detector(resolved).neck.levels) == ["p2", "p3", "p4", "p5", "p6"]
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "MODEL.NECK.NAME fpn is not the neck of refinedet, which is refinedet_sources"
    )


def test_what_the_config_says_of_the_neck_counts_and_the_rest_is_the_heads(caplog):
    opts = ["MODEL.NECK.EXTRA_LEVELS", "p6p7_c5", "MODEL.NECK.NORM", "gn", "DATALOADER.SIZE_DIVISIBILITY", "128"]
    cfg = resolve_parts(load_config(None, [*opts, "MODEL.NECK.L2NORM_SCALES", "()"]))
    assert (cfg.MODEL.NECK.EXTRA_LEVELS, cfg.MODEL.NECK.NORM) == ("p6p7_c5", "gn")
    assert (cfg.MODEL.NECK.SOURCES, cfg.DATALOADER.SIZE_DIVISIBILITY) == (("c3", "c4", "c5"), 128)
    cfg = resolve_parts(load_config(None, ["MODEL.HEAD.NAME", "refinedet", "MODEL.NECK.L2NORM_SCALES", "()"]))
    assert (cfg.MODEL.NECK.NAME, cfg.MODEL.NECK.L2NORM_SCALES) == ("refinedet_sources", ())
    assert load_config(None).MODEL.NECK.NORM == "auto"
    assert not [record for record in caplog.records if "is not the neck" in record.getMessage()]


def test_resolving_parts_again_gives_the_very_config():
    once = resolve_parts(load_config(None))
    assert once.is_frozen()
    assert resolve_parts(once) is once


@pytest.fixture
def _heads_of_others():
    """What a test registers is gone after it."""
    tables = [(table, dict(table)) for table in (heads.HEADS, heads.STANDARDS)]
    yield
    for table, before in tables:
        table.clear()
        table.update(before)


@pytest.mark.usefixtures("_heads_of_others")
def test_a_plugins_head_gets_an_fpn_as_that_declares_it():
    heads.register_head("theirs")(lambda cfg, levels: None)
    neck = resolve_parts(load_config(None, ["MODEL.HEAD.NAME", "theirs"])).MODEL.NECK
    assert (neck.NAME, neck.SOURCES, neck.EXTRA_LEVELS) == ("fpn", ("c2", "c3", "c4", "c5"), "maxpool")
    heads.register_head("wide", heads.Standard("refinedet_sources", None, 128))(lambda cfg, levels: None)
    cfg = resolve_parts(load_config(None, ["MODEL.HEAD.NAME", "wide"]))
    assert (cfg.MODEL.NECK.NAME, cfg.MODEL.NECK.L2NORM_SCALES) == ("refinedet_sources", (10, 8))
    assert cfg.DATALOADER.SIZE_DIVISIBILITY == 128


def test_the_number_of_classes_may_not_stay_open():
    with pytest.raises(ValueError, match=r"MODEL\.NUM_CLASSES 0 takes .*: write MODEL\.NUM_CLASSES with the number"):
        tiny("MODEL.NUM_CLASSES", "0")


def test_parts_that_do_not_fit_name_the_keys_of_the_neck():
    neck = ["MODEL.NECK.SOURCES", "[c3, c4, c5]", "MODEL.NECK.EXTRA_LEVELS", "none"]
    with pytest.raises(ValueError, match=r"MODEL\.RPN\.ANCHOR_SIZES .* the neck has 3") as error:
        build_detector(load_config("quickstart", ["MODEL.HEAD.NAME", "faster_rcnn", *neck]))
    assert str(error.value).endswith(
        "This config has MODEL.NECK.SOURCES (c3, c4, c5), MODEL.NECK.EXTRA_LEVELS none; faster_rcnn's own neck has "
        'SOURCES (c2, c3, c4, c5), EXTRA_LEVELS maxpool: write MODEL.NECK.SOURCES "()" MODEL.NECK.EXTRA_LEVELS auto'
    )
    written = shlex.split(str(error.value).rpartition(": write ")[2])
    build_detector(load_config("quickstart", ["MODEL.HEAD.NAME", "faster_rcnn", *neck, *written]))


def test_advice_on_the_neck_has_the_keys_that_mend_it_and_no_others():
    head, norm = ["MODEL.HEAD.NAME", "faster_rcnn"], ["MODEL.NECK.NORM", "gn"]  # which builds, whatever the levels are
    sources = ["MODEL.NECK.SOURCES", "[c3, c4, c5]", "MODEL.NECK.EXTRA_LEVELS", "none"]
    with pytest.raises(ValueError, match=r"the neck has 3") as error, torch.device("meta"):
        build_detector(load_config("quickstart", [*head, *sources, *norm]))
    assert str(error.value).endswith(': write MODEL.NECK.SOURCES "()" MODEL.NECK.EXTRA_LEVELS auto')
    three = ["MODEL.RPN.ANCHOR_SIZES", "(16, 32, 64)"]
    with pytest.raises(ValueError, match=r"the neck has 5 .* that come to 3 levels$"), torch.device("meta"):
        build_detector(load_config("quickstart", [*head, *three, *norm]))


def test_advice_on_a_neck_of_another_head_is_read_as_it_is_written():
    other = ["MODEL.NECK.NAME", "refinedet_sources", "MODEL.NECK.L2NORM_SCALES", "(10., 8.)"]
    with pytest.raises(ValueError, match=r"FCOS shares its towers") as error, torch.device("meta"):
        build_detector(load_config("quickstart", other))
    written = shlex.split(str(error.value).rpartition(": write ")[2])
    with torch.device("meta"):
        build_detector(load_config("quickstart", [*other, *written]))
    assert written[:2] == ["MODEL.NECK.NAME", "auto"]
    assert "MODEL.NECK.L2NORM_SCALES" not in written


def test_sizes_of_anchors_that_do_not_fit_the_levels_have_a_remedy():
    three = ["MODEL.HEAD.NAME", "faster_rcnn", "MODEL.RPN.ANCHOR_SIZES", "(16, 32, 64)"]
    with pytest.raises(ValueError, match=r"MODEL\.RPN\.ANCHOR_SIZES .* the neck has 5 ") as error:
        build_detector(load_config("quickstart", three))
    assert str(error.value).endswith(
        "(p2, p3, p4, p5, p6): write 5 sizes, or MODEL.NECK.SOURCES and MODEL.NECK.EXTRA_LEVELS that come to 3 levels"
    )
    with torch.device("meta"):
        before = ["MODEL.NECK.SOURCES", "[c3, c4, c5]", "MODEL.NECK.EXTRA_LEVELS", "none"]  # as docs/decisions.md has
        assert [*build_detector(load_config("quickstart", [*three, *before])).neck.levels] == ["p3", "p4", "p5"]


def test_one_key_swaps_the_head_where_a_shipped_file_has_keys_of_its_own_neck():
    with torch.device("meta"):
        build_detector(load_config("refinedet/resnet101_caffe_coco320", ["MODEL.HEAD.NAME", "fcos"]))
    own = ["MODEL.HEAD.NAME", "fcos", "MODEL.NECK.EXTRA_LEVELS", "c6_bottleneck"]
    with pytest.raises(ValueError, match=r"'c6_bottleneck' .* belong to the neck refinedet_sources; fpn has none, max"):
        build_detector(load_config("base/refinedet_bottleneck", own))


def test_another_head_is_one_key_in_every_config_that_leaves_the_neck_open(caplog):
    for head, neck in (("faster_rcnn", "fpn"), ("refinedet", "refinedet_sources")):
        with torch.device("meta"):
            build_detector(load_config("quickstart", ["MODEL.HEAD.NAME", head]))
        assert resolve_parts(load_config("quickstart", ["MODEL.HEAD.NAME", head])).MODEL.NECK.NAME == neck
    assert not caplog.records  # nobody wrote keys of FCOS beside the other head


@pytest.mark.parametrize(
    ("sizes", "sources", "extra"),
    [("[32, 64]", "()", "none"), ("[32, 64, 128]", "()", "maxpool"), ("[64, 128, 256, 512]", "()", "p6p7_p5"),
     ("[32, 64, 128]", "[c2, c3, c4, c5]", "none"), ("[32]", "()", "p6p7_p5"), ("[32]", "[c4, c5]", "none")],
)  # fmt: skip
def test_the_ranges_of_fcos_say_how_many_levels_lie_above_its_sources(sizes, sources, extra):
    cfg = load_config(None, ["MODEL.FCOS.SIZES_OF_INTEREST", sizes, "MODEL.NECK.SOURCES", sources])
    neck = resolve_parts(cfg).MODEL.NECK
    assert neck.EXTRA_LEVELS == extra
    assert tuple(neck.SOURCES) == (tuple(cfg.MODEL.NECK.SOURCES) or ("c3", "c4", "c5"))


def test_passes_cost_no_parameter():
    once, twice = tiny(), tiny("MODEL.BACKBONE.PASSES", "2")
    assert {k: v.shape for k, v in once.state_dict().items()} == {k: v.shape for k, v in twice.state_dict().items()}
    twice.load_state_dict(once.state_dict())
    x = torch.randn(1, 3, 64, 64)
    assert not torch.allclose(once.backbone(x)["c5"], twice.backbone(x)["c5"])
