"""Declare the settings of the console, and of the replays that it and the command line keep."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, SecretStr


class ConsoleSettings(BaseModel):
    """Settings of the console: its address, and who may use it. Also the folder of unfinished replays."""

    # Console (docs/console.md)
    console_host: Annotated[str, Field(description="Address that `fhirline console` listens on")] = "127.0.0.1"
    console_port: Annotated[int, Field(ge=0, le=65_535, description="Port of the console; 0 takes a free one")] = 8088
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
        str | None,
        Field(description="Host that a reverse proxy sends, if another; with its port, unless that is 80 or 443"),
    ] = None

    # Replay
    replay_dir: Annotated[
        Path, Field(description="Folder of unfinished replays: their resources, patient data included (mode 0700)")
    ] = Path("fhirline-data/replays")
