"""Security for the tests' Apache Kafka: TLS, SASL users, and ACLs that allow nothing which was not granted.

The broker gets one listener more, ``SECURE`` (SASL_SSL: SCRAM-SHA-512, OAUTHBEARER with unsigned tokens), and it is the
only one that a process under test is told of. The plaintext listener stays for the tests' own set-up: whoever comes by
it is ``User:ANONYMOUS``, the one super user.
"""

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, and not exported by the package's types
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from fhirline.config.settings import Settings
from fhirline.streams.kafka.acl_check import kafka_name
from fhirline.topics.privileges import Grant
from tests.support.waiting import LIMIT, wait_until

HOST = "127.0.0.1"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
OAUTH = (
    "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=broker;"
)
UNSIGNED = "org.apache.kafka.common.security.oauthbearer.internals.unsecured.OAuthBearerUnsecured"


@dataclass(frozen=True)
class Security:
    """Users (name → password) and the folder that the certificates are made in."""

    folder: Path
    users: dict[str, str] = field(default_factory=dict)

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def other_ca(self) -> Path:
        """A certificate authority that has signed nothing here."""
        return self.folder / "other-ca.pem"

    def properties(self) -> dict[str, str]:
        """Return the broker's properties besides those of its listeners."""
        own = "listener.name.secure"
        return {
            f"{own}.sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
            f"{own}.scram-sha-512.sasl.jaas.config": SCRAM,
            f"{own}.oauthbearer.sasl.jaas.config": OAUTH,
            f"{own}.oauthbearer.sasl.login.callback.handler.class": f"{UNSIGNED}LoginCallbackHandler",
            f"{own}.oauthbearer.sasl.server.callback.handler.class": f"{UNSIGNED}ValidatorCallbackHandler",
            f"{own}.ssl.keystore.type": "PEM",
            f"{own}.ssl.keystore.location": str(self.folder / "broker.pem"),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": "User:ANONYMOUS",
        }

    def format_arguments(self) -> list[str]:
        """SCRAM users exist from the format on."""
        return [
            argument
            for name, password in self.users.items()
            for argument in ("--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]")
        ]

    def make_certificates(self) -> None:
        """A CA that signs the broker's certificate for 127.0.0.1, and a CA that signs nothing."""
        for name in ("ca", "other-ca"):
            self._openssl(
                *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
                *("-keyout", f"{name}.key", "-out", f"{name}.pem"),
            )
        self._openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=broker"),
            *("-keyout", "broker.key", "-out", "broker.csr"),
        )
        (self.folder / "san").write_text(f"subjectAltName=IP:{HOST}\n")
        self._openssl(
            *("x509", "-req", "-in", "broker.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "2", "-extfile", "san", "-out", "broker.crt"),
        )
        parts = ("broker.key", "broker.crt", "ca.pem")
        (self.folder / "broker.pem").write_text("".join((self.folder / part).read_text() for part in parts))

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=LIMIT)

    def settings(self, bootstrap: str, user: str, **more: Any) -> Settings:
        """Settings of a user who comes by SCRAM."""
        scram = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": user, "sasl_password": self.users[user]}
        return Settings(
            _env_file=None,
            **{"bootstrap": bootstrap, "security_protocol": "SASL_SSL", "ssl_ca_file": self.ca, **scram, **more},
        )


class Acls:
    """Grants and revokes, by the super user; each returns when the broker shows it."""

    def __init__(self, bootstrap: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap})

    def grant(self, user: str, grants: Iterable[Grant]) -> None:
        wanted = [binding(user, grant) for grant in grants]
        for made in self._admin.create_acls(wanted).values():
            made.result(LIMIT)
        wait_until(lambda: set(wanted) <= self.of(user), f"{user} does not get its privileges")

    def revoke(self, user: str, grant: Grant) -> None:
        gone = binding(user, grant)
        filters = [AclBindingFilter(*(getattr(gone, item) for item in FIELDS))]
        for deleted in self._admin.delete_acls(filters).values():
            assert deleted.result(LIMIT) == [gone]
        wait_until(lambda: gone not in self.of(user), f"{user} keeps a privilege")

    def of(self, user: str) -> set[AclBinding]:
        any_of_user = AclBindingFilter(
            ResourceType.ANY,
            None,  # type: ignore[arg-type]  # None matches any, which the stub does not say
            ResourcePatternType.ANY,
            f"User:{user}",
            None,  # type: ignore[arg-type]  # as above
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        return set(self._admin.describe_acls(any_of_user).result(LIMIT))


FIELDS = ("restype", "name", "resource_pattern_type", "principal", "host", "operation", "permission_type")
OPERATIONS = {kafka_name(operation): operation for operation in AclOperation}


def binding(user: str, grant: Grant) -> AclBinding:
    return AclBinding(
        ResourceType[grant.resource.upper()],
        grant.name,
        ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        OPERATIONS[grant.operation],
        AclPermissionType.ALLOW,
    )
