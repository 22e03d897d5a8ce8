"""Signed assertions are accepted by a server that verifies them; a key that no server takes is named at once."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from fhirline.config.errors import ConfigurationError
from fhirline.streams.http.client_assertion import read_key, signed_assertion
from fhirline.streams.http.tokens import TokenRefused, TokenSource
from tests.support.token_server import PublicKey, TokenServer

RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP384R1())
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def pem(key: PrivateKey, encryption: KeySerializationEncryption | None = None) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()).decode()


def jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, **more: str) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        return RSAAlgorithm.to_jwk(key, as_dict=True) | more
    return ECAlgorithm.to_jwk(key, as_dict=True) | more


FILES = {
    "RSA, PEM": (pem(RSA_KEY), "rsa", "rsa"),
    "EC, PEM": (pem(EC_KEY), "ec", "ec"),
    "RSA, JWK": (json.dumps(jwk(RSA_KEY, kid="rsa", alg="RS384")), None, "rsa"),
    "EC, JWK": (json.dumps(jwk(EC_KEY, kid="ec")), None, "ec"),
    "a set": (json.dumps({"keys": [jwk(RSA_KEY, kid="rsa"), jwk(EC_KEY, kid="ec")]}), "ec", "ec"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_server_that_verifies_the_signature_gives_a_token(kind: str, tmp_path: Path) -> None:
    text, id, used = FILES[kind]
    keys: dict[str, PublicKey] = {"rsa": RSA_KEY.public_key(), "ec": EC_KEY.public_key()}
    with TokenServer({"ours": ""}, keys=keys) as server:
        source = TokenSource(server.url, signed_assertion("ours", lambda: read(tmp_path, text, id)), "system/*.cruds")
        first, second = source.token()[0], source.token(refused=source.token()[0])[0]
        assert first != second
        assert (server.asked, server.ways, server.scopes) == (2, {"private_key_jwt"}, ["system/*.cruds"] * 2)
        server.keys[used] = rsa.generate_private_key(65537, 2048).public_key()
        with pytest.raises(TokenRefused, match="answered 401 invalid_client"):
            source.token(refused=second)


WRONG = {
    "no kid": (pem(RSA_KEY), "FHIRLINE_FHIR_OAUTH_KEY_ID is not set"),
    "another curve": (pem(ec.generate_private_key(ec.SECP256R1())), "an EC key on P-384"),
    "another kind": (pem(ed25519.Ed25519PrivateKey.generate()), "must be an RSA or an EC key"),
    "encrypted": (pem(RSA_KEY, BestAvailableEncryption(b"word")), "the key is encrypted"),
    "no key": ("no key", "no private key in PEM, JWK or JWK set"),
    "no JSON": ("{", "not valid JSON"),
    "another algorithm": (json.dumps(jwk(RSA_KEY, kid="a", alg="RS256")), "the key's alg is not RS384"),
    "symmetric": (json.dumps({"kty": "oct", "k": "c2VjcmV0"}), "must be a private RSA or EC key"),
    "not whole": (json.dumps({"kty": "RSA", "d": "x", "n": "y", "e": "AQAB"}), "not a valid JWK"),
    "several": (json.dumps({"keys": [jwk(RSA_KEY, kid="a"), jwk(EC_KEY, kid="b")]}), "2 private keys to choose from"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_key_that_cannot_be_used_is_named_without_its_content(kind: str, tmp_path: Path) -> None:
    text, named = WRONG[kind]
    with pytest.raises(ConfigurationError, match=named) as error:
        read(tmp_path, text, None)
    assert not any(len(line) > 10 and line in str(error.value) for line in text.splitlines())


def read(folder: Path, text: str, id: str | None) -> Any:
    file = folder / "key"
    file.write_text(text)
    file.chmod(0o600)
    return read_key("FHIRLINE_FHIR_OAUTH_KEY_FILE", file, "FHIRLINE_FHIR_OAUTH_KEY_ID", id)
