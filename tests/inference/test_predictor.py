"""The predictor: order, threads, memory, thresholds, errors where they belong, and the detections of `detect`."""

import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch

from detector.config import load_config
from detector.data.pipeline import build_transforms
from detector.errors import MissingFileError, UserError
from detector.inference import detect as detecting
from detector.inference import predictor as module
from detector.inference.predictor import Predictor, TorchNetwork
from detector.inference.prepare import prepare_for_inference
from detector.inference.sources import Input, Picture, open_source
from detector.models.build import build_detector, resolve_parts
from detector.models.heads import HEADS


def greys(results):
    """The grey of each picture, by what the stand-in found in it."""
    return [round(float(result.scores[0]) * 255) for result in results]


def flat(grey, height=6, width=8):
    return np.full((height, width, 3), grey, np.uint8)


def waiting_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("pictures")]


def test_results_say_what_was_found_where(predictor, write_greys):
    photos = write_greys("a.png", "b.png", "c.png")
    first, second, third = predictor(photos, threshold=0.0)
    assert (first.path, first.height, first.width, first.image_id) == (photos / "a.png", 40, 50, 1)
    assert (third.names, third.labels.tolist(), third.frame) == (["dark"], [0], None)
    assert (first.boxes.dtype, first.labels.dtype, first.scores.dtype) == (np.float32, np.int64, np.float32)
    np.testing.assert_array_equal(second.boxes, [[0, 0, 50, 40]])
    assert greys((first, second, third)) == [10, 20, 30]
    assert predictor.names == ["dark", "light"]
    assert predictor.category_ids == [3, 7]
    assert repr(predictor) == "<Predictor of 2 classes: dark, light>"
    assert str(next(predictor.predict(photos, 0.0))) == f"<{photos / 'a.png'} (50 x 40): 1 dark>"


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 50])
def test_order_is_kept_however_long_a_picture_takes(predictor, network, batch):
    def slow(i):
        def read():
            time.sleep(0.004 * (-i % 3))
            return flat(50 + i)

        return Picture(str(i), read, i)

    opened = Input("slow", "memory", [slow(i) for i in range(20)], 20)
    found = [seen.result for seen in predictor.look(opened, [0.0, 0.0], batch)]
    assert greys(found) == [50 + i for i in range(20)]
    assert network.batches == [min(batch, 20 - start) for start in range(0, 20, batch)]


def test_reading_goes_on_while_the_network_works(predictor, network, monkeypatch):
    read = threading.Event()

    def noted():
        read.set()
        return flat(9)

    detect = network.detect
    waited = []

    def wait_for_the_next(pictures, originals):
        waited.append(read.wait(5))
        return detect(pictures, originals)

    monkeypatch.setattr(network, "detect", wait_for_the_next)
    pictures = [Picture("a", lambda: flat(8), 1), Picture("b", noted, 2)]
    stream = predictor.look(Input("two", "memory", pictures, 2), [0.0, 0.0], 1)
    next(stream)
    assert waited == [True]
    stream.close()


@pytest.mark.parametrize("keep", [False, True])
def test_memory_is_flat(predictor, keep):
    """Of 300 pictures no more than two batches and what is read ahead are held at a time."""
    alive, most = [], 0

    class Pixels(np.ndarray):
        """An array that can be counted."""

    def read():
        pixels = np.full((60, 80, 3), 77, np.uint8).view(Pixels)
        alive.append(weakref.ref(pixels))
        return pixels

    opened = Input("many", "files", (Picture(str(i), read, i) for i in range(300)), 300)
    number = 0
    for seen in predictor.look(opened, [0.0, 0.0], 8, keep=keep):
        number += len(seen.result)
        del seen
        most = max(most, sum(one() is not None for one in alive))
    assert number == 300
    assert most <= (2 * 8 + 2 * module.THREADS if keep else module.THREADS + 2)


def test_a_result_of_a_file_holds_no_pixels(predictor, write_greys):
    photos = write_greys("a.png")
    (result,) = predictor(photos, 0.0)
    assert result.image.shape == (40, 50, 3)
    write_greys("a.png", "b.png", folder=photos)
    (photos / "b.png").replace(photos / "a.png")
    assert int(result.image[0, 0, 0]) == 20
    cv2.imwrite(str(photos / "a.png"), flat(3))
    with pytest.raises(UserError, match=r"a\.png: it is not the picture any more that was looked at"):
        _ = result.image


def test_a_result_of_a_video_holds_its_frame(predictor, write_film, tmp_path):
    film = write_film(tmp_path / "a.mp4", (20, 90, 200))
    results = list(predictor(film, 0.0, batch=2))
    for grey, result in zip((20, 90, 200), results, strict=True):
        assert abs(result.image.mean() - grey) < 3
    assert [(one.frame, one.seconds) for one in results] == [(0, 0.0), (1, 0.08), (2, 0.16)]
    assert str(results[1]).startswith(f"<{film}, frame 1 (64 x 48): ")


def test_frames_are_read_one_after_the_other(predictor):
    """A video has one place where it is read."""
    numbers, inside, most = iter(range(40)), [], []

    def read():
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.001)
        inside.pop()
        number = next(numbers)
        return flat(number) if number < 30 else None

    pictures = (Picture(f"frame {i}", read, i, frame=i, lasting=False) for i in range(99))
    assert greys(seen.result for seen in predictor.look(Input("a", "video", pictures), [0, 0], 4)) == list(range(30))
    assert max(most) == 1


def test_a_camera_is_not_kept_waiting_for_a_batch(predictor, network):
    frames = iter([flat(1), flat(2), None])
    closed = []
    pictures = (Picture(f"frame {i}", lambda: next(frames), i, frame=i, lasting=False) for i in range(99))
    opened = Input("camera_0", "camera", pictures, close=lambda: closed.append(True))
    assert greys(seen.result for seen in predictor.look(opened, [0.0, 0.0], 8)) == [1, 2]
    assert network.batches == [1, 1]
    assert closed == [True]


def test_leaving_early_ends_the_threads_before_the_source_is_closed(predictor):
    alive = []
    opened = Input("many", "memory", (Picture(str(i), lambda: flat(5), i) for i in range(99)), 99)
    opened.close = lambda: alive.append(len(waiting_threads()))
    stream = predictor.look(opened, [0.0, 0.0], 2)
    next(stream)
    assert waiting_threads()
    stream.close()
    assert alive == [0]


def test_a_broken_picture_raises_where_its_result_would_stand(predictor, write_greys, caplog):
    photos = write_greys("a.png", "b.png", "c.png")
    (photos / "b.png").write_bytes(b"")
    found = predictor(photos, 0.0, batch=4)
    assert greys([next(found)]) == [10]
    with pytest.raises(UserError, match=r"b\.png: the picture file is empty"):
        next(found)
    assert greys(predictor(photos, 0.0, broken="skip")) == [10, 30]
    assert caplog.messages == [f"{photos / 'b.png'}: the picture file is empty; fetch it again; it is left out"]
    mixed = [flat(4), np.zeros(3), photos / "c.png", photos / "gone.png"]
    assert greys(predictor(mixed, 0.0, broken="skip")) == [4, 30]
    with pytest.raises(MissingFileError, match=r"gone\.png"):
        list(predictor([photos / "gone.png"]))


def test_bugs_are_not_taken_for_broken_pictures(predictor):
    def read():
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        list(predictor.look(Input("x", "memory", [Picture("x", read, 1)]), [0.0, 0.0], 1))


def test_a_threshold_is_of_every_class_or_each_its_own(network):
    pictures = [flat(100), flat(101), flat(160), flat(161)]
    own = Predictor(network, lambda: [0.6, 0.3])
    assert [len(one) for one in own(pictures, "auto")] == [0, 1, 1, 1]
    assert [len(one) for one in own(pictures, 0.5)] == [0, 0, 1, 1]
    assert [one["threshold"] for one in next(own([flat(101)], "auto")).to_dict()["detections"]] == [0.3]
    seen = next(own.look(open_source(flat(100)), [0.9, 0.9], 1))
    assert (len(seen.result), round(seen.highest, 2)) == (0, 0.39)


def test_outputs_without_a_class_are_never_found(network):
    network.names = ["N/A", "light"]
    predictor = Predictor(network)
    assert [len(one) for one in predictor([flat(200), flat(201)], 0.0)] == [0, 1]
    assert [round(seen.highest, 2) for seen in predictor.look(open_source(flat(200)), [0, 0], 1)] == [0]


def test_a_data_set_gives_its_ids_and_its_truth(predictor, write_cells):
    first, second = predictor(write_cells(2, 0), 0.0)
    assert (first.image_id, first.names, first.to_dict()["detections"][0]["category_id"]) == (40, ["dark"], 9)
    assert [len(one.truth.boxes) for one in (first, second)] == [2, 0]


def test_a_class_that_a_data_set_lacks_gets_none_of_its_ids(network, write_cells):
    """Else its detections would count for another class."""
    network.names, network.category_ids = ["dark", "sky"], [3, 5]
    first, _ = Predictor(network)(write_cells(2, 0), 0.0)
    assert first.category_ids == [9, 10]
    assert next(Predictor(network)([flat(9)], 0.0)).category_ids == [3, 5]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"threshold": 1.5}, r"threshold 1.5: scores lie in 0\.\.1; or write auto"),
        ({"threshold": "best"}, "threshold 'best'"),
        ({"threshold": "auto"}, "these weights have no run with a thresholds.json"),
        ({"batch": 0}, "batch 0: it is a number of pictures, 1 or more"),
        ({"batch": 2.0}, r"batch 2\.0"),
        ({"broken": "no"}, "broken 'no': write stop or skip"),
        ({"order": "hsv"}, "order 'hsv'"),
    ],
)
def test_what_is_wrong_is_said_when_it_is_called(predictor, more, text):
    with pytest.raises(UserError, match=text):
        predictor([flat(1)], **more)


# ---------------------------------------------------------------------------- the network in torch

SMALL = ["MODEL.NUM_CLASSES", "3", "MODEL.NECK.OUT_CHANNELS", "64", "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", "32"]
SMALL += ["MODEL.BACKBONE.NAME", "resnet10", "MODEL.NECK.NAME", "fpn", "MODEL.RPN.POST_NMS_TOP_N_TEST", "50"]
SMALL += ["MODEL.FCOS.PRIOR_PROB", "0.3", "INPUT.MIN_SIZE_TEST", "64", "INPUT.MAX_SIZE_TEST", "96", "MODEL.WEIGHT", ""]
SMALL += ["MODEL.DEVICE", "cpu"]


def small(head, precision="off"):
    cfg = resolve_parts(load_config(None, ["MODEL.HEAD.NAME", head, *SMALL]))
    model = prepare_for_inference(build_detector(cfg), precision)
    step = cfg.DATALOADER.SIZE_DIVISIBILITY
    return Predictor(TorchNetwork(model, list("abc"), [1, 2, 3], [build_transforms(cfg, False)], step, precision))


def photos(number, seed=0):
    rng = np.random.default_rng(seed)
    sizes = [(60, 90), (90, 60), (50, 64), (120, 180)]
    return [rng.integers(0, 256, (*sizes[i % 4], 3), dtype=np.uint8) for i in range(number)]


def bits(results):
    return [[one.boxes.tobytes(), one.labels.tobytes(), one.scores.tobytes()] for one in results]


@pytest.mark.parametrize("head", HEADS)
def test_threads_on_one_predictor_find_what_one_finds(head):
    predictor = small(head)
    sets = [photos(3, seed) for seed in range(2)]
    results = [list(predictor(one, 0.0, batch=2)) for one in sets]
    assert sum(map(len, results[0])) > 20
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda one: bits(predictor(one, 0.0, batch=2)), sets))
    assert found == [bits(one) for one in results]


def test_a_picture_gives_the_same_whatever_stands_beside_it(monkeypatch):
    """Pictures are only padded for their own sake; those of one padded size share a batch."""
    predictor = small("fcos")
    shapes = []
    detect = detecting.detect
    monkeypatch.setattr(
        detecting, "detect", lambda *given: (shapes.append(tuple(given[1].images.shape)), detect(*given))[1]
    )
    pictures = photos(6)
    alone = [next(predictor([one], 0.0, batch=1)) for one in pictures]
    assert len(shapes) == 6
    shapes.clear()
    together = list(predictor(pictures, 0.0, batch=6))
    assert shapes == [(4, 3, 64, 96), (2, 3, 96, 64)]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
        np.testing.assert_array_equal(one.labels, other.labels)


def test_boxes_are_in_pixels_of_the_original(monkeypatch):
    predictor = small("fcos")
    (picture,) = photos(1)
    big = picture.repeat(4, 0).repeat(4, 1)
    monkeypatch.setattr(predictor.network, "prepare", lambda pixels: (picture,))
    (one,), (other,) = predictor(picture, 0.0), predictor(big, 0.0)
    assert (one.height, other.height) == (60, 240)
    np.testing.assert_allclose(other.boxes, 4 * one.boxes, rtol=1e-5)


def test_inference_leaves_the_model_as_it_was():
    predictor = small("fcos", "bf16")
    before = {key: value.clone() for key, value in predictor.network.model.state_dict().items()}
    (result,) = predictor(photos(1)[0], 0.0)
    assert result.scores.dtype == np.float32
    after = predictor.network.model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize("batch", [1, 2, 8])
@pytest.mark.parametrize("before", [0, 1, 5, 20])
def test_what_was_due_before_the_iterable_raises_comes_first(predictor, before, batch):
    def given():
        yield from (flat(10 + i) for i in range(before))
        raise RuntimeError("the disk is gone")

    stream = predictor(given(), 0.0, batch=batch, broken="skip")
    assert greys(next(stream) for _ in range(before)) == [10 + i for i in range(before)]
    with pytest.raises(RuntimeError, match="the disk is gone"):
        next(stream)
    assert not waiting_threads()


def test_what_was_due_before_a_bug_comes_first(predictor):
    def bug():
        raise RuntimeError("a bug")

    pictures = [*(Picture(str(i), lambda: flat(7), i) for i in range(3)), Picture("x", bug, 3)]
    stream = predictor.look(Input("x", "memory", pictures), [0.0, 0.0], 8)
    assert [len(next(stream).result) for _ in range(3)] == [1, 1, 1]
    with pytest.raises(RuntimeError, match="a bug"):
        next(stream)


@pytest.mark.parametrize("threshold", [None, [0.5], [0.5, 0.5], np.full(2, 0.5), np.full(3, 0.5), b"auto", True, {}])
def test_a_threshold_that_is_no_number_is_refused(predictor, threshold):
    with pytest.raises(UserError, match=r"^threshold .*: write one number for all classes, in 0\.\.1, or auto$"):
        predictor(flat(1), threshold)


def test_numbers_of_numpy_are_numbers(predictor):
    for threshold in (np.float32(0.5), np.float64(0.5), np.array(0.5)):
        assert [len(one) for one in predictor([flat(100), flat(200)], threshold, batch=np.int64(2))] == [0, 1]
    with pytest.raises(UserError, match="threshold nan: scores lie in"):
        predictor(flat(1), float("nan"))
