"""Authentication of a client by a signed assertion: ``private_key_jwt``, as SMART backend services ask for it.

The key is RSA (RS384) or EC on P-384 (ES384), the two algorithms that SMART names, from a PEM file, a JWK or a JWK set.
"""

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fhirline.config.errors import ConfigurationError
from fhirline.config.secret import read_secret_file
from fhirline.streams.http.tokens import Authenticate, Form, Headers

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LIFE_SECONDS = 240
"""Seconds. SMART allows five minutes at most; the rest is for a clock of ours that is fast."""

LEAST_BITS = 2048
PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, the ``kid`` under which its public key is registered, and the algorithm that it is for."""

    key: PrivateKey
    id: str
    algorithm: str

    def __repr__(self) -> str:
        return f"SigningKey({self.id}, {self.algorithm})"


def signed_assertion(client_id: str, key: Callable[[], SigningKey]) -> Authenticate:
    """Authenticate by ``private_key_jwt``. The key is asked for at each request: its file may have changed."""

    def authenticate(endpoint: str, form: Form) -> Headers:
        signing, now = key(), int(time.time())
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": endpoint,
            "iat": now,
            "exp": now + LIFE_SECONDS,
            "jti": secrets.token_urlsafe(24),
        }
        assertion = jwt.encode(claims, signing.key, signing.algorithm, headers={"kid": signing.id})
        form.update(client_assertion_type=ASSERTION_TYPE, client_assertion=assertion)
        return {}

    return authenticate


def read_key(setting: str, path: Path, id_setting: str, id: str | None) -> SigningKey:
    """Read the key of a file that a setting names. ``id``: its ``kid``, which also chooses from a set.

    Raises ConfigurationError, which does not quote the file.
    """
    text, where = read_secret_file(setting, path), f"{setting}: {path}"
    if text.startswith("{"):
        found = _jwk(text, where, id_setting, id)
        id = id or found.get("kid")
        key = _key_of_jwk(found, where)
        named = found.get("alg")
    else:
        key, named = _key_of_pem(text, where), None
    algorithm = _algorithm(key, where)
    if named not in (None, algorithm):
        raise ConfigurationError(f"{where}: the key's alg is not {algorithm}; SMART servers take RS384 or ES384")
    if not isinstance(id, str) or not id:
        raise ConfigurationError(f"{id_setting} is not set, and {path} names no kid: servers find the public key by it")
    return SigningKey(key, id, algorithm)


def _algorithm(key: PrivateKey, where: str) -> str:
    if isinstance(key, RSAPrivateKey) and key.key_size >= LEAST_BITS:
        return "RS384"
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP384R1):
        return "ES384"
    raise ConfigurationError(f"{where}: must be an RSA key of {LEAST_BITS} bits or more, or an EC key on P-384")


def _key_of_pem(text: str, where: str) -> PrivateKey:
    try:
        key = load_pem_private_key(text.encode(), None)
    except TypeError:
        raise ConfigurationError(f"{where}: the key is encrypted; store it without a password, mode 0600") from None
    except Exception:  # noqa: BLE001  # of OpenSSL, several
        raise ConfigurationError(f"{where}: no private key in PEM, JWK or JWK set") from None
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey):
        raise ConfigurationError(f"{where}: must be an RSA or an EC key")
    return key


def _jwk(text: str, where: str, id_setting: str, id: str | None) -> dict[str, Any]:
    """Return the JWK of a file; of a set, the private key with the ``kid``, or the only one."""
    try:
        found = json.loads(text)
    except ValueError:
        raise ConfigurationError(f"{where}: not valid JSON") from None
    if not isinstance(found.get("keys"), list):
        return dict(found)
    private = [key for key in found["keys"] if isinstance(key, dict) and "d" in key]
    chosen = [item for item in private if id is None or item.get("kid") == id]
    if len(chosen) != 1:
        raise ConfigurationError(f"{where}: {len(chosen)} private keys to choose from: set {id_setting} to one's kid")
    return chosen[0]


def _key_of_jwk(found: dict[str, Any], where: str) -> PrivateKey:
    kind = {"RSA": "RS384", "EC": "ES384"}.get(str(found.get("kty")))
    if kind is None or "d" not in found:
        raise ConfigurationError(f"{where}: must be a private RSA or EC key (kty, d)")
    try:
        key = jwt.PyJWK(found, algorithm=kind).key
    except Exception:  # noqa: BLE001  # of PyJWT and of OpenSSL, several
        raise ConfigurationError(f"{where}: not a valid JWK") from None
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey):
        raise ConfigurationError(f"{where}: must be a private RSA or EC key (kty, d)")
    return key
