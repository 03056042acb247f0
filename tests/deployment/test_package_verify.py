"""What a receiver is told of packages that were damaged, forged, or made to harm."""

import io
import json
import struct
import zipfile

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save

from package_samples import SECRET, archive, changed, contents, folder, listed_anew
from tutelage.core.errors import PackageError
from tutelage.deployment.manifest import MODELS, PAPERS
from tutelage.deployment.verify import verify


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(SECRET)
    return path


def network(value=1.0, outside=False, width=10):
    """A linear model of 784 inputs whose weights are ``value``."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [784, width], [1.0] * 784 * width)
    bias = helper.make_tensor("b", TensorProto.FLOAT, [width], [value] * width)
    if outside:
        weights.ClearField("float_data")
        weights.data_location = TensorProto.EXTERNAL
        weights.external_data.add(key="location", value="/etc/passwd")
    given = helper.make_tensor_value_info("inputs", TensorProto.FLOAT, ["batch", 1, 28, 28])
    answer = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", width])
    nodes = [
        helper.make_node("Flatten", ["inputs"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"]),
    ]
    graph = helper.make_graph(nodes, "g", [given], [answer], [weights, bias])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return made.SerializeToString()


@pytest.mark.parametrize("put", [archive, folder])
def test_a_whole_package_is_whole_signed_or_not(put, tmp_path, key):
    found = verify(put(tmp_path / "p.zip", contents()))
    assert found.files == 10
    assert found.bytes == sum(len(c) for n, c in contents().items() if n != "manifest.json")
    assert found.signature.startswith("unsigned")
    signed = put(tmp_path / "s.zip", contents(signed=True))
    assert verify(signed, key).signature.endswith("which is the given one")
    assert "not checked: no key was given" in verify(signed).signature


@pytest.mark.parametrize("name", [*MODELS[:2], *PAPERS])
def test_one_changed_bit_of_any_file_is_named(name, tmp_path):
    files = contents()
    middle = len(files[name]) // 2
    files[name] = bytes(
        [*files[name][:middle], files[name][middle] ^ 1, *files[name][middle + 1 :]]
    )
    with pytest.raises(PackageError, match=f"{name} is not what was packed"):
        verify(folder(tmp_path / "p", files))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (lambda: changed("extra.json", b"{}"), "extra.json is in the package, and"),
        (lambda: {k: v for k, v in contents().items() if k != "sbom.json"}, "sbom.json is missing"),
        (lambda: {k: v for k, v in contents().items() if k != "manifest.json"}, "manifest.json"),
        (lambda: changed("labels.json", b"{}"), "labels.json has 2 bytes, and"),
        (lambda: changed("../evil.json", b"{}"), "no plain file name"),
        (lambda: changed("/tmp/evil.json", b"{}"), "no plain file name"),
        (lambda: changed("a/../../evil.json", b"{}"), "no plain file name"),
        (lambda: changed("..\\evil.json", b"{}"), "no plain file name"),
        (lambda: changed(".hidden.json", b"{}"), "no plain file name"),
        (lambda: changed("model.pkl", b"\x80\x04."), "a pickle could run any code"),
        (
            lambda: [*contents().items(), ("labels.json", b"{}")],
            "labels.json is in the package twi",
        ),
        (lambda: [*contents().items(), ("LABELS.json", b"{}")], "is in the package twice"),
        (lambda: [*contents().items(), ("manifest.json", b"{}")], "manifest.json is in it 2 times"),
        (lambda: changed("zeros.json", bytes(2**23)), "is said to grow"),
        (lambda: changed("manifest.json", b"[" * 100_000), "manifest.json is no whole JSON"),
        (
            lambda: changed("manifest.json", b'{"package": 1, "package": 1}'),
            "'package' is said twi",
        ),
        (lambda: changed("manifest.json", b'{"package": 2}'), "it is of another version"),
        (lambda: changed("manifest.json", b"\xff\xfe"), "manifest.json is no whole JSON"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_does_not_belong_into_a_zip_is_refused_and_nothing_is_unpacked(
    files, says, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "p.zip", files())
    with pytest.raises(PackageError, match=says) as caught:
        verify(path)
    assert "\n" not in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["p.zip"]


def test_a_claimed_size_of_terabytes_is_refused_before_anything_is_read(tmp_path):
    path = archive(tmp_path / "p.zip", contents())
    raw = bytearray(path.read_bytes())
    at = raw.rfind(b"PK\x01\x02", 0, raw.rfind(b"student.safetensors"))
    raw[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFF0)  # the size in the directory
    path.write_bytes(raw)
    with pytest.raises(PackageError, match=r"is said to grow from .* to 4,294,967,280 bytes"):
        verify(path)


def test_a_listed_size_of_terabytes_is_refused(tmp_path):
    manifest = json.loads(contents()["manifest.json"])
    manifest["files"]["student.onnx"]["bytes"] = 10**13
    with pytest.raises(PackageError, match="said to be larger than"):
        verify(archive(tmp_path / "p.zip", changed("manifest.json", json.dumps(manifest).encode())))


def test_no_truncated_archive_passes_or_crashes(tmp_path):
    whole = archive(tmp_path / "p.zip", contents()).read_bytes()
    for share in range(20):
        path = tmp_path / "cut.zip"
        path.write_bytes(whole[: len(whole) * share // 20])
        with pytest.raises(PackageError, match="no whole zip"):
            verify(path)


def test_links_and_folders_in_a_folder_are_refused(tmp_path):
    path = folder(tmp_path / "p", contents())
    (path / "labels.json").unlink()
    (path / "labels.json").symlink_to("/etc/passwd")
    with pytest.raises(PackageError, match=r"labels.json is no plain file"):
        verify(path)
    (path / "labels.json").unlink()
    (path / "labels.json").mkdir()
    with pytest.raises(PackageError, match=r"labels.json is no plain file"):
        verify(path)


def test_a_link_in_a_zip_is_refused(tmp_path):
    path, held = tmp_path / "p.zip", zipfile.ZipInfo("link.json")
    held.external_attr = 0o120777 << 16
    with zipfile.ZipFile(archive(path, contents()), "a") as made:
        made.writestr(held, "/etc/passwd")
    with pytest.raises(PackageError, match=r"link.json is no plain file"):
        verify(path)


BROKEN = save({"w": torch.tensor([1.0, float("nan")])})


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("student.onnx", lambda: network(float("nan")), "answers zeros with NaN or infinite"),
        (
            "student.onnx",
            lambda: network(width=9),
            r"answers with \(1, 9\), and labels.json has 10",
        ),
        ("student.onnx", lambda: network(outside=True), "points to files outside of it"),
        ("student.onnx", lambda: b"not a model", "student.onnx is no whole ONNX file"),
        ("student.onnx", lambda: b"", "student.onnx cannot be loaded"),
        ("student.safetensors", lambda: b"\x80\x04not tensors", "no whole safetensors file"),
        ("student.safetensors", lambda: BROKEN, "w holds NaN"),
        ("labels.json", lambda: b'{"labels": 10}', "labels is no list of texts"),
        ("labels.json", lambda: b"[]", "labels.json holds no object"),
        ("preprocessing.json", lambda: b"{}", "preprocessing.json states no inputs"),
        (
            "preprocessing.json",
            lambda: b'{"inputs": {"inputs": {"shape": [100000, 100000], "dtype": "float32"}}}',
            "the shape of inputs is",
        ),
        (
            "preprocessing.json",
            lambda: b'{"inputs": {"inputs": {"shape": [1, 28, 28], "dtype": "uint8"}}}',
            "inputs is 'uint8', and student.onnx takes tensor",
        ),
        (
            "preprocessing.json",
            lambda: b'{"inputs": {"inputs": {"shape": [3, 2, 2], "dtype": "float32"}}}',
            "cannot answer zeros of the stated shape",
        ),
    ],
)
def test_models_must_load_and_answer_even_where_all_hashes_are_right(name, content, says, tmp_path):
    files = listed_anew(changed(name, content()))
    with pytest.raises(PackageError, match=says):
        verify(archive(tmp_path / "p.zip", files))


def test_the_model_of_these_tests_is_fine_where_it_is_not_spoilt(tmp_path):
    files = listed_anew(changed("student.onnx", network()))
    models = verify(archive(tmp_path / "p.zip", files)).models
    assert "student.onnx: 10 classes, float32" in models
    assert onnx.load(io.BytesIO(network())).graph.name == "g"
