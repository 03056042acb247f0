"""tutelage package and tutelage verify: what they print, and their exit statuses."""

import zipfile

import pytest

from package_samples import SECRET, archive, contents, finished_run
from typed import typed


def test_a_run_is_packed_signed_and_found_whole(monkeypatch, tmp_path):
    key, out = tmp_path / "key", tmp_path / "student.zip"
    key.write_bytes(SECRET)
    words = ["--key", key, "--licence-student", "MIT", "--with-weights"]
    code, said, err = typed(monkeypatch, "package", finished_run(), "--out", out, *words)
    assert (code, err) == (0, "")
    assert said.startswith(f"{out}: 10 files, ")
    with zipfile.ZipFile(out) as opened:
        assert b"\nlicense: mit\n" in opened.read("MODEL_CARD.md")
        assert "student.safetensors" in opened.namelist()
    code, said, err = typed(monkeypatch, "verify", out, "--key", key)
    assert (code, err) == (0, "")
    assert f"{out} is whole: 10 files" in said
    assert "Signature: signed with HMAC-SHA256" in said
    code, said, _ = typed(monkeypatch, "verify", out)
    assert code == 0
    assert "not checked: no key was given" in said


def test_an_unsigned_package_says_so(monkeypatch, tmp_path):
    code, said, _ = typed(monkeypatch, "verify", archive(tmp_path / "p.zip", contents()))
    assert code == 0
    assert "unsigned: the checksums find damage, and say nothing of who made it" in said


def test_what_is_not_whole_ends_with_1_and_one_line(monkeypatch, tmp_path):
    files = {**contents(), "labels.json": b"{}"}
    code, out, err = typed(monkeypatch, "verify", archive(tmp_path / "p.zip", files))
    assert (code, out) == (1, "")
    assert err.startswith("tutelage: labels.json has 2 bytes, and ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["verify", "nowhere.zip"], "there is no package 'nowhere.zip'"),
        (["verify", "{self}"], "is no package: give a .zip archive or a folder"),
        (["verify", "{zip}", "--key", "nokey"], "--key: 'nokey' cannot be read"),
        (["package", "nowhere", "--out", "p.zip"], "there is no run 'nowhere'"),
        (["package", ".", "--out", "p.zip"], "there is no report.json in ."),
        (["package", "{run}", "--out", "p.tar.gz"], "is neither a .zip nor a folder"),
        (["package", "{run}", "--out", "{zip}"], "is there already"),
        (["package", "{run}"], "Missing option"),
        (["package", "{run}", "--out", "p.zip", "--licence-data", " "], "--licence-data: got ' '"),
        (["package", "{run}", "--out", "p.zip", "--key", "nokey"], "'nokey' cannot be read"),
    ],
)
def test_a_wrong_word_is_one_line_and_2(words, says, monkeypatch, tmp_path):
    signed = archive(tmp_path / "p0.zip", contents(signed=True))
    known = {"{self}": __file__, "{zip}": signed, "{run}": finished_run()}
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    code, out, err = typed(monkeypatch, *(known.get(word, word) for word in words))
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
