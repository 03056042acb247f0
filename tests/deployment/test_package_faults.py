"""Kills, full disks and damage: afterwards the old one or the new one is whole."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from textwrap import indent

import numpy as np
import pytest

from package_samples import SECRET, archive, contents, folder
from tutelage.core.errors import PackageError, RecipeError, TutelageError
from tutelage.deployment import placing
from tutelage.deployment.package import pack
from tutelage.deployment.verify import verify

# A child that stops at a planted point, says so, and waits to be killed.
_STOPS = """
import sys
from pathlib import Path
def stop():
    print("ready", flush=True)
    sys.stdin.read()
def before(place, name):
    inner = getattr(place, name)
    def planted(*args, **options):
        stop()
        return inner(*args, **options)
    setattr(place, name, planted)
def after(place, name):
    inner = getattr(place, name)
    def planted(*args, **options):
        found = inner(*args, **options)
        stop()
        return found
    setattr(place, name, planted)
"""
_PACK = """
from tutelage.deployment import package, placing
package.verify = lambda made, key: made  # takes a second, and is tried where nobody is killed
{plant}
files = {{path.name: path for path in Path(sys.argv[1]).iterdir()}}
run = {{"name": "small", "identity": "x", "data": {{}}}}
package.pack(files, Path(sys.argv[2]), run=run, version="1", date="2026-01-31", force=True)
"""
_NO_SWAP = "placing._swapped = lambda made, out: False\n"
_SECOND = """
inner, calls = Path.rename, []
def rename(self, target):
    calls.append(target)
    if len(calls) == {number}:
        stop()
    return inner(self, target)
Path.rename = rename
"""
POINTS = {
    "the first file": "before(package, '_put')",
    "the check": "before(package, 'verify')",
    "the disk": "after(package, 'sync')",
    "the new name": "before(package, 'take_place')",
    "the end": "after(package, 'take_place')",
}
WITHOUT_SWAP = {
    "before anything": _NO_SWAP + _SECOND.format(number=1),
    "neither has the name": _NO_SWAP + _SECOND.format(number=2),
    "the older one waits": _NO_SWAP + _SECOND.format(number=3),
}


def killed(code, *words):
    command = [sys.executable, "-c", _STOPS + code, *map(str, words)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"ready\n"
        os.kill(child.pid, signal.SIGKILL)
        child.wait(timeout=10)


def content(out):
    """Names and hashes of what a package holds."""
    if out.is_dir():
        found = {path.name: path.read_bytes() for path in out.iterdir()}
    else:
        with zipfile.ZipFile(out) as opened:
            found = {name: opened.read(name) for name in opened.namelist()}
    return {name: hashlib.sha256(each).hexdigest() for name, each in found.items()}


@cache
def newer():
    """A folder of what goes into the newer package."""
    place = Path(mkdtemp()) / "files"
    made = folder(place, contents())
    (made / "manifest.json").unlink()
    (made / "MODEL_CARD.md").write_text("a newer card")
    return made


def older(place, name):
    """An older package at its place."""
    return (archive if name.endswith(".zip") else folder)(place / name, contents())


def is_newer(out):
    """Whether it is the newer one, after seeing that it is one of the two, and whole."""
    assert verify(out).name == "small"
    found = content(out)
    manifest = found.pop("manifest.json")
    before = {name: hashlib.sha256(each).hexdigest() for name, each in contents().items()}
    if manifest == before.pop("manifest.json"):
        assert found == before
        return False
    assert found == content(newer())
    return True


def again(out):
    """The next one who packs: real checks, and nothing left about."""
    files = {path.name: path for path in newer().iterdir()}
    run = {"name": "small", "identity": "x", "data": {}}
    pack(files, out, run=run, version="1", date="2026-01-31", force=True)
    assert is_newer(out)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("name", ["p.zip", "p"])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_while_a_package_is_replaced_leaves_one_that_is_whole(name, point, tmp_path):
    out = older(tmp_path, name)
    killed(_PACK.format(plant=POINTS[point]), newer(), out)
    assert is_newer(out) == (point == "the end")
    again(out)


@pytest.mark.parametrize("point", WITHOUT_SWAP)
def test_where_folders_cannot_change_places_the_older_one_comes_back(point, tmp_path):
    out = older(tmp_path, "p")
    killed(_PACK.format(plant=WITHOUT_SWAP[point]), newer(), out)
    if point == "neither has the name":
        with pytest.raises(
            RecipeError, match=r"stopped half way, and the older one is at '.*older"
        ):
            verify(out)
        placing.recover(out)
    assert is_newer(out) == (point == "the older one waits")
    again(out)


def test_what_somebody_else_is_making_is_left_alone(tmp_path):
    (tmp_path / f".p.{os.getpid()}.tmp").mkdir()
    (tmp_path / ".p.x.tmp").mkdir()
    (tmp_path / ".q.999999999.tmp").mkdir()
    (tmp_path / ".p.999999999.tmp").mkdir()
    placing.sweep(tmp_path / "p")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f".p.{os.getpid()}.tmp", ".p.x.tmp", ".q.999999999.tmp"}


def test_an_older_folder_keeps_its_place_where_the_new_one_cannot_have_it(tmp_path, monkeypatch):
    made, out = tmp_path / "made", tmp_path / "out"
    for place in (made, out):
        place.mkdir()
        (place / "name").write_text(place.name)
    inner = Path.rename

    def rename(self, target):
        if self == made:
            raise OSError(28, "No space left on device")
        return inner(self, target)

    monkeypatch.setattr(placing, "_swapped", lambda made, out: False)
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="No space left"):
        placing.take_place(made, out)
    assert (out / "name").read_text() == "out"
    monkeypatch.undo()
    placing.take_place(made, out)
    assert (out / "name").read_text() == "made"


_FULL = """
import resource, signal, sys
from pathlib import Path
from tutelage.core.errors import TutelageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
{pack}
except TutelageError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("name", "most"), [("p.zip", 100), ("p.zip", "largest"), ("p", 100), ("p", 20_000)]
)
def test_a_disk_that_is_full_in_the_middle_leaves_the_older_one(name, most, tmp_path):
    out = older(tmp_path, name)
    if most == "largest":  # every file can be written, and the archive cannot
        most = max(path.stat().st_size for path in newer().iterdir())
    code = _FULL.format(pack=indent(_PACK.format(plant=""), "    "))
    command = [sys.executable, "-c", code, str(newer()), str(out), str(most)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.startswith("RecipeError --out: ")
    assert "cannot be written (File too large)" in said
    assert said.count("\n") == 1
    assert not is_newer(out)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_swapped_files_are_named(tmp_path):
    place = older(tmp_path, "p")
    shutil.copyfile(newer() / "MODEL_CARD.md", place / "MODEL_CARD.md")
    with pytest.raises(PackageError, match=r"MODEL_CARD.md (has|is not what was packed)"):
        verify(place)
    (place / "MODEL_CARD.md").write_bytes(contents()["MODEL_CARD.md"])
    one, other = (place / name for name in ("report.json", "sbom.json"))
    one.rename(tmp_path / "kept")
    other.rename(one)
    (tmp_path / "kept").rename(other)
    with pytest.raises(PackageError, match=r"(report|sbom).json (has|is not what was packed)"):
        verify(place)


def test_every_flipped_bit_is_refused_or_in_bytes_that_say_nothing(tmp_path):
    """Where a damaged archive passes, all that it holds is what was packed, to the last bit."""
    key, path, spoilt = tmp_path / "key", tmp_path / "p.zip", tmp_path / "spoilt.zip"
    key.write_bytes(SECRET)
    whole = archive(path, contents(signed=True)).read_bytes()
    dice, before, said, passed = np.random.default_rng(0), content(path), [], 0
    # The directory and the headers whole, and a sample of what lies between.
    directory = int.from_bytes(whole[-6:-2], "little")
    places = [*range(directory, len(whole), 5), *range(0, 60, 5)]
    places += dice.integers(0, len(whole), 100).tolist()
    for place in places:
        bits = bytearray(whole)
        bits[place] ^= 1 << int(dice.integers(8))
        spoilt.write_bytes(bits)
        try:
            verify(spoilt, key)
        except TutelageError as error:
            said.append(str(error))
        else:
            passed += 1
            assert content(spoilt) == before, place
    assert not any("\n" in line for line in said)
    assert len(said) > passed > 0
