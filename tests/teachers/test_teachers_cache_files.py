"""Files that were torn, cut, swapped or lost do not teach; two processes do not mix them up."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from cache_samples import COUNT, cache, loader, pictures, shards, teacher

from tutelage.core.errors import DataError
from tutelage.teachers import Cached, Form
from tutelage.teachers.cache.lock import WriterLock
from tutelage.teachers.cache.records import Layout, salts

EVERY = 2 * COUNT
SMALL = {"shard": 10 * 24}  # 10 records a file: 3 files a view


def filled(folder, **options):
    with cache(folder, **{**SMALL, **options}) as kept:
        kept.fill(loader().in_order())
    return answers(folder, **options)


def answers(folder, who=None, **options):
    """All answers, view by view, in the order of the examples."""
    with cache(folder, who, **{**SMALL, **options}) as kept:
        source = loader().in_order()
        return torch.stack(
            [torch.cat([kept(batch).logits for batch in source.epoch(view)]) for view in range(2)]
        )


def cut(path):
    os.truncate(path, path.stat().st_size // 2 + 3)


def empty(path):
    path.write_bytes(b"")


def longer(path):
    path.write_bytes(path.read_bytes() + b"more")


def zeros(path):
    half = path.stat().st_size // 2
    path.write_bytes(path.read_bytes()[:half] + b"\0" * (path.stat().st_size - half))


def noise(path):
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(bytes(content))


def another(path):
    shutil.copy(path.with_name("000000.records"), path)


def gone(path):
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (cut, 10), (empty, 10), (longer, 6), (zeros, 5), (noise, 10), (flipped, 1), (another, 10),
        (gone, 10),
    ],
)  # fmt: skip
def test_a_damaged_file_is_found_and_made_anew(tmp_path, damage, lost):
    # A file of a wrong length is not read until a batch (of 8) has given it the right one again.
    before = filled(tmp_path)
    assert [path.name for path in shards(tmp_path)] == [f"00000{i}.records" for i in range(3)] * 2
    damage(shards(tmp_path)[1])
    with cache(tmp_path, **SMALL) as kept:
        again = kept.fill(loader().in_order())
        assert (again.answers, again.asked) == (EVERY, lost)
        assert (again.torn > 0) == (damage in (noise, flipped, another))
    assert torch.equal(answers(tmp_path), before)
    with cache(tmp_path, **SMALL) as kept:
        assert kept.fill(loader().in_order()).asked == 0


def test_students_mend_what_they_meet(tmp_path):
    before = filled(tmp_path)
    flipped(shards(tmp_path)[4])
    who = teacher()
    assert torch.equal(answers(tmp_path, who), before)
    assert who.asked == 8  # the batch that the lost answer is in
    who = teacher()
    assert torch.equal(answers(tmp_path, who), before)
    assert who.asked == 0


def test_every_single_bit_of_a_record_is_guarded():
    layout = Layout(Form("top", 2), (3,), {"f": (2,)})
    generator = np.random.default_rng(0)
    words = generator.integers(0, 2**63, (1, layout.words), np.uint64)
    salt = salts(7, 1, np.array([5]))
    layout.seal(words, salt)
    assert layout.unseal(words.copy(), salt)[0].all()
    for word in range(layout.words):
        for bit in range(64):
            torn = words.copy()
            torn[0, word] ^= np.uint64(1) << np.uint64(bit)
            assert not layout.unseal(torn, salt)[0].any()
    for seed, view, row in ((7, 2, 5), (7, 1, 6), (8, 1, 5)):
        assert not layout.unseal(words.copy(), salts(seed, view, np.array([row])))[0].any()
    assert [part.any() for part in layout.unseal(np.zeros_like(words), salt)] == [False, False]


def test_files_of_another_cache_are_no_answers(tmp_path):
    filled(tmp_path / "one")
    with cache(tmp_path / "two", teacher(4), **SMALL) as kept:
        kept.fill(loader().in_order())
    expected = answers(tmp_path / "two", teacher(4))
    for mine, other in zip(shards(tmp_path / "two"), shards(tmp_path / "one"), strict=True):
        shutil.copy(other, mine)
    assert torch.equal(answers(tmp_path / "two", teacher(4)), expected)


@pytest.mark.parametrize("text", ["", "{", "[]", None])
def test_a_broken_manifest_is_told_in_one_line(tmp_path, text):
    filled(tmp_path)
    path = tmp_path / "manifest.json"
    if text is None:  # a number that somebody changed
        text = path.read_text().replace('"shape": [\n  5\n ]', '"shape": [\n  6\n ]')
        assert text != path.read_text()
    path.write_text(text)
    with pytest.raises(DataError, match=r"manifest.json is broken .* built anew") as refused:
        cache(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_manifest_of_another_version_is_refused(tmp_path, monkeypatch):
    from tutelage.teachers.cache import cached

    filled(tmp_path)
    monkeypatch.setattr(cached, "FORMAT", 99)
    with pytest.raises(DataError, match=r"in another format \(2, and this is 99\)"):
        cache(tmp_path)


def test_one_object_writes_and_the_other_asks_without_keeping(tmp_path):
    batch, (first, second) = next(loader().epoch(0)), (teacher(), teacher())
    with cache(tmp_path, first) as writer, cache(tmp_path, second) as reader:
        writer(next(loader().epoch(1)))
        assert torch.equal(reader(batch).logits, reader(batch).logits)
        assert (second.asked, reader.counts.stored) == (16, 0)
        writer(batch)
        reader(batch)  # now it is there
        assert (second.asked, reader.counts.found) == (16, 8)
        with pytest.raises(DataError, match="another process is writing into the cache"):
            reader.fill(loader().in_order())
        writer.close()
        assert reader.fill(loader().in_order()).answers == EVERY


def test_a_reader_waits_for_no_manifest(tmp_path):
    lock = WriterLock(tmp_path / "writer.lock")
    assert lock.take()
    who = teacher()
    kept, batch = cache(tmp_path, who), next(loader().epoch(0))
    live = who(batch).logits
    torch.testing.assert_close(kept(batch).logits, live, rtol=0, atol=0.01)
    assert not (tmp_path / "manifest.json").exists()
    lock.release()
    kept(batch)
    assert kept.counts.stored == 8
    kept.close()


def test_a_child_of_the_writer_is_no_writer(tmp_path, monkeypatch):
    lock = WriterLock(tmp_path / "lock")
    assert lock.take()
    assert lock.take()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert not lock.held
    assert not lock.take()


def test_two_threads_may_read(tmp_path):
    before = filled(tmp_path)
    found = []

    def read():
        with Cached(None, tmp_path, loader(), **SMALL) as kept:
            for view in (0, 1):
                found.append([kept(batch) for batch in loader().in_order().epoch(view)])

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    total = torch.stack([torch.cat([a.logits for a in each]) for each in found]).sum()
    torch.testing.assert_close(total, 2 * before.sum())


def test_a_full_disk_is_told_and_leaves_what_is_kept(tmp_path, monkeypatch):
    def full(handle, start, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with cache(tmp_path, **SMALL) as kept:
        kept(next(loader(batch=4, shuffle=False).epoch(0)))
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with cache(tmp_path, **SMALL) as kept:
        with pytest.raises(DataError, match=r"cannot write .* \(No space left on device\): make"):
            kept.fill(loader().in_order())
        assert kept(next(loader(batch=4, shuffle=False).epoch(0))).logits.shape == (4, 5)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    kept = cache(tmp_path / "file" / "kept")
    with pytest.raises(DataError, match="the cache cannot be made in"):
        kept(next(loader().epoch(0)))


def test_more_files_than_may_be_open_are_read_in_turn(tmp_path, monkeypatch):
    from tutelage.teachers.cache import shards as files

    monkeypatch.setattr(files, "_OPEN", 2)
    before = filled(tmp_path, shard=1)
    assert len(shards(tmp_path)) == EVERY
    who = teacher()
    assert torch.equal(answers(tmp_path, who, shard=1), before)
    assert who.asked == 0


def test_a_fill_that_failed_goes_on_where_it_was(tmp_path):
    class Enough(Exception):
        pass

    def stop(done, of):
        assert of == EVERY
        if done >= 32:
            raise Enough

    with cache(tmp_path) as kept, pytest.raises(Enough):
        kept.fill(loader().in_order(), stop)
    with cache(tmp_path) as kept:
        told = []
        again = kept.fill(loader().in_order(), lambda *one: told.append(one))
        assert (again.answers, again.asked) == (EVERY, EVERY - 32)
        assert told[-1] == (EVERY, EVERY)


CHILD = """
import json, os, signal, sys
sys.path.insert(0, {here!r})
import torch
torch.set_num_threads(1)
from cache_samples import cache, loader
from tutelage.core.errors import DataError
from tutelage.teachers import Cached

folder, job = sys.argv[1:]
if job == "killed":
    def stop(done, of):
        if done >= 16:
            os.kill(os.getpid(), signal.SIGKILL)
    cache(folder).fill(loader().in_order(), stop)
kept = Cached(None, folder, loader())
total = 0.0
for _ in range(20):
    for view in (0, 1):
        total += sum(float(kept(batch).logits.double().sum()) for batch in loader().epoch(view))
try:
    kept.fill(loader())
    refused = ""
except DataError as error:
    refused = str(error)
print(json.dumps([total / 20, kept.counts.found, refused]))
"""


def child(folder, job):
    text = CHILD.format(here=str(Path(__file__).parent))
    return subprocess.Popen(
        [sys.executable, "-c", text, str(folder), job],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_a_process_killed_while_it_writes_leaves_a_cache_that_another_finishes(tmp_path):
    killed = child(tmp_path, "killed")
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "writer.lock").exists()  # and nobody has it
    who = teacher()
    with cache(tmp_path, who) as kept:
        again = kept.fill(loader().in_order())
        assert (again.answers, again.asked, again.torn) == (EVERY, EVERY - 16, 0)


def test_two_processes_read_while_one_holds_the_right_to_write(tmp_path):
    with cache(tmp_path) as kept:
        kept.fill(loader().in_order())
        reader = child(tmp_path, "read")  # and this process, beside it
        mine = 0.0
        for view in (0, 1):
            mine += sum(float(kept(b).logits.double().sum()) for b in loader().epoch(view))
        out, _ = reader.communicate(timeout=120)
        total, found, refused = json.loads(out)
        assert total == pytest.approx(mine, rel=1e-9)
        assert found == 20 * EVERY
        assert "another process is writing" in refused


def test_images_of_bytes_and_floats_look_alike_in_every_process(tmp_path):
    examples = pictures()
    examples = type(examples)((examples.inputs * 255).byte(), examples.targets, classes="abcde")
    source, who = loader(examples), teacher()
    with cache(tmp_path, who, source) as kept:
        kept.fill(source.in_order())
        for batch in loader(examples, workers=0).epoch(5):
            kept(batch)
        assert who.asked == EVERY
