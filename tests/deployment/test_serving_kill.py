"""A server that dies while it swaps: it writes nothing that others need, and the next one serves."""

import shutil
import signal
import time

import pytest
from test_serving_base import Server

from registry_samples import home, packages
from tutelage.deployment.registry import Registry
from tutelage.deployment.serving.model import ServedModel


@pytest.mark.parametrize("wait", [0.0, 1.05])  # before it looks, and while it loads
def test_a_server_killed_in_a_swap_leaves_registry_and_packages_whole(tmp_path, wait):
    place = home(tmp_path / "home")
    with Registry(place) as registry:
        one, two = (registry.add("digits", package) for package in packages()[:2])
        registry.promote("digits", 1, why="a test")
        server = Server(tmp_path, "digits", "--registry", place)
        assert server.client.get("/v1/model").json()["version"] == one.digest[:12]
        registry.promote("digits", 2, why="a test")
        time.sleep(wait)
        server.process.send_signal(signal.SIGKILL)
        assert server.stop()[0] == -signal.SIGKILL
        assert registry.resolve("digits").digest == two.digest
        for version in registry.versions("digits"):
            assert ServedModel.load(version.folder).digest == version.digest
        assert registry.rollback("digits").digest == one.digest
    again = Server(tmp_path, "digits", "--registry", place)
    assert again.client.get("/v1/model").json()["version"] == one.digest[:12]
    assert again.stop()[0] == 0
    shutil.rmtree(place)
