"""What a prediction writes, and where: formats that fit a source, names of files, what must not be replaced."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detector.errors import UserError
from detector.inference import drawn
from detector.inference.formats import FORMATS
from detector.inference.sources import Input, Picture

if TYPE_CHECKING:
    from detector.data.convert import Form


def fitting(opened: Input, formats: Sequence[str]) -> list[str]:
    """The formats that are written. Raises ValueError for those that do not fit the source."""
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UserError(f"--format {unknown[0]}: write some of {', '.join(FORMATS)}")
    if not formats:
        return ["video", "json"] if opened.moving else ["pictures", "json"]
    if opened.moving and (files := [name for name in formats if name in ("yolo", "voc")]):
        raise UserError(
            f"--format {files[0]}: the frames of {opened.name} are no files, which a data set needs; write --format "
            "video, pictures, json, csv or coco"
        )
    if not opened.moving and "video" in formats:
        raise UserError(f"--format video: {opened.name} is no video and no camera; write --format pictures")
    return list(dict.fromkeys(formats))


def targets(
    output: Path, opened: Input, formats: Sequence[str], names: dict[int | str, Path]
) -> Iterable[tuple[Path, Callable[[Path], bool]]]:
    """What is to be written, with what tells whether a file there is ours."""
    from detector.inference import listings

    if "json" in formats:
        yield output / listings.LISTING, listings.is_listing
    if "csv" in formats:
        yield output / listings.TABLE, listings.is_table
    if "coco" in formats:
        yield output / listings.COCO, listings.is_coco
        if opened.kind == "data":
            yield output / listings.RESULTS, listings.is_results
    if "video" in formats:
        yield output / film(opened), drawn.was_filmed
    for name in names.values():
        yield output / name, drawn.was_drawn


def files_read(opened: Input, pictures: list[Picture]) -> list[Path]:
    """What is read, and so must not be written."""
    if opened.kind == "video":
        return [Path(opened.name)]
    return [picture.path for picture in pictures if picture.path]


def film(opened: Input) -> str:
    """The name of the drawn video."""
    return f"{Path(opened.name).stem}{drawn.VIDEO}"


def drawn_names(pictures: list[Picture]) -> dict[int | str, Path]:
    """Where the drawn picture of each file lies below the output's folder, by image id."""
    paths = drawn.name_pictures([picture.path for picture in pictures if picture.path])
    return dict(zip((picture.image_id for picture in pictures), paths, strict=True))


def below(pictures: list[Picture]) -> tuple[Path, dict[int | str, str]]:
    """The folder of all pictures, and the name of each below it, by image id."""
    paths = [Path(os.path.abspath(picture.path)) for picture in pictures if picture.path]
    home = Path(os.path.commonpath([path.parent for path in paths]))
    ids = [picture.image_id for picture in pictures]
    return home, {id_: path.relative_to(home).as_posix() for id_, path in zip(ids, paths, strict=True)}


def data_forms(formats: Sequence[str]) -> "list[Form]":
    """Those of data sets."""
    return [form for form in ("yolo", "voc") if form in formats]
