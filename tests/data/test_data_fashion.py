import gzip
import hashlib
import lzma
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from tutelage.core.errors import DataError
from tutelage.data import fashion as full
from tutelage.data import fashion_mnist, fashion_mnist_small
from tutelage.data import fashion_small as small
from tutelage.data.embedded import make
from tutelage.data.fashion_small import FILE, SHA256, embedded, pack
from tutelage.data.idx import parse


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def served():
    """Serve a folder on this machine; gives its address."""
    servers = []

    def serve(folder):
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No Debian package, an empty cache, and an address that nobody answers."""
    monkeypatch.setattr(full, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(full, "ADDRESS", "http://127.0.0.1:9")
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_the_embedded_file_is_whole_and_small():
    packed = FILE.read_bytes()
    assert sum(f.stat().st_size for f in FILE.parent.iterdir() if f.is_file()) < 6_000_000
    assert hashlib.sha256(lzma.decompress(packed)).hexdigest() == SHA256
    origin = (FILE.parent / "ORIGIN.md").read_text()
    assert SHA256 in origin
    assert hashlib.sha256(packed).hexdigest() in origin
    assert "Zalando SE" in (FILE.parent / "LICENSE").read_text()


def test_the_embedded_set_has_equally_many_of_each_class():
    train, test = embedded()
    assert torch.bincount(train.targets).tolist() == [1000] * 10
    assert torch.bincount(test.targets).tolist() == [200] * 10
    assert train.example_shape == test.example_shape == (1, 28, 28)
    assert train.ids.max() < 60_000 <= test.ids.min()
    assert test.ids.max() < 70_000
    assert train.classes[9] == "Ankle boot"


def test_the_embedded_set_splits_by_class_and_seed():
    splits = fashion_mnist_small(validation=2000, seed=0)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (8000, 2000, 2000)
    assert torch.bincount(splits.validation.targets).tolist() == [200] * 10
    other = fashion_mnist_small(seed=1)
    assert not torch.equal(splits.validation.ids, other.validation.ids)
    assert splits.test.fingerprint() == other.test.fingerprint()
    assert splits.origin["sha256"] == SHA256


def test_a_damaged_embedded_file_is_said(tmp_path, monkeypatch):
    for content, message in ((b"not xz", "cannot be read"), (lzma.compress(b"x"), "is damaged")):
        broken = tmp_path / "broken.xz"
        broken.write_bytes(content)
        monkeypatch.setattr(small, "FILE", broken)
        with pytest.raises(DataError, match=f"{message}.*install tutelage again"):
            fashion_mnist_small()


def test_no_network_is_one_clear_line(nowhere):
    with pytest.raises(DataError, match=r"cannot be fetched from .*fashion_mnist_small") as caught:
        fashion_mnist()
    assert "\n" not in str(caught.value)
    assert not list((nowhere / "cache" / "fashion-mnist").iterdir())


def test_download_off_says_where_it_looked(nowhere):
    with pytest.raises(DataError, match="download is off: give folder"):
        fashion_mnist(download=False)
    assert not (nowhere / "cache").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", "cannot read"),
        (gzip.compress(b"other", mtime=0), "is not Fashion-MNIST's: SHA-256"),
    ],
)
def test_a_wrong_download_leaves_nothing_behind(nowhere, served, monkeypatch, content, message):
    (nowhere / "web").mkdir()
    (nowhere / "web" / "train-images-idx3-ubyte.gz").write_bytes(content)
    monkeypatch.setattr(full, "ADDRESS", served(nowhere / "web"))
    with pytest.raises(DataError, match=message):
        fashion_mnist()
    assert not list((nowhere / "cache" / "fashion-mnist").iterdir())


def test_a_folder_without_the_files_names_the_missing_one(tmp_path):
    with pytest.raises(DataError, match="has no train-images-idx3-ubyte or train-images-idx3"):
        fashion_mnist(str(tmp_path))


def test_a_folder_of_other_data_is_refused(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 1, 7]))
    with pytest.raises(DataError, match="is not Fashion-MNIST's"):
        fashion_mnist(str(tmp_path))


def test_a_missing_folder_suggests_the_nearest(tmp_path):
    (tmp_path / "fashion").mkdir()
    with pytest.raises(DataError, match=r"no 'fashon' in .* Did you mean 'fashion'"):
        fashion_mnist(str(tmp_path / "fashon" / "raw"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no idx file"),
        (b"\x00\x00\x0d\x01", "is no idx file"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x09ab", "2 bytes, and its header says 9"),
    ],
)
def test_broken_idx_is_refused(content, message):
    with pytest.raises(DataError, match=message):
        parse(content, "labels")


@pytest.mark.data
class TestFull:
    """With all of Fashion-MNIST: apt-get install dataset-fashion-mnist."""

    @pytest.fixture(autouse=True)
    def _there(self):
        if not full.DEBIAN.is_dir():
            pytest.skip(f"no Fashion-MNIST in {full.DEBIAN}: install dataset-fashion-mnist")

    def test_the_full_set_has_the_official_counts(self):
        splits = fashion_mnist(validation=5000)
        assert (len(splits.train), len(splits.validation)) == (55_000, 5000)
        assert torch.bincount(splits.validation.targets).tolist() == [500] * 10
        assert torch.bincount(splits.test.open("counting").targets).tolist() == [1000] * 10

    def test_the_embedded_set_is_part_of_the_full_one(self):
        files = full.official(full.DEBIAN)
        train, test = embedded()
        assert torch.equal(train.inputs, files.train_images[train.ids])
        assert torch.equal(train.targets, files.train_labels[train.ids].long())
        assert torch.equal(test.inputs, files.test_images[test.ids - 60_000])
        assert torch.equal(test.targets, files.test_labels[test.ids - 60_000].long())

    def test_the_script_makes_the_embedded_content_again(self):
        files = full.official(full.DEBIAN)
        content = pack(files, make.choose(files))
        assert hashlib.sha256(content).hexdigest() == SHA256
        if make.compress(content) != FILE.read_bytes():
            pytest.skip("content is equal; this liblzma compresses it to other bytes")

    def test_a_download_fills_the_cache_once(self, nowhere, served, monkeypatch):
        monkeypatch.setattr(full, "ADDRESS", served(Path("/usr/share/datasets/fashion-mnist")))
        first = fashion_mnist()
        monkeypatch.setattr(full, "ADDRESS", "http://127.0.0.1:9")
        second = fashion_mnist()
        assert first.train.fingerprint() == second.train.fingerprint()
        assert len(list((nowhere / "cache" / "fashion-mnist").iterdir())) == 4

    def test_plain_files_are_read_as_gzipped_ones(self, tmp_path):
        for name in full.SHA256:
            with gzip.open(full.DEBIAN / f"{name}.gz") as packed:
                (tmp_path / name).write_bytes(packed.read())
        plain, packed_ = fashion_mnist(str(tmp_path)), fashion_mnist()
        assert plain.train.fingerprint() == packed_.train.fingerprint()
        shutil.rmtree(tmp_path)
