"""Who made a package: signatures that are absent, wrong, made up, or of another kind of key."""

import hashlib
import json
import os

import pytest

from package_samples import SECRET, archive, contents, listed_anew
from tutelage.core.errors import PackageError, RecipeError
from tutelage.deployment.verify import verify


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(SECRET)
    return path


def test_an_unsigned_package_is_refused_where_a_key_is_given(tmp_path, key):
    with pytest.raises(PackageError, match="the package is unsigned"):
        verify(archive(tmp_path / "p.zip", contents()), key)


def test_a_forged_list_is_found_by_its_signature_alone(tmp_path, key):
    forged = listed_anew({**contents(signed=True), "MODEL_CARD.md": b"---\nlicense: mit\n---\n"})
    path = archive(tmp_path / "p.zip", forged)
    assert "not checked" in verify(path).signature
    with pytest.raises(PackageError, match=r"the signature is not that of manifest.json"):
        verify(path, key)


def test_another_key_is_refused_by_its_name(tmp_path):
    other = tmp_path / "other"
    other.write_bytes(os.urandom(32))
    with pytest.raises(PackageError, match=r"it names key '\w{16}', the given one is \w{16}"):
        verify(archive(tmp_path / "p.zip", contents(signed=True)), other)


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"algorithm": "none", "key_id": "", "value": ""},
        {"algorithm": "Ed25519", "key_id": "x", "value": "00" * 64},
        {"algorithm": "HMAC-SHA256", "key_id": "x", "value": "zz"},
        {"algorithm": "HMAC-SHA256", "key_id": "x", "value": ""},
        {"algorithm": "HMAC-SHA256", "key_id": ["x"], "value": 7},
    ],
)
def test_no_made_up_signature_passes(written, tmp_path, key):
    files = {**contents(signed=True), "signature.json": json.dumps(written).encode()}
    with pytest.raises(PackageError, match=r"signature.json: "):
        verify(archive(tmp_path / "p.zip", files), key)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"password", "holds 8 bytes, and a secret has at least 32"),
        (b"", "holds 0 bytes"),
        (None, "cannot be read"),
    ],
)
def test_a_weak_or_absent_key_is_wrong_input(content, says, tmp_path):
    key = tmp_path / "weak"
    if content is not None:
        key.write_bytes(content)
    with pytest.raises(RecipeError, match=says):
        verify(archive(tmp_path / "p.zip", contents(signed=True)), key)


@pytest.fixture
def pair(tmp_path):
    pytest.importorskip("cryptography", reason='needs pip install "tutelage[sign]"')
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric import ed25519

    secret = ed25519.Ed25519PrivateKey.generate()
    plain = forms.NoEncryption()
    (tmp_path / "secret.pem").write_bytes(
        secret.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, plain)
    )
    (tmp_path / "public.pem").write_bytes(
        secret.public_key().public_bytes(
            forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return tmp_path / "secret.pem", tmp_path / "public.pem"


def test_a_public_key_checks_what_the_private_one_signed(pair, tmp_path, key):
    from tutelage.deployment.signature import sign

    secret, public = pair
    files = contents()
    files["signature.json"] = json.dumps(sign(files["manifest.json"], secret)).encode()
    path = archive(tmp_path / "p.zip", files)
    assert "signed with Ed25519" in verify(path, public).signature
    with pytest.raises(PackageError, match="is a key of HMAC-SHA256"):
        verify(path, key)
    forged = listed_anew({**files, "MODEL_CARD.md": b"---\n---\n"})
    with pytest.raises(PackageError, match="the signature is not that"):
        verify(archive(tmp_path / "f.zip", forged), public)
    with pytest.raises(RecipeError, match="no private key in PEM"):
        sign(b"", public)


def test_a_public_key_is_never_taken_for_a_secret(pair, tmp_path):
    """Else anybody who knows the public key could sign with it."""
    import hmac

    _, public = pair
    files = contents()
    value = hmac.new(public.read_bytes(), files["manifest.json"], hashlib.sha256).hexdigest()
    made = {"algorithm": "HMAC-SHA256", "key_id": "x", "value": value}
    files["signature.json"] = json.dumps(made).encode()
    with pytest.raises(PackageError, match="is a key of Ed25519"):
        verify(archive(tmp_path / "p.zip", files), public)
