"""By which suffixes files are taken for pictures."""

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .jp2 .png .bmp .dib .webp .tif .tiff .pbm .pgm .ppm .pnm".split()
)  # fmt: skip
"""Of picture files that every supported OpenCV reads, in lower case. Later ones read .gif and .avif too."""
