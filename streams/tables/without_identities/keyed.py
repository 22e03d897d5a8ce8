"""The secret key, and what is made by it: hashes of ids, and the days by which a patient's dates are shifted."""

import hashlib
import hmac
from functools import lru_cache

from fhirline.config.errors import ConfigurationError
from fhirline.config.secret import secret
from fhirline.config.settings import PREFIX, Settings

LEAST = 32
"""Fewest characters of the key. Ids of vendors are short numbers: whoever could guess the key would find them all."""

DIGITS = 32
"""Hex digits of a hash: 128 bits, half of HMAC-SHA256 (RFC 2104, section 5)."""

MOST_DAYS = 365


class Keyed:
    """Functions of a secret key. Each purpose has a key of its own, made of the secret one."""

    def __init__(self, key: str) -> None:
        secret_key = key.encode()
        self._of_ids = hmac.digest(secret_key, b"fhirline without identities: ids", "sha256")
        self._of_days = hmac.digest(secret_key, b"fhirline without identities: days", "sha256")
        self.digest = hmac.digest(secret_key, b"fhirline without identities: digest", "sha256").hex()
        """A text that changes with the key, and reveals nothing of it."""
        self.hash = lru_cache(maxsize=65_536)(self._hash)
        self.days = lru_cache(maxsize=65_536)(self._days)

    def _hash(self, text: str) -> str:
        """Return the keyed hash of an id. Equal ids have equal hashes in all tables.

        >>> len(Keyed("k" * 32).hash("p-1")), Keyed("k" * 32).hash("p-1") == Keyed("l" * 32).hash("p-1")
        (32, False)
        """
        return hmac.digest(self._of_ids, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()[:DIGITS]

    def _days(self, patient_id: str) -> int:
        """Return by how many days the dates of a patient are moved into the past: 1 to 365."""
        found = hmac.digest(self._of_days, patient_id.encode("utf-8", "surrogatepass"), "sha256")
        return 1 + int.from_bytes(found[:8]) % MOST_DAYS


def research_key(settings: Settings) -> str:
    """Return the secret key. Raises ConfigurationError, which never shows it."""
    key = (secret(settings, "research_key") or "").strip()
    if not key:
        raise ConfigurationError(
            f"{PREFIX}RESEARCH_KEY is not set: the tables without identities need a secret key; name a file with one "
            f"by {PREFIX}RESEARCH_KEY_FILE (openssl rand -hex 32)"
        )
    if len(key) < LEAST:
        raise ConfigurationError(
            f"{PREFIX}RESEARCH_KEY: has fewer than {LEAST} characters; make a new one (openssl rand -hex 32)"
        )
    return key
