"""Package metadata. Nothing is compiled, and torch is not imported here."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="detector",
    version="0.1.0",
    description="Object detection with residual-variant backbones under three heads: one YAML file, one modest GPU",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["detector", "detector.*"]),
    package_data={"detector": ["py.typed"]},
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "numpy>=1.24",
        "yacs>=0.1.8",
        "pyyaml>=6",
        "pycocotools>=2.0.7",
        "faster-coco-eval>=1.6.5",
        "msgspec>=0.18",
        "opencv-python>=4.8",
        "pillow>=10",
        "tqdm>=4.65",
    ],
    extras_require={
        "test": ["pytest>=8", "pytest-xdist>=3.5", "safetensors>=0.4", "matplotlib>=3.8", "ruff>=0.9", "mypy>=1.13"],
        "plots": ["matplotlib>=3.8"],
        "timm": ["timm>=1.0"],
        "safetensors": ["safetensors>=0.4"],
    },
)
