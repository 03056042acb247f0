"""tutelage audit: what it prints and writes, its exit statuses, and that no broken file stops it."""

import io
import json
import zipfile

import pytest
from PIL import Image

from tutelage.data.fashion_small import embedded
from typed import typed


def call(monkeypatch, *words):
    return typed(monkeypatch, "audit", *words)


@pytest.fixture(scope="module")
def images():
    """Bytes of PNG files by path: three classes, three splits."""
    train, _ = embedded()
    made = {}
    for split, (start, end) in {"train": (0, 40), "val": (40, 52), "test": (52, 64)}.items():
        for kind in range(3):
            rows = (train.targets == kind).nonzero()[start:end, 0].tolist()
            for number, row in enumerate(rows):
                held = io.BytesIO()
                Image.fromarray(train.inputs[row, 0].numpy()).save(held, "PNG")
                made[f"{split}/c{kind}/{number:03}.png"] = held.getvalue()
    return made


def folder(files, root):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def archive(files, root):
    path = root / "images.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def source(path):
    return f"{{image_folder: {{path: {str(path)!r}, channels: 1}}}}"


def spoilt(files):
    files = dict(files)
    name, whole = "train/c0/003.png", files["train/c0/003.png"]
    files[name] = whole[: len(whole) // 2]
    files["test/c1/004.png"] = b""
    files["train/c1/odd.jpg"] = files["train/c1/005.png"]
    files["train/c1/lost.dat"] = files["train/c1/006.png"]
    files["train/notes.txt"] = b"of the camera"
    files["train/c2/again.png"] = files["test/c2/000.png"]
    return files


@pytest.mark.parametrize("put", [folder, archive])
def test_all_broken_files_are_listed_and_the_rest_is_looked_at(put, images, monkeypatch, tmp_path):
    path = put(spoilt(images), tmp_path)
    code, out, err = call(monkeypatch, source(path), "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    files = found["checks"]["files"]["figures"]
    assert set(files["broken"]) == {"train/c0/003.png", "test/c1/004.png"}
    assert set(files["disguised"]) == {"train/c1/odd.jpg"}
    assert set(files["overlooked"]) == {"train/c1/lost.dat"}
    assert files["passed_over"] == ["train/notes.txt"]
    assert found["facts"]["splits"] == {"train": 121, "validation": 36, "test": 35}
    assert found["facts"]["origin"]["path"] == str(path)
    pairs = found["checks"]["duplicates"]["figures"]["exact_pairs"]
    assert ("train train/c2/again.png", "test test/c2/000.png") in [
        (pair["one"], pair["other"]) for pair in pairs
    ]


def test_what_is_found_is_shown_and_written_and_ends_with_1_where_asked(
    images, monkeypatch, tmp_path
):
    path = folder(spoilt(images), tmp_path / "photos")
    code, out, err = call(
        monkeypatch, source(path), "--out", str(tmp_path / "out"), "--fail-on", "warning"
    )
    assert code == 1
    assert err == "tutelage: the audit found what --fail-on warning is for: see above.\n"
    text = " ".join(out.split())
    assert "2 files cannot be read as images" in text
    assert "1 of 35 test examples (2.9 %) is in train too, 1 exactly and 0 nearly" in text
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "train/c0/003.png" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    card = (tmp_path / "out" / "DATA_CARD.md").read_text()
    assert card.startswith("---\n")
    assert str(path) in card
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["worst"] == "warning"


def test_a_clean_folder_ends_with_0_even_where_warnings_fail(images, monkeypatch, tmp_path):
    path = folder(images, tmp_path)
    code, out, _ = call(monkeypatch, source(path), "--fail-on", "warning")
    assert code == 0
    assert "▲" not in out
    assert "192 of 192 files are whole images" in " ".join(out.split())


def test_a_class_without_images_in_test_is_named(images, monkeypatch, tmp_path):
    path = folder({n: c for n, c in images.items() if not n.startswith("test/c2")}, tmp_path)
    code, out, _ = call(monkeypatch, source(path), "--fail-on", "warning")
    assert code == 1
    assert "test lacks 'c2', which train has" in " ".join(out.split())


def test_the_data_of_a_recipe_is_looked_at_with_changes(images, monkeypatch, tmp_path):
    path = folder(images, tmp_path / "photos")
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"recipe: 1\nname: mine\ndata: {{source: {source(path)}}}\n")
    code, out, _ = call(
        monkeypatch, str(recipe), "--set", "data.source.image_folder.size=14", "--json"
    )
    assert code == 0
    assert json.loads(out)["facts"]["shape"] == [1, 14, 14]
    code, out, _ = call(monkeypatch, source(path), "--set", "size=14", "--json")
    assert json.loads(out)["facts"]["shape"] == [1, 14, 14]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fashion"], "there is no recipe and no source 'fashion'. Did you mean 'fashion_mnist'"),
        (["nowhere.yaml"], "there is no recipe 'nowhere.yaml'"),
        (["{csv: {pat: x}}"], "no such option (its value: 'x'). Did you mean 'path'?"),
        (["{image_folder: {path: nowhere}}"], "path 'nowhere' does not exist"),
        (["{image_folder: {}}"], "path: this option is needed"),
        (["{a: {}, b: {}}"], "expected one source"),
        (["{nothing: {}}"], "there is no data called 'nothing'"),
        (["fashion_mnist_small", "--set", "seeds=1"], "Did you mean 'seed'?"),
        (["fashion_mnist_small", "--fail-on", "all"], "expected warning or notice"),
    ],
)
def test_a_wrong_word_is_one_line_and_2(words, says, monkeypatch):
    code, out, err = call(monkeypatch, *words)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
