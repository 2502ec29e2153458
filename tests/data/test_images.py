import io

import cv2
import numpy as np
import pytest

from detector.data.images import read_rgb

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def picture():
    grid = np.random.default_rng(0).integers(30, 226, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(grid, (64, 48), interpolation=cv2.INTER_LINEAR)


def save(path, image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "ünïcödé 图.png", "a.bmp", "a.tif"])
def test_rgb_files_are_exact(tmp_path, picture, name):
    path = save(tmp_path / name, Image.fromarray(picture))
    image = read_rgb(path, (48, 64))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, picture)
    np.testing.assert_array_equal(read_rgb(str(path)), picture)


@pytest.mark.parametrize(
    ("mode", "name"),
    [("L", "a.png"), ("L", "a.jpg"), ("LA", "a.png"), ("RGBA", "a.png"), ("P", "a.png"), ("CMYK", "a.jpg")],
)
def test_other_modes_become_rgb(tmp_path, picture, mode, name):
    source = Image.fromarray(picture).convert(mode)
    if mode == "RGBA":
        source.putalpha(100)
    path = save(tmp_path / name, source, **({"quality": 95} if name.endswith("jpg") else {}))
    image = read_rgb(path, (48, 64))
    assert image.shape == (48, 64, 3)
    expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert np.abs(image - expected).max() <= 3


def test_sixteen_bits_become_eight(tmp_path, picture):
    grey = picture[..., 0]
    path = save(tmp_path / "grey.png", Image.fromarray(grey.astype(np.uint16) * 257))
    np.testing.assert_array_equal(read_rgb(path), np.repeat(grey[..., None], 3, 2))
    path = tmp_path / "colour.png"
    cv2.imwrite(str(path), picture[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_rgb(path), picture)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def test_exif_turns_only_when_the_size_then_agrees(tmp_path, picture):
    path = save(tmp_path / "a.jpg", Image.fromarray(picture), exif=exif(6), quality=95)
    stored, turned = read_rgb(path, (48, 64)), read_rgb(path, (64, 48))
    assert stored.shape == (48, 64, 3)
    np.testing.assert_array_equal(turned, np.rot90(stored, -1))
    np.testing.assert_array_equal(read_rgb(path), turned)
    with pytest.raises(ValueError, match=r"a\.jpg: .* 64 wide and 48 high, .* says 65 wide and 48 high"):
        read_rgb(path, (48, 65))


def test_exif_that_keeps_the_size_is_ignored_beside_annotations(tmp_path, picture):
    path = save(tmp_path / "a.jpg", Image.fromarray(picture), exif=exif(3), quality=95)
    np.testing.assert_array_equal(read_rgb(path), read_rgb(path, (48, 64))[::-1, ::-1])


def test_missing_and_empty_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg: there is no such picture"):
        read_rgb(tmp_path / "nowhere.jpg")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ValueError, match=r"empty\.jpg: the picture file is empty"):
        read_rgb(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("not a picture")
    with pytest.raises(ValueError, match=r"text\.jpg: the picture cannot be decoded"):
        read_rgb(tmp_path / "text.jpg")


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {})])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_files_cut_short_are_refused(tmp_path, picture, kind, options, share):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    path = tmp_path / "cut"
    path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * share)])
    with pytest.raises(ValueError, match=r"cut: the picture file is cut short"):
        read_rgb(path)


def with_preview(picture):
    """A JPEG whose header holds a whole small JPEG, as cameras write."""
    preview, main = io.BytesIO(), io.BytesIO()
    Image.fromarray(picture[::4, ::4].copy()).save(preview, "JPEG")
    Image.fromarray(picture).save(main, "JPEG")
    segment = b"Exif\0\0" + preview.getvalue()
    header = b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment
    return main.getvalue()[:2] + header + main.getvalue()[2:]


def test_the_end_of_an_embedded_preview_is_not_the_end(tmp_path, picture):
    data = with_preview(picture)
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert read_rgb(path).shape == (48, 64, 3)
    path.write_bytes(data[:-40])
    with pytest.raises(ValueError, match="cut short"):
        read_rgb(path)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_that_lacks_only_its_end_marker_is_read(tmp_path, picture, options, missing):
    path = save(tmp_path / "a.jpg", Image.fromarray(picture), **options)
    whole, data = read_rgb(path), path.read_bytes()
    path.write_bytes(data[:-missing])
    np.testing.assert_array_equal(read_rgb(path, (48, 64)), whole)
    path.write_bytes(data[:-8])
    with pytest.raises(ValueError, match="cut short"):
        read_rgb(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_bytes_after_the_end_do_no_harm(tmp_path, picture, kind):
    path = tmp_path / "a"
    Image.fromarray(picture).save(path, kind)
    path.write_bytes(path.read_bytes() + b"trailing" * 100)
    assert read_rgb(path).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "a Git LFS pointer, .* git lfs pull"),
        (b"\n<!DOCTYPE HTML><html><body>Sign in</body></html>", "a web page"),
        (b"<html>", "a web page"),
    ],
)
def test_what_stands_in_the_place_of_a_picture_is_named(tmp_path, data, said):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"a\.jpg: it is {said}"):
        read_rgb(path, (4, 4))
