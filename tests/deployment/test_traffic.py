"""The traffic log and the reference: rows come back as they were, and faults cost rows only."""

import threading
import time

import numpy as np
import pytest

from tutelage.core.errors import DataError
from tutelage.deployment import traffic_chunks
from tutelage.deployment.reference import read_reference, write_reference
from tutelage.deployment.traffic import TrafficLog, read_traffic, summary, summary_names


def images(count, seed=0, size=8):
    return np.random.default_rng(seed).random((count, 1, size, size), dtype=np.float32)


def logits(count, seed=1, classes=3):
    return np.random.default_rng(seed).normal(size=(count, classes)).astype(np.float32)


def written(folder, count=600, version="a" * 64, **options):
    with TrafficLog(folder, version=version, **options) as log:
        for row in range(0, count, 50):
            log.append({"inputs": images(50, row)}, logits(50, row), when=1e9 + row)
    return log


def test_rows_come_back_by_time_as_they_were_given(tmp_path):
    log = written(tmp_path)
    found = read_traffic(tmp_path)
    assert (len(found), log.dropped, found.skipped, found.broken) == (600, 0, 0, 0)
    assert set(found.versions) == {"a" * 64}
    assert np.array_equal(found.logits[50:100], logits(50, 50))
    assert np.array_equal(found.summaries[50:100], summary({"inputs": images(50, 50)}))
    assert (np.diff(found.times) > 0).all()
    assert np.isnan(found.seconds).all()
    assert len(found.kept) == 1
    assert len(found.kept_rows) == 0


def test_since_and_last_choose_the_newest(tmp_path):
    written(tmp_path)
    assert len(read_traffic(tmp_path, last=70)) == 70
    assert read_traffic(tmp_path, last=70).times.min() >= 1e9 + 500
    assert len(read_traffic(tmp_path, since=1e9 + 400)) == 200
    assert len(read_traffic(tmp_path, since=2e9)) == 0


def test_kept_inputs_belong_to_their_rows(tmp_path):
    written(tmp_path, keep_inputs=0.3)
    found = read_traffic(tmp_path, last=300)
    assert 40 < len(found.kept_rows) < 140
    again = summary(found.kept)
    assert np.allclose(again, found.summaries[found.kept_rows])


def test_latency_and_shadow_are_kept_where_told(tmp_path):
    with TrafficLog(tmp_path, version="v") as log:
        log.append({"x": images(2)}, logits(2), seconds=0.01, shadow=logits(2, 9))
        log.append({"x": images(2)}, logits(2))
    found = read_traffic(tmp_path)
    assert np.allclose(found.seconds[:2], 0.01)
    assert np.isnan(found.seconds[2:]).all()
    assert np.allclose(found.shadow[:2], logits(2, 9))
    assert np.isnan(found.shadow[2:]).all()


def test_many_threads_lose_no_row(tmp_path):
    log = TrafficLog(tmp_path, version="v")

    def ask(seed):
        for _ in range(40):
            log.append({"x": images(1, seed)}, logits(1, seed))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    log.flush()
    assert len(read_traffic(tmp_path)) == 320 - log.dropped == 320
    log.close()
    log.append({"x": images(1)}, logits(1))
    assert log.dropped == 1


def test_rows_are_on_disk_soon_without_being_asked(tmp_path):
    log = TrafficLog(tmp_path, version="v")
    log.append({"x": images(1)}, logits(1))
    end = time.monotonic() + 10
    while not list(tmp_path.glob("traffic-*")) and time.monotonic() < end:
        time.sleep(0.05)
    assert len(read_traffic(tmp_path)) == 1
    log.close()


def test_the_oldest_go_and_nothing_foreign_does(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with TrafficLog(tmp_path, version="v", most_bytes=100_000) as log:
        for row in range(40):
            log.append({"x": images(100, row)}, logits(100, row), when=1e9 + row)
            log.flush()
    sizes = [path.stat().st_size for path in tmp_path.glob("traffic-*")]
    found = read_traffic(tmp_path)
    assert sum(sizes) <= 100_000
    assert found.times.max() > 1e9 + 38
    assert found.times.min() > 1e9
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_full_disk_and_odd_arrays_are_counted_and_never_raised(tmp_path, monkeypatch):
    log = TrafficLog(tmp_path, version="v")
    log.append({"x": images(3)}, logits(3))
    log.flush()

    def full(chunk, path):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tutelage.deployment.traffic.save", full)
        log.append({"x": images(5)}, logits(5))
        log.flush()
    log.append({"x": images(4)}, logits(2))
    log.append({"x": "words"}, logits(1))
    log.append(None, logits(1))
    log.flush()
    log.append({"x": images(2)}, logits(2))
    log.close()
    assert (len(read_traffic(tmp_path)), log.dropped) == (5, 9)


def test_a_burst_beyond_memory_is_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr("tutelage.deployment.traffic._WAITING", 10_000)
    log = TrafficLog(tmp_path, version="v")
    for _ in range(100):
        log.append({"x": images(10)}, logits(10))
    log.close()
    assert log.dropped > 0
    assert len(read_traffic(tmp_path)) + log.dropped == 1000


def test_truncated_foreign_and_other_chunks_are_skipped_and_counted(tmp_path):
    written(tmp_path)
    first = sorted(tmp_path.glob("traffic-*"))[0]
    (tmp_path / "traffic-1-1.safetensors").write_bytes(first.read_bytes()[:-100])
    (tmp_path / "traffic-2-1.safetensors").write_bytes(b"no chunk")
    rows = traffic_chunks.load(first)
    short = {**rows.rows, "logits": rows.rows["logits"][:1]}
    traffic_chunks.save(
        traffic_chunks.Chunk(short, "v", rows.features), tmp_path / "traffic-3-1.safetensors"
    )
    with TrafficLog(tmp_path / "other", version="v") as log:
        log.append({"x": images(5)}, logits(5, classes=7))
    other = next((tmp_path / "other").glob("traffic-*"))
    other.replace(tmp_path / "traffic-00000000000000000001-1.safetensors")
    found = read_traffic(tmp_path)
    assert (len(found), found.skipped) == (600, 4)


def test_rows_with_nan_are_left_out_and_counted(tmp_path):
    bad = images(10)
    bad[3, 0, 2, 2] = np.nan
    with TrafficLog(tmp_path, version="v") as log:
        log.append({"x": bad}, logits(10))
    found = read_traffic(tmp_path)
    assert (len(found), found.broken) == (9, 1)


def test_a_missing_folder_is_told_and_an_empty_one_is_empty(tmp_path):
    with pytest.raises(DataError, match="no traffic folder"):
        read_traffic(tmp_path / "none")
    assert len(read_traffic(tmp_path)) == 0
    with pytest.raises(DataError, match="keep_inputs"):
        TrafficLog(tmp_path, version="v", keep_inputs=2)


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (np.zeros((2, 3, 300, 200), "f4"), 29),
        (np.zeros((2, 1, 2, 2), "f4"), 13),
        (np.zeros((2, 4, 100), "f4"), 29),
        (np.zeros((2, 5), "f4"), 5),
        (np.zeros((2, 200), "f4"), 64),
        (np.zeros(2, "f4"), 1),
        (np.zeros((2, 12), "i8"), 16),
    ],
)
def test_every_kind_of_input_has_named_numbers(value, count):
    found, names = summary({"x": value}), summary_names({"x": value})
    assert found.shape == (2, count) == (2, len(names))
    assert found.dtype == np.float32
    assert len(set(names)) == count


def test_numbers_of_an_image_are_what_they_are_called():
    value = images(3, size=28)
    found = dict(zip(summary_names({"x": value}), summary({"x": value}).T, strict=True))
    assert np.allclose(found["mean"], value.mean((1, 2, 3)), atol=1e-6)
    assert np.allclose(found["deviation"], value.std((1, 2, 3)), atol=1e-6)
    assert np.allclose(found["block 2.3"], value[:, 0, 7:14, 14:21].mean((1, 2)), atol=1e-6)
    assert np.allclose(found["percentile 50"], np.median(value, (1, 2, 3)), atol=5e-3)
    with pytest.raises(DataError, match="rows"):
        summary({"x": images(2), "y": images(3)})


def test_a_reference_comes_back_and_others_are_refused(tmp_path):
    path, model = tmp_path / "reference.safetensors", tmp_path / "m.onnx"
    model.write_bytes(b"model")
    labels = np.arange(5000) % 3
    batches = ({"inputs": images(500, seed)} for seed in range(10))
    write_reference(path, batches, logits(5000), labels, teacher=np.eye(3)[labels], model=model)
    found = read_reference(path)
    assert found.summaries.shape == (4000, 26)
    assert np.array_equal(found.labels, found.teacher)
    assert len(found.model) == 64
    with pytest.raises(DataError, match="as many of each"):
        write_reference(path, [{"x": images(3)}], logits(4), None)
    with pytest.raises(DataError, match="NaN"):
        write_reference(path, [{"x": images(3) * np.nan}], logits(3), None)
    with pytest.raises(DataError, match="there is no reference"):
        read_reference(tmp_path / "none")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="no whole reference"):
        read_reference(path)
    written(tmp_path / "log")
    with pytest.raises(DataError, match="no reference that"):
        read_reference(next((tmp_path / "log").glob("*")))
