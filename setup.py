"""Package metadata. Nothing is compiled, and torch is not imported here."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "detector/version.py").read_text(encoding="utf-8"), re.M)[1]

setup(
    name="residet",  # "detector" is somebody else's on the package index; what is imported and called is `detector`
    version=VERSION,
    description="Object detection with residual-variant backbones under three heads: one YAML file, one modest GPU",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=[*find_packages(include=["detector", "detector.*"]), "detector.configs"],
    package_dir={"detector.configs": "configs"},
    package_data={
        "detector": ["py.typed"],
        "detector.report": ["page.css", "page.js"],
        "detector.configs": ["**/*.yaml"],
    },
    entry_points={"console_scripts": ["detector = detector.__main__:main"]},
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.10",
        "torchvision>=0.25",
        "numpy>=1.24",
        "yacs>=0.1.8",
        "pyyaml>=6",
        "pycocotools>=2.0.7",
        "msgspec>=0.18",
        "opencv-python>=4.8",
        "pillow>=10",
        "tqdm>=4.65",
    ],
    extras_require={
        "test": [
            *("pytest>=8", "pytest-xdist>=3.5", "ruff>=0.9", "mypy>=1.13", "setuptools>=70.1"),
            *("safetensors>=0.4", "matplotlib>=3.8", "tensorboard>=2.14"),
        ],
        "plots": ["matplotlib>=3.8"],
        "log": ["tensorboard>=2.14"],
        "timm": ["timm>=1.0"],
        "safetensors": ["safetensors>=0.4"],
        "export": ["onnx>=1.18", "onnxscript>=0.5", "onnxruntime>=1.20", "openvino>=2025.0"],
        "int8": ["nncf>=2.18"],  # beside [export]; it brings scikit-learn and more, and only OpenVINO's int8 needs it
        "peers": ["ultralytics>=8.3"],  # AGPL: only a test asks it to read what we write
    },
)
