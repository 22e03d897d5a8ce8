"""Declare the settings of connections to Kafka, and of its topics."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, SecretStr


class KafkaSettings(BaseModel):
    """Settings to connect to Kafka, and to make its topics."""

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
