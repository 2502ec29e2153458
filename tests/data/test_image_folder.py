import os

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision import transforms as v1

from detector.data.image_folder import (
    UNLABELLED,
    ImageFolder,
    check_same_folders,
    default_resize,
    eval_loader,
    eval_transform,
    open_train_and_val,
    read_picture,
    train_loader,
    train_transform,
)
from detector.data.samplers import Draw
from detector.models.backbones import RGB_UNIT
from detector.tasks.accuracy import PixelInput


def picture(path, height=50, width=70, mode="RGB", seed=0):
    """Writes a picture of noise at two scales."""
    rng = np.random.default_rng([seed, height, width])
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    noisy = np.asarray(coarse).astype(int) + rng.integers(-30, 30, (height, width, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path):
    """Three classes of 4, 1 and 3 pictures, some in inner folders, beside files that are none."""
    root = tmp_path / "pictures"
    for i, name in enumerate(("cat/b.png", "cat/a.JPEG", "cat/inner/c.bmp", "cat/inner/deep/a.png")):
        picture(root / name, seed=i)
    picture(root / "Dog" / "x.jpg", 64, 40)
    for i in range(3):
        picture(root / "ant" / f"{i}.webp", seed=10 + i)
    (root / "cat" / "notes.txt").write_text("no picture")
    (root / "labels.csv").write_text("no folder")
    return root


def test_files_and_labels_are_those_of_torchvision(folder):
    ours, theirs = ImageFolder(folder, train_transform(32)), torchvision.datasets.ImageFolder(str(folder))
    assert ours.classes == theirs.classes == ["Dog", "ant", "cat"]
    assert [(str(ours.path(i)), int(ours.labels[i])) for i in range(len(ours))] == theirs.samples
    assert len(ours) == 8


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("crop", "resize"), [(224, 256), (64, 73), (64, 64)])
def test_evaluation_sees_the_pixels_of_torchvisions_pipeline(tmp_path, interpolation, crop, resize):
    cases = [(375, 500, "RGB"), (500, 333, "RGB"), (90, 64, "RGB"), (40, 41, "L"), (80, 300, "CMYK"), (70, 70, "P")]
    names = []
    for i, (height, width, mode) in enumerate(cases):
        names.append(f"{i}.{'jpg' if mode in ('L', 'CMYK') else 'png'}")
        picture(tmp_path / "one" / names[-1], height, width, mode)
    reference = v1.Compose(
        [
            v1.Resize(resize, interpolation=v1.InterpolationMode(interpolation)),
            v1.CenterCrop(crop),
            v1.ToTensor(),
            v1.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    theirs = torchvision.datasets.ImageFolder(str(tmp_path), reference)
    ours = ImageFolder(tmp_path, eval_transform(crop, resize, interpolation))
    (batch,) = eval_loader(ours, len(cases), 0, False)
    got = PixelInput(RGB_UNIT, torch.device("cpu"))(batch.images)
    assert got.shape == (len(cases), 3, crop, crop)
    for i, image in enumerate(got):
        torch.testing.assert_close(image, theirs[i][0], rtol=0, atol=2e-6)


def test_default_resize_is_in_proportion():
    assert [default_resize(crop) for crop in (224, 256, 320, 416)] == [256, 293, 366, 475]


def test_a_picture_is_not_turned_by_its_exif_tag(tmp_path):
    image, exif = Image.new("RGB", (30, 20)), Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg").size == (30, 20)


def test_a_draw_alone_decides_the_augmentation(folder):
    dataset = ImageFolder(folder, train_transform(32), seed=3)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, label = dataset[Draw(2, 7, 1)]
    assert torch.equal(torch.get_rng_state(), state)  # nothing was drawn from the global state
    torch.manual_seed(99)
    again, _ = dataset[Draw(2, 7, 1)]
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8
    assert label == dataset.labels[2]
    assert np.array_equal(first, again)
    others = [dataset[Draw(2, 8, 1)][0], dataset[Draw(2, 7, 0)][0]]
    others.append(ImageFolder(folder, train_transform(32), seed=4)[Draw(2, 7, 1)][0])
    assert not any(np.array_equal(first, other) for other in others)


def test_training_mirrors_half_of_the_pictures_and_crops_8_to_100_per_cent(tmp_path):
    ramp = np.broadcast_to(np.arange(0, 250, dtype=np.uint8)[None, :, None], (250, 250, 3))
    (tmp_path / "one").mkdir()
    Image.fromarray(np.ascontiguousarray(ramp)).save(tmp_path / "one" / "a.png")
    dataset = ImageFolder(tmp_path, train_transform(32))
    rows = np.stack([dataset[Draw(0, step, 0)][0][16, :, 0].astype(int) for step in range(300)])
    mirrored = rows[:, 0] > rows[:, -1]
    assert 0.4 < mirrored.mean() < 0.6
    # A part of area a and aspect r is sqrt(a * r) wide, with a from 0.08 to 1 and r from 3/4 to 4/3.
    width = abs(rows[:, -1] - rows[:, 0]) / 250 * 32 / 31
    assert np.sqrt(0.08 * 3 / 4) * 0.9 < width.min() < 0.36
    assert 0.9 < width.max() < 1.02


@pytest.mark.parametrize("workers", [0, 2])
def test_training_batches_are_full_and_the_same_from_any_step_on(folder, workers):
    dataset = ImageFolder(folder, train_transform(32), seed=5)
    whole = list(train_loader(dataset, 3, 0, 0, 7, False))
    assert [tuple(batch.images.shape) for batch in whole] == [(3, 3, 32, 32)] * 7
    assert whole[0].images.is_contiguous(memory_format=torch.channels_last)
    epoch = torch.cat([batch.labels for batch in whole[:3]]).tolist()
    assert all(epoch.count(label) >= count for label, count in ((0, 1), (1, 3), (2, 4)))
    state = torch.get_rng_state()
    tail = list(train_loader(dataset, 3, workers, 4, 7, False))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(tail) == 3
    for got, want in zip(tail, whole[4:]):
        assert torch.equal(got.images, want.images)
        assert torch.equal(got.labels, want.labels)


def test_evaluation_sees_every_picture_once_in_order(folder):
    dataset = ImageFolder(folder, eval_transform(32, 32))
    batches = list(eval_loader(dataset, 3, 0, False))
    assert [len(batch.labels) for batch in batches] == [3, 3, 2]
    assert torch.cat([batch.labels for batch in batches]).tolist() == [0, 1, 1, 1, 2, 2, 2, 2]


def broken(path):
    path.write_bytes(b"this is no picture")


def empty(path):
    path.write_bytes(b"")


def cut_short(path):
    picture(path, 200, 200)
    path.write_bytes(path.read_bytes()[:1500])


@pytest.mark.parametrize(("damage", "workers"), [(broken, 0), (empty, 0), (cut_short, 0), (broken, 1)])
def test_a_damaged_picture_is_named_in_one_line(folder, damage, workers):
    damage(folder / "cat" / "a.JPEG")
    with pytest.raises(ValueError, match=r"cat.a\.JPEG: .*fetch it again or delete it") as caught:
        list(train_loader(ImageFolder(folder, train_transform(32)), 4, workers, 0, 2, False))
    text = str(caught.value)
    del caught  # its traceback holds this frame; collected later as a cycle, the loader waits 5 s for its workers
    assert "\n" not in text


def test_a_picture_that_vanished_is_named(folder):
    dataset = ImageFolder(folder, eval_transform(32, 32))
    os.unlink(folder / "Dog" / "x.jpg")
    with pytest.raises(ValueError, match=r"Dog.x\.jpg: .*No such file"):
        list(eval_loader(dataset, 4, 0, False))


def test_folders_that_are_no_data_are_named(folder, tmp_path):
    transform = eval_transform(32, 32)
    with pytest.raises(FileNotFoundError, match=r"nowhere: there is no such folder"):
        ImageFolder(tmp_path / "nowhere", transform)
    with pytest.raises(ValueError, match=r"Dog holds no class folders; sort its pictures into one folder per class"):
        ImageFolder(folder / "Dog", transform)
    (tmp_path / "root").mkdir()
    os.rename(folder, tmp_path / "root" / "val")
    with pytest.raises(ValueError, match=r"root holds no class folders but .*val, which does; name .*root.val$"):
        ImageFolder(tmp_path / "root", transform)
    (tmp_path / "root" / "val" / "zebra").mkdir()
    with pytest.raises(ValueError, match=r"val.zebra: this class folder holds no picture \(\.jpg"):
        ImageFolder(tmp_path / "root" / "val", transform)


def test_train_and_val_must_have_the_same_classes(folder, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    os.rename(folder, root / "train")
    with pytest.raises(FileNotFoundError, match=r"data.val: there is no such folder; --data must hold train/ and val/"):
        open_train_and_val(root, 32, 0)
    picture(root / "val" / "cat" / "a.png")
    with pytest.raises(ValueError, match=r"train has 3 class folders, .*val has 1: .*val has no folder 'Dog'"):
        open_train_and_val(root, 32, 0)
    picture(root / "val" / "Dog" / "a.png")
    picture(root / "val" / "ape" / "a.png")
    with pytest.raises(ValueError, match=r"train has no folder 'ape'; .*val has no folder 'ant'\. Both need the same"):
        open_train_and_val(root, 32, 0)
    os.rename(root / "val" / "ape", root / "val" / "ant")
    train, val = open_train_and_val(root, 32, 0)
    check_same_folders(train, val)
    assert (len(train), len(val)) == (8, 3)


def test_a_single_class_and_a_dataset_below_one_batch_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"holds 8 pictures, fewer than one batch: write --batch-size 8 or less"):
        train_loader(ImageFolder(folder, train_transform(32)), 9, 0, 0, 1, False)
    for part in ("train", "val"):
        picture(tmp_path / "single" / part / "cat" / "a.png")
    with pytest.raises(ValueError, match=r"train has a single class folder"):
        open_train_and_val(tmp_path / "single", 32, 0)


@pytest.mark.parametrize(("crop", "resize", "match"), [(31, 64, "--crop is 31"), (64, 63, "--resize is 63.*resize 73")])
def test_sizes_that_cannot_be_are_refused(crop, resize, match):
    with pytest.raises(ValueError, match=match):
        eval_transform(crop, resize)


def test_pictures_longer_than_any_are_refused(tmp_path):
    Image.new("RGB", (2020, 20)).save(tmp_path / "line.png")
    with pytest.raises(ValueError, match=r"line\.png: 2020 x 20 pixels, longer than 100:1"):
        read_picture(tmp_path / "line.png")
    Image.new("RGB", (20, 2000)).save(tmp_path / "pole.png")
    assert read_picture(tmp_path / "pole.png").size == (20, 2000)


def test_folders_without_classes_join_in_any_depth(folder, tmp_path, caplog):
    """Two of them, of which one holds links to itself and to another folder, hidden files, and files of other kinds."""
    for i, name in enumerate(("a/deep/er/1.png", "0.jpg", "b/2.PNG")):
        picture(tmp_path / "more" / name, 40 + i, 50, seed=20 + i)
    picture(tmp_path / "last" / "x.png", seed=30)
    (tmp_path / "more" / "._0.jpg").write_text("of another file system")
    (tmp_path / "more" / "notes.txt").write_text("no picture")
    os.symlink(tmp_path / "more", tmp_path / "more" / "b" / "again")
    joined = ImageFolder(folder, eval_transform(32, 36), 0, [tmp_path / "more", str(tmp_path / "last")])
    alone = ImageFolder(folder, eval_transform(32, 36))
    assert (len(joined), joined.num_labelled, joined.classes) == (12, 8, alone.classes)
    assert joined.labels.tolist() == [*alone.labels.tolist(), *[UNLABELLED] * 4]
    assert [joined.path(i) for i in range(8)] == [alone.path(i) for i in range(8)]
    more = [tmp_path / "more" / name for name in ("0.jpg", "a/deep/er/1.png", "b/2.PNG")]
    assert [joined.path(i) for i in range(8, 12)] == [*more, tmp_path / "last" / "x.png"]
    pixels, label = joined[9]
    assert label == UNLABELLED
    assert np.array_equal(pixels, np.asarray(eval_transform(32, 36)(read_picture(more[1]))))


def test_unlabelled_folders_have_to_hold_pictures_and_better_not_those_of_val(folder, tmp_path, caplog):
    with pytest.raises(FileNotFoundError, match=r"--unlabelled .*nowhere: there is no such folder"):
        ImageFolder(folder, eval_transform(32, 36), 0, [tmp_path / "nowhere"])
    (tmp_path / "bare" / "inner").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"--unlabelled .*bare: this folder holds no picture"):
        ImageFolder(folder, eval_transform(32, 36), 0, [tmp_path / "bare"])
    for part in ("train", "val"):
        os.symlink(folder, tmp_path / "bare" / part)
    open_train_and_val(tmp_path / "bare", 32, 0, [folder / "cat" / "inner"])  # a part of both
    assert caplog.text.count("shares pictures with") == 1
    caplog.clear()
    picture(tmp_path / "apart" / "1.png")
    train_set, val_set = open_train_and_val(tmp_path / "bare", 32, 0, [tmp_path / "apart"])
    assert (len(train_set), len(val_set)) == (9, 8)
    assert not caplog.text


def test_pictures_that_are_reached_by_links_are_told(folder, tmp_path, caplog):
    """A folder's link to one of val/, a file's link to one of train/, a link to no more than a neighbour of it."""
    for part in ("train", "val"):
        for name in ("a", "b"):
            picture(tmp_path / "data" / part / name / "1.png")
    (tmp_path / "data" / "val" / "b" / "2.png").symlink_to(folder / "cat" / "a.JPEG")
    for name, place in (("dir", "data/val/a"), ("file.png", "data/train/b/1.png"), ("two.png", "pictures/cat/a.JPEG")):
        picture(tmp_path / name / "own" / "x.png")
        os.symlink(tmp_path / place, tmp_path / name / ("v" if name == "dir" else name))
    picture(tmp_path / "apart" / "x.png")
    os.symlink(folder / "cat" / "b.png", tmp_path / "apart" / "y.png")
    (tmp_path / "apart" / "z.png").symlink_to(tmp_path / "data" / "val" / "a" / "gone.txt")

    def told(*names):
        caplog.clear()
        open_train_and_val(tmp_path / "data", 32, 0, [tmp_path / name for name in names])
        said = [" ".join(record.getMessage().replace(f"{tmp_path}/", "").split()[:6]) for record in caplog.records]
        return [line.removeprefix("--unlabelled ") for line in said]

    assert told("dir") == ["dir shares pictures with data/val,"]
    assert told("file.png") == ["file.png holds pictures of data/train,"]
    assert told("two.png", "pictures") == [
        "two.png shares pictures with data/val,",
        "pictures shares pictures with data/val,",
        "pictures holds pictures of two.png,",
    ]
    assert told("data/train/a", "data/train/a") == [
        "data/train/a holds pictures of data/train,",
        "data/train/a holds pictures of data/train,",
        "data/train/a holds pictures of data/train/a,",
    ]


def test_links_to_neighbours_are_no_common_pictures(folder, tmp_path, caplog):
    """As where every data set is a folder of links into one place."""
    for i, part in enumerate(("train", "val", "more")):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            os.symlink(folder / "ant" / f"{i}.webp", tmp_path / part / name / "1.webp")
    open_train_and_val(tmp_path, 32, 0, [tmp_path / "more", folder / "cat"])
    assert not caplog.text
    open_train_and_val(tmp_path, 32, 0, [folder])
    assert [record.getMessage().split()[2] for record in caplog.records] == ["shares", "holds"]


def test_the_digest_is_of_names_and_labels_wherever_they_lie(folder, tmp_path):
    for name in ("one/1.png", "two/2.png"):
        picture(tmp_path / name)

    def digest(root, *more):
        return ImageFolder(root, eval_transform(32, 36), 0, [tmp_path / name for name in more]).digest()

    found = [digest(folder), digest(folder, "one"), digest(folder, "one", "two"), digest(folder, "two", "one")]
    assert len({*found}) == 4
    os.rename(folder, tmp_path / "moved")
    os.rename(tmp_path / "two", tmp_path / "twice")
    assert digest(tmp_path / "moved", "one", "twice") == found[2]
    os.rename(tmp_path / "twice" / "2.png", tmp_path / "twice" / "3.png")
    assert digest(tmp_path / "moved", "one", "twice") != found[2]
    os.rename(tmp_path / "moved" / "ant" / "0.webp", tmp_path / "moved" / "cat" / "0.webp")
    assert digest(tmp_path / "moved") != found[0]
