"""Files of folders that go onto Python's path hide no module of its own."""

import sys

from helpers import ROOT


def test_no_file_is_called_as_a_module_of_python():
    """Such a one, named in PYTHONPATH, ends every Python that is started: site is imported at its start."""
    files = [path for folder in ("tools", "tests/helpers") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 20
    assert not [path for path in files if path.stem in sys.stdlib_module_names]
