"""Folders in VOC's layout that tests fill."""

import cv2
import numpy as np
from PIL import Image


def thing(name, box, difficult=None, more=""):
    edges = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box))
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return f"<object><name>{name}</name>{flag}<bndbox>{edges}</bndbox>{more}</object>"


def turn(path):
    """Write the tag into a JPEG that has viewers show it turned."""
    image = Image.open(path)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)


class VocFolder:
    """A folder in VOC's layout that tests fill."""

    def __init__(self, folder, pictures="JPEGImages", annotations="Annotations"):
        self.folder, self.pictures, self.annotations = folder, folder / pictures, folder / annotations
        self.pictures.mkdir(parents=True)
        self.annotations.mkdir()

    def add(self, stem, objects=(), size=(40, 60), suffix=".png", filename=None, written_size=None):
        h, w = size
        if suffix:
            assert cv2.imwrite(str(self.pictures / f"{stem}{suffix}"), np.full((h, w, 3), 90, np.uint8))
        h, w = written_size or size
        sides = f"<size><width>{w}</width><height>{h}</height><depth>3</depth></size>"
        name = f"<filename>{filename or stem + (suffix or '')}</filename>"
        text = f"<annotation><folder>x</folder>{name}{sides}{''.join(objects)}</annotation>"
        (self.annotations / f"{stem}.xml").write_text(text, encoding="utf-8")

    def split(self, name, *stems):
        lists = self.folder / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{name}.txt").write_text("".join(f"{stem}\n" for stem in stems))


def picture(path, size=(40, 60)):
    """Write a grey picture."""
    assert cv2.imwrite(str(path), np.full((*size, 3), 90, np.uint8))


def write_xml(path, *names, size=(40, 60)):
    """Write an annotation file with an object of each class, "x" without names."""
    objects = "".join(thing(name, (2, 3, 20, 30)) for name in names or ("x",))
    sides = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>"
    path.write_text(f"<annotation>{sides}{objects}</annotation>", encoding="utf-8")
