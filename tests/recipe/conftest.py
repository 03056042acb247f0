from functools import partial

import pytest
from recipe_samples import save_archive

from tutelage.evaluation.costs import latency
from tutelage.evaluation.faces import html
from tutelage.recipe import reporting


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """No test sees another's kept teachers, nor the user's."""
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _quick_reports(monkeypatch):
    """Plots and latency are most of a small run's time, and tested where they are made."""
    few = latency.Effort(warmup=1, calls=10)
    monkeypatch.setattr(html, "page", lambda figures: "<!doctype html>")
    monkeypatch.setattr(reporting, "torch_latency", partial(latency.torch_latency, effort=few))


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """600 real images of Fashion-MNIST in a file of their own."""
    path = tmp_path_factory.mktemp("data") / "images.npz"
    save_archive(path)
    return path
