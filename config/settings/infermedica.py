"""Declare the settings of requests to Infermedica: enrichment and webhook configurations."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, SecretStr


class InfermedicaSettings(BaseModel):
    """Settings to ask Infermedica's API: enrichment and webhook configurations."""

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
