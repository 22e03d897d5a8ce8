"""Declare the settings of ``fhirline deliver`` (docs/delivery.md)."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, SecretStr


class DeliverySettings(BaseModel):
    """Settings to deliver to a FHIR server (docs/delivery.md)."""

    fhir_server: Annotated[
        str | None, Field(description="Base URL of the FHIR R4 server that deliver sends Bundles to, https://...")
    ] = None
    fhir_profile: Annotated[
        Literal["auto", "hapi", "medplum", "azure", "google", "healthlake", "generic"],
        Field(description="Kind of FHIR server; auto: recognised by its CapabilityStatement or host, else generic"),
    ] = "auto"
    fhir_ca_file: Annotated[
        Path | None, Field(description="CA certificates (PEM) of the FHIR server, if not the system's")
    ] = None
    fhir_auth: Annotated[
        Literal["none", "basic", "bearer", "client_secret_basic", "client_secret_post", "private_key_jwt"],
        Field(description="How deliver authorizes its requests; the last three get tokens by OAuth 2"),
    ] = "none"
    fhir_username: Annotated[str | None, Field(description="basic: user at the FHIR server")] = None
    fhir_password: Annotated[SecretStr | None, Field(description="basic: password")] = None
    fhir_password_file: Annotated[
        Path | None, Field(description="basic: file that holds the password; read for each request")
    ] = None
    fhir_token_file: Annotated[
        Path | None, Field(description="bearer: file that holds the token; read for each request")
    ] = None
    fhir_oauth_token_url: Annotated[
        str | None,
        Field(description="OAuth: token endpoint, https://...; default: that of the server's smart-configuration"),
    ] = None
    fhir_oauth_client_id: Annotated[str | None, Field(description="OAuth: client id")] = None
    fhir_oauth_client_secret: Annotated[
        SecretStr | None, Field(description="client_secret_basic, client_secret_post: client secret")
    ] = None
    fhir_oauth_client_secret_file: Annotated[
        Path | None, Field(description="OAuth: file that holds the client secret; read again for each token")
    ] = None
    fhir_oauth_key_file: Annotated[
        Path | None,
        Field(description="private_key_jwt: file with the private key, as PEM, JWK or JWK set; read for each token"),
    ] = None
    fhir_oauth_key_id: Annotated[
        str | None, Field(description="private_key_jwt: key id (kid) as registered; default: the JWK's own")
    ] = None
    fhir_oauth_scope: Annotated[
        str | None, Field(description="OAuth: scopes, separated by spaces, such as system/*.cruds")
    ] = None
    fhir_oauth_ca_file: Annotated[
        Path | None, Field(description="OAuth: CA certificates (PEM) of the token endpoint, if not the system's")
    ] = None
    fhir_purge: Annotated[
        bool,
        Field(description="Purge the history of erased patients' resources at the server, where its profile knows how"),
    ] = True
    deliver_requests: Annotated[
        int, Field(ge=1, le=1_000, description="Most requests at once; fewer while the server is slow or overloaded")
    ] = 8
    deliver_entries: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="Most entries of a transaction, if the profile has no lower limit; a larger Bundle is sent in "
            "parts",
        ),
    ] = 1_000
    deliver_timeout: Annotated[float, Field(gt=0, description="Seconds a request to the FHIR server may take")] = 60.0
    deliver_bundles: Annotated[
        int, Field(ge=1, le=100_000, description="Most Bundles in memory, those that wait in a lane included")
    ] = 500
    deliver_bytes: Annotated[
        int, Field(ge=1, description="Bytes of Bundles in memory from which on no more are read")
    ] = 67_108_864
    deliver_retry_first: Annotated[
        float, Field(gt=0, description="Seconds before a first retry; doubles each time, with jitter")
    ] = 0.2
    deliver_retry_longest: Annotated[float, Field(gt=0, description="Most seconds between two retries")] = 30.0
    deliver_conflicts: Annotated[
        int, Field(ge=1, le=1_000, description="Conflicts of a Bundle until it becomes a dead letter")
    ] = 12
    deliver_unexplained: Annotated[
        float,
        Field(ge=0, description="Seconds of 4xx answers that are no OperationOutcome until they count as a refusal"),
    ] = 900.0
