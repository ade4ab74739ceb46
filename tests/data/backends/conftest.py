"""What the tests with Blender share: a place of their own, and its end."""

import pytest

from ln3d.data.backends import blender, blender_process


@pytest.fixture
def fresh_blender(tmp_path, monkeypatch):
    """Begin and end without a process, in a temporary folder of one's own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv(blender_process.EXECUTABLE, raising=False)
    monkeypatch.delenv(blender.DEVICE, raising=False)
    yield
    blender.stop()
