"""An HTTP server of the tests that runs on a thread of its own until its context ends."""

import threading
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Self


class LocalServer:
    """Serves ``http`` while the context lasts."""

    def __init__(self, http: ThreadingHTTPServer) -> None:
        self.http = http
        self._thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.http.shutdown()
        self._thread.join()
        self.http.server_close()
