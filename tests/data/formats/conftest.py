"""Small folders in VOC's layout."""

import pytest
from helpers.voc import VocFolder


@pytest.fixture
def voc(tmp_path):
    """A folder in VOC's layout, to be filled."""
    return VocFolder(tmp_path / "cells")
