"""Names and ids: the same vendor record always gets the same FHIR id (mapping.md §4, test vectors in §4.1)."""

import hashlib
import unicodedata
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from uuid import NAMESPACE_URL, uuid5

from fhirline.config.terminology import norm

__all__ = ["Naming", "Part", "decimal_text", "escape", "key", "norm"]

Part = str | int | float | Decimal | None


def escape(part: Part) -> str:
    """One component of a key: ``%``, ``|`` and ``/`` escaped, numbers in shortest decimal form, absent is ``-``."""
    if part is None:
        return "-"
    text = part if isinstance(part, str) else decimal_text(part)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return text.replace("%", "%25").replace("|", "%7C").replace("/", "%2F") or "-"


def decimal_text(number: int | float | Decimal) -> str:
    """A JSON number without exponent or trailing zeros: 1.0 → ``1``, 1e3 → ``1000``."""
    if isinstance(number, int):
        return str(number)
    if not number:
        return "0"  # also -0: equal numbers have one name
    plain = format(number if isinstance(number, Decimal) else Decimal(repr(number)), "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def key(*parts: Part) -> str:
    """Key parts joined by ``/``, each escaped."""
    return "/".join(map(escape, parts))


@lru_cache(maxsize=4096, typed=True)
def _id(namespace: bytes, vendor: str, tenant: str, resource_type: str, kind: str, *parts: Part) -> str:
    """Cached, since an event names its patient a dozen times; typed, since 1 and True are equal and named apart."""
    return _uuid5(namespace, f"v1|{vendor}|{tenant}|{resource_type}|{kind}|{key(*parts)}")


def _uuid5(namespace: bytes, name: str) -> str:
    """RFC 9562 §5.5, without the cost of a UUID object."""
    digits = hashlib.sha1(namespace + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


@dataclass(frozen=True, slots=True)
class Naming:
    """Everything that is named under BASE, which is fixed for the life of a deployment."""

    base: str
    server_base: str = ""
    _namespace: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_namespace", uuid5(NAMESPACE_URL, self.base).bytes)
        object.__setattr__(self, "server_base", self.server_base or self.base)

    def id(self, vendor: str, tenant: str, resource_type: str, kind: str, *parts: Part) -> str:
        """UUIDv5 of ``v1|vendor|tenant|ResourceType|kind|k1/k2/…`` in the deployment's name space; 36 characters."""
        return _id(self._namespace, vendor, tenant, resource_type, kind, *parts)

    def sid(self, vendor: str, tenant: str, kind: str) -> str:
        """``identifier.system`` of a vendor's own ids (mapping.md §4.2)."""
        return f"{self.base}/sid/{vendor}/{tenant}/{kind}"

    def code_system(self, name: str) -> str:
        return f"{self.base}/CodeSystem/{name}"

    def extension(self, name: str) -> str:
        return f"{self.base}/StructureDefinition/{name}"
