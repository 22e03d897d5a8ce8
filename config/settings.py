"""Settings of every process, from ``FHIRLINE_*`` environment variables or an ``.env`` file.

``fhirline settings`` prints every field with its description; docs/settings.md lists them.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fhirline.config.errors import ConfigurationError

PREFIX = "FHIRLINE_"
DEFAULT_BASE = "https://fhirline.example.org"
Validation = Literal["spec", "fhir.resources", "both", "off"]


class Settings(BaseSettings):
    """All settings; immutable once read. Units are in the descriptions."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    # Kafka
    bootstrap: Annotated[str, Field(description="Kafka bootstrap servers, host:port[,host:port]")] = "127.0.0.1:9092"
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        Field(description="Protocol of the brokers"),
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None,
        Field(description="SASL mechanism, with SASL_PLAINTEXT or SASL_SSL"),
    ] = None
    sasl_username: Annotated[str | None, Field(description="SASL user")] = None
    sasl_password: Annotated[SecretStr | None, Field(description="SASL password")] = None
    sasl_password_file: Annotated[Path | None, Field(description="File that holds the SASL password")] = None
    sasl_oauth_token_url: Annotated[
        str | None, Field(description="OAUTHBEARER: token endpoint, https://... (client credentials grant)")
    ] = None
    sasl_oauth_client_id: Annotated[str | None, Field(description="OAUTHBEARER: client id")] = None
    sasl_oauth_client_secret: Annotated[SecretStr | None, Field(description="OAUTHBEARER: client secret")] = None
    sasl_oauth_client_secret_file: Annotated[
        Path | None, Field(description="OAUTHBEARER: file that holds the client secret; read again for each token")
    ] = None
    sasl_oauth_scope: Annotated[str | None, Field(description="OAUTHBEARER: scopes, separated by spaces")] = None
    sasl_oauth_ca_file: Annotated[
        Path | None, Field(description="OAUTHBEARER: CA certificates (PEM) of the token endpoint, if not the system's")
    ] = None
    ssl_ca_file: Annotated[Path | None, Field(description="CA certificates (PEM) that sign the brokers'")] = None
    ssl_certificate_file: Annotated[Path | None, Field(description="Client certificate (PEM)")] = None
    ssl_key_file: Annotated[Path | None, Field(description="Client key (PEM)")] = None
    ssl_key_password: Annotated[SecretStr | None, Field(description="Password of an encrypted client key")] = None
    ssl_key_password_file: Annotated[
        Path | None, Field(description="File that holds the password of an encrypted client key")
    ] = None
    partitions: Annotated[
        int,
        Field(
            ge=1,
            le=10_000,
            description="Partitions of raw, state and fhir.r4 topics; fixed once topics exist",
        ),
    ] = 6
    replication_factor: Annotated[int, Field(ge=1, le=9, description="Replicas of each topic")] = 1
    message_max_bytes: Annotated[
        int, Field(ge=65_536, description="Largest record, bytes: for topics and producers")
    ] = 20_971_520
    delivery_timeout: Annotated[
        float, Field(gt=0, description="Seconds until an unacknowledged record counts as failed")
    ] = 20.0

    # Identity
    base: Annotated[
        str,
        Field(description="BASE of identifier systems and resource ids; never change it in a deployment"),
    ] = DEFAULT_BASE
    server_base: Annotated[str | None, Field(description="Base of Bundle.entry.fullUrl; default: BASE")] = None
    vendors_file: Annotated[
        Path | None, Field(description="vendors.yaml of this deployment; default: the packaged one")
    ] = None
    terminology_dir: Annotated[
        Path | None, Field(description="Folder of code tables that override or extend the packaged ones")
    ] = None

    # Erasure (docs/erasure.md)
    erasure_key: Annotated[
        SecretStr | None,
        Field(
            description="Secret for hashing erased patients' keys, for worker, enrich, deliver and operators' commands "
            "only; the same for all of them, never changed"
        ),
    ] = None
    erasure_key_file: Annotated[Path | None, Field(description="File that holds the erasure key")] = None
    compaction_days: Annotated[
        int,
        Field(
            ge=1,
            le=3_650,
            description="Days until compaction removes values that were replaced or deleted",
        ),
    ] = 7

    # Gateway
    gateway_host: Annotated[str, Field(description="Address the gateway listens on")] = "127.0.0.1"
    gateway_port: Annotated[int, Field(ge=0, le=65_535, description="Port; 0 takes a free one")] = 8080
    max_body_bytes: Annotated[int, Field(ge=1_024, description="Largest webhook body, bytes (then 413)")] = 4_194_304
    max_depth: Annotated[int, Field(ge=8, le=200, description="Deepest nesting of a webhook body (then 400)")] = 64
    max_in_flight: Annotated[int, Field(ge=1, description="Requests a gateway handles at once (then 429)")] = 1_000
    unverified_bodies: Annotated[
        int,
        Field(
            ge=1,
            description="Bodies of a vendor being read before their signature is checked; then the oldest gets 429",
        ),
    ] = 100
    unverified_body_bytes: Annotated[
        int, Field(ge=1, description="Bytes of these together, at least FHIRLINE_MAX_BODY_BYTES")
    ] = 16_777_216
    gateway_delivery_timeout: Annotated[
        float, Field(gt=0, description="Seconds a webhook waits for Kafka's acknowledgement (then 503)")
    ] = 10.0
    gateway_read_timeout: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds a sender has for the headers of a request, and again for its body (then 408)",
        ),
    ] = 30.0

    # Worker
    group: Annotated[
        str,
        Field(
            pattern=r"^[a-zA-Z0-9._-]{1,200}$",
            description="Consumer group of the workers; other groups' names begin with it",
        ),
    ] = "fhirline"
    vendors: Annotated[
        tuple[str, ...] | None,
        Field(description='Vendors whose events a worker reads, as JSON (["mediquo"]); default: all'),
    ] = None
    batch_size: Annotated[int, Field(ge=1, le=10_000, description="Most events of a batch")] = 500
    batch_within: Annotated[
        float, Field(gt=0, le=5, description="Seconds that the first event of a batch waits for more")
    ] = 0.005
    session_timeout: Annotated[
        float, Field(ge=3, le=300, description="Seconds without a heartbeat until a process loses its partitions")
    ] = 30.0
    stop_timeout: Annotated[
        float,
        Field(ge=1, le=3600, description="Seconds after SIGTERM in which a worker ends in order; then uncommitted"),
    ] = 25.0
    validation: Annotated[Validation, Field(description="Validator of each resource before it is published")] = "spec"

    # Infermedica's API: enrichment and webhook configurations
    infermedica_url: Annotated[
        str | None, Field(description="Your Infermedica instance, https://...; vendors.yaml may name a tenant's own")
    ] = None
    infermedica_client_id: Annotated[str | None, Field(description="OAuth client id at the instance")] = None
    infermedica_client_secret: Annotated[SecretStr | None, Field(description="OAuth client secret")] = None
    infermedica_client_secret_file: Annotated[
        Path | None, Field(description="File that holds the OAuth client secret; read again for each new token")
    ] = None
    infermedica_scopes: Annotated[
        str | None,
        Field(
            description="OAuth scopes, separated by spaces, {url} for the instance; default: for enrich "
            "{url}/survey.read {url}/evidence_assessment.read, for webhooks none"
        ),
    ] = None
    infermedica_timeout: Annotated[float, Field(gt=0, description="Seconds a request to the instance may take")] = 10.0
    enrich_requests: Annotated[int, Field(ge=1, le=1_000, description="Requests to an instance at once")] = 16
    enrich_surveys: Annotated[
        int, Field(ge=1, le=100_000, description="Most surveys being fetched, those that wait for a retry included")
    ] = 2_000
    enrich_retry_first: Annotated[
        float, Field(gt=0, description="Seconds before a first retry; doubles each time, with jitter")
    ] = 1.0
    enrich_retry_longest: Annotated[float, Field(gt=0, description="Most seconds between two retries")] = 60.0
    enrich_give_up_after: Annotated[
        float, Field(ge=0, description="Seconds of retrying after which a survey becomes a dead letter")
    ] = 900.0

    # Delivery to a FHIR server (docs/delivery.md)
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
        int, Field(ge=1, le=1_000, description="Most requests at once; fewer while the server struggles")
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
        int, Field(ge=1, le=100_000, description="Most Bundles in hand, those that wait in a lane included")
    ] = 500
    deliver_bytes: Annotated[
        int, Field(ge=1, description="Bytes of Bundles in hand from which on no more are read")
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

    # Tables (docs/warehouse.md)
    tables_url: Annotated[
        str | None,
        Field(
            description="Where the tables are: postgresql://user@host/database, without password, duckdb:FILE or "
            "delta:FOLDER"
        ),
    ] = None
    tables_password: Annotated[SecretStr | None, Field(description="Password of the PostgreSQL user")] = None
    tables_password_file: Annotated[
        Path | None, Field(description="File that holds the password; read at each connection")
    ] = None
    tables_schema: Annotated[
        str, Field(pattern=r"^[a-z][a-z0-9_]{0,50}$", description="Schema of the tables in the database")
    ] = "fhir"
    tables_without_identities: Annotated[
        bool, Field(description="Keep the tables without identities instead (docs/without-identities.md)")
    ] = False
    research_schema: Annotated[
        str, Field(pattern=r"^[a-z][a-z0-9_]{0,50}$", description="Schema of the tables without identities")
    ] = "without_identities"
    research_key: Annotated[
        SecretStr | None, Field(description="Secret for hashing ids and moving dates, 32 characters or more")
    ] = None
    research_key_file: Annotated[Path | None, Field(description="File that holds that secret")] = None
    research_dates: Annotated[
        Literal["shift", "year"],
        Field(description="shift: a patient's dates are moved, all by the same days; year: only years are kept"),
    ] = "shift"
    encryption: Annotated[
        SecretStr | None,
        Field(description="Index secret and key-encryption keys, with which events are kept (docs/encryption.md)"),
    ] = None
    encryption_file: Annotated[
        Path | None, Field(description="File that holds them; `fhirline keys new` makes one")
    ] = None
    tables_views: Annotated[
        Path | None, Field(description="Folder of ViewDefinitions that extend or replace those that ship")
    ] = None
    tables_batch: Annotated[int, Field(ge=1, le=1_000_000, description="Most records of a transaction")] = 5_000
    tables_batch_bytes: Annotated[
        int, Field(ge=1, description="Bytes of records from which on a transaction takes no more")
    ] = 33_554_432
    tables_within: Annotated[
        float,
        Field(gt=0, le=60, description="Seconds that the first record of a transaction waits for more; Delta: 15"),
    ] = 0.5

    # Console (docs/console.md)
    console_host: Annotated[str, Field(description="Address that `fhirline console` listens on")] = "127.0.0.1"
    console_port: Annotated[int, Field(ge=0, le=65_535, description="Its port; 0 takes a free one")] = 8088
    console_token: Annotated[
        SecretStr | None, Field(description="Token that the console asks for; without one, each start makes its own")
    ] = None
    console_token_file: Annotated[Path | None, Field(description="File that holds the console's token")] = None
    console_user_header: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9-]{1,64}$",
            description="Header in which a reverse proxy names the person; then no token is asked for",
        ),
    ] = None
    console_public_host: Annotated[
        str | None, Field(description="Host, with port, by which a reverse proxy reaches the console, if another")
    ] = None

    # Limits of one event (mapping.md §1.1)
    max_event_values: Annotated[
        int, Field(ge=100, le=100_000, description="Values (leaves) of an event that are read; the others are cut")
    ] = 10_000
    max_list_items: Annotated[
        int, Field(ge=10, le=100_000, description="Items of a list; documents are cut there, clinical lists refused")
    ] = 1_000
    max_event_resources: Annotated[
        int,
        Field(
            ge=50,
            le=100_000,
            description="Resources of an event, constant ones not counted, then a dead letter too-complex",
        ),
    ] = 2_000
    max_event_bytes: Annotated[
        int,
        Field(
            ge=1_048_576,
            description="Bytes of an event's resources together, then a dead letter too-complex; less than "
            "FHIRLINE_MESSAGE_MAX_BYTES, since the Bundle holds them all",
        ),
    ] = 16_777_216
    max_kept_values: Annotated[
        int, Field(ge=10, le=100_000, description="Values without a FHIR element that a Provenance holds")
    ] = 500
    max_kept_bytes: Annotated[int, Field(ge=4_096, description="Bytes of these values and of their paths together")] = (
        1_048_576
    )
    max_state_entries: Annotated[
        int, Field(ge=10, le=100_000, description="Stored updates of one kind for one resource, the latest ones")
    ] = 1_000

    cross_check_every: Annotated[
        int, Field(ge=0, description="With spec: one resource in so many is also validated by fhir.resources; 0: none")
    ] = 1_000

    # Replay
    replay_dir: Annotated[
        Path, Field(description="Folder of unfinished replays: their resources, patient data included (mode 0700)")
    ] = Path("fhirline-data/replays")

    # Logs
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="Lowest severity that is logged")
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "pretty"], Field(description="auto: pretty on a terminal, else JSON")
    ] = "auto"

    # Metrics and traces
    metrics_host: Annotated[str, Field(description="Address of /metrics, /healthz and /readyz")] = "127.0.0.1"
    metrics_port: Annotated[
        int | None,
        Field(
            ge=0,
            le=65_535,
            description="Port of these, another one for each process of a host; 0 takes a free one; unset: not served",
        ),
    ] = None
    tracing_endpoint: Annotated[
        str | None,
        Field(description="Address that traces are sent to (OTLP over HTTP, http://host:4318/v1/traces); unset: none"),
    ] = None

    @field_validator("base", "server_base", "tracing_endpoint", "fhir_server")
    @classmethod
    def _absolute_url(cls, value: str | None) -> str | None:
        return absolute_url(value) if value is not None else None


def absolute_url(value: str) -> str:
    """Return an absolute http(s) URL without slashes at its end; raise ValueError for another text."""
    if not value.startswith(("http://", "https://")):
        raise ValueError("must be an absolute http(s) URL")
    return value.rstrip("/")


def load_settings(**overrides: object) -> Settings:
    """Read the settings; raise ConfigurationError with one line that names the first wrong one."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks them; callers pass field values
    except ValidationError as error:
        first, *more = error.errors(include_input=False, include_url=False, include_context=False)
        name = PREFIX + str(first["loc"][0]).upper() if first["loc"] else "settings"
        others = f" (and {len(more)} more)" if more else ""
        raise ConfigurationError(f"{name}: {first['msg']}{others}") from None
    except ValueError as error:  # pydantic-settings, for a value that must be JSON and is not
        raise ConfigurationError(f"{PREFIX}*: {str(error).splitlines()[0]}") from None
