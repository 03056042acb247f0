"""A registry of real packages: what goes in, comes out, and is refused."""

import sqlite3

import pytest

from package_samples import SECRET, archive, contents
from registry_samples import home, packages
from tutelage.core.errors import PackageError, RecipeError
from tutelage.deployment.manifest import sha256_of
from tutelage.deployment.registry import Registry
from tutelage.deployment.registry.asking import Asking
from tutelage.deployment.registry.store import Store


@pytest.fixture
def registry(tmp_path):
    with Registry(home(tmp_path / "home")) as made:
        yield made


def test_a_package_becomes_a_version_with_its_lineage(registry):
    version, new = registry.adding("digits", packages()[0], alias="candidate")
    assert (version.words, new, version.aliases) == ("digits/1", True, ("candidate",))
    assert version.digest == sha256_of(packages()[0] / "manifest.json") == version.folder.name
    assert version.folder.parent == registry.home / "packages"
    words = version.lineage
    assert words["student"]["sha256"] == sha256_of(packages()[0] / "student.onnx")
    assert words["teacher"]["name"].startswith("mlp")
    assert set(words["data"]) == {"name", "train", "validation", "test"}
    assert words["recipe"]["name"] == "small"
    assert words["gates"] == [{"name": "accuracy_drop", "passed": True, **_rest(words["gates"][0])}]
    assert 0 <= words["figures"]["student.accuracy"] <= 1
    assert words["signature"].startswith("unsigned")


def _rest(gate):
    return {key: gate[key] for key in ("value", "rule", "threshold", "by")}


def test_the_same_package_is_the_same_version(registry):
    first = registry.add("digits", packages()[0])
    assert registry.adding("digits", packages()[0]) == (first, False)
    assert registry.add("digits", packages()[1]).number == 2
    assert registry.add("letters", packages()[0]).words == "letters/1"
    assert registry.names() == ["digits", "letters"]
    assert len(list((registry.home / "packages").iterdir())) == 2


def test_a_zip_and_a_folder_of_the_same_files_are_one(registry, tmp_path):
    files = contents(signed=True)
    packed = archive(tmp_path / "p.zip", files)
    (tmp_path / "key").write_bytes(SECRET)
    unsigned = {name: data for name, data in files.items() if name != "signature.json"}
    plain = archive(tmp_path / "unsigned.zip", unsigned)
    assert registry.add("digits", plain).lineage["signature"].startswith("unsigned")
    version, new = registry.adding("digits", packed, key=tmp_path / "key")
    assert (version.number, new) == (1, False)
    assert version.lineage["signature"].startswith("signed with HMAC-SHA256")
    assert (version.folder / "signature.json").is_file()


def test_words_find_versions(registry):
    registry.add("digits", packages()[0])
    registry.add("digits", packages()[1], alias="candidate")
    assert registry.resolve("digits/1").number == 1
    assert registry.resolve("digits@candidate").number == 2
    for words, says in (
        ("digit", "there is no model 'digit' .* Did you mean 'digits'"),
        ("digits", "digits has no alias 'production'"),
        ("digits@candidat", "Did you mean 'candidate'"),
        ("digits/3", "digits has no version 3. Known: 1, 2"),
        ("digits/0", "is no version"),
        ("../etc", "is no version: write NAME/1"),
        ("a b", "is no name of a model"),
        ("digits@latest", "is no alias"),
    ):
        with pytest.raises(RecipeError, match=says):
            registry.resolve(words)


def test_names_and_places_are_looked_at_before_anything_is_made(tmp_path):
    for name in ("", "x" * 65, "a/b", "a@b", "ü"):
        with pytest.raises(RecipeError, match="is no name of a model"):
            Registry(tmp_path / "home").add(name, packages()[0])
    with pytest.raises(RecipeError, match="is no place for a registry"):
        Registry.at("ftp://nowhere")
    with pytest.raises(RecipeError, match="gates guard it"):
        Registry(tmp_path / "home").add("digits", packages()[0], alias="production")
    assert Registry(tmp_path / "home").names() == []
    assert not (tmp_path / "home").exists()


def test_a_broken_or_unsigned_package_leaves_nothing(registry, tmp_path):
    files = {**contents(), "labels.json": b"{}"}
    with pytest.raises(PackageError, match=r"labels.json has 2 bytes"):
        registry.add("digits", archive(tmp_path / "p.zip", files))
    (tmp_path / "key").write_bytes(SECRET)
    with pytest.raises(PackageError, match="unsigned, and a key was given"):
        registry.add("digits", packages()[0], key=tmp_path / "key")
    assert list((registry.home / "packages").iterdir()) == []
    assert registry.names() == []


def test_a_kept_package_that_was_changed_is_not_used_again(registry):
    version = registry.add("digits", packages()[0])
    (version.folder / "student.onnx").write_bytes(b"other")
    with pytest.raises(PackageError, match=r"copy in .* is damaged .student.onnx has 5 bytes"):
        registry.add("digits", packages()[0])
    with pytest.raises(PackageError, match=r"student.onnx has 5 bytes"):
        registry.promote("digits", 1, why="to see")
    assert registry.resolve("digits/1").aliases == ()


def test_what_is_read_without_mlflow_is_what_mlflow_says(registry):
    for package in packages()[:3]:
        registry.add("digits", package, alias="candidate")
    registry.promote("digits", 1, why="to see")
    registry.add("letters", packages()[0])
    store = Store(registry.uri, registry.home / "artifacts")
    store.models.delete_model_version("digits", "2")
    asking, tables = Asking(lambda: store), registry._reader
    assert tables.names() == asking.names() == ["digits", "letters"]
    assert tables.rows("digits") == asking.rows("digits")
    assert [row.number for row in tables.rows("digits")] == [1, 3]
    for name in ("digits", "letters", "none"):
        assert tables.tags(name) == asking.tags(name)
        assert tables.aliases(name) == asking.aliases(name)
        for alias, number in (("production", None), ("none", None), (None, 2), (None, 3)):
            assert tables.row(name, alias, number) == asking.row(name, alias, number)
    store.close()


def test_figures_are_metrics_of_an_mlflow_run(registry):
    version = registry.add("digits", packages()[0])
    with sqlite3.connect(registry.home / "registry.db") as found:
        rows = dict(
            found.execute(
                "SELECT key, value FROM metrics JOIN model_versions ON run_uuid = run_id"
            ).fetchall()
        )
    found.close()
    assert rows == pytest.approx(version.lineage["figures"])


def test_a_database_elsewhere_is_named_by_its_uri(tmp_path):
    database = home(tmp_path / "store") / "registry.db"
    with Registry(tmp_path / "packages", f"sqlite:///{database}") as registry:
        assert registry.add("digits", packages()[0]).words == "digits/1"
        assert not (registry.home / "registry.db").exists()
    with (
        Registry(tmp_path / "other", f"sqlite:///{database}") as other,
        pytest.raises(RecipeError, match="the package of digits/1 is not in"),
    ):
        other.resolve("digits/1")


def test_a_file_that_is_no_registry_is_one_line(tmp_path):
    (tmp_path / "registry.db").write_bytes(b"not a database, not at all" * 100)
    with pytest.raises(PackageError, match="cannot be read as a registry of MLflow"):
        Registry(tmp_path).names()
