"""The values of the ``Host`` header that are the console's own, as clients write them."""

import re
from ipaddress import AddressValueError, IPv6Address

from fhirline.config.errors import ConfigurationError

HTTP, HTTPS = 80, 443

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE | re.ASCII)


def own_hosts(address: str, port: int, public: str | None) -> frozenset[str]:
    """Return what ``Host`` may be, normalized, for a console that listens on an address.

    Clients leave out the default port of a URL's scheme. ``public``: the host by which a reverse proxy is reached,
    whose scheme the console does not know. Raises ConfigurationError where it is none.

    >>> sorted(own_hosts("::1", 8088, "console.example.org"))[2:]
    ['console.example.org', 'console.example.org:443', 'console.example.org:80', 'localhost:8088']
    >>> "localhost" in own_hosts("127.0.0.1", 80, None), "localhost" in own_hosts("127.0.0.1", 443, None)
    (True, False)
    """
    literal = f"[{address.partition('%')[0]}]" if ":" in address else address  # no client sends a zone
    names = [name for each in ("127.0.0.1", "localhost", "[::1]", literal) if (name := normalized(each))]
    hosts = {f"{name}:{port}" for name in names} | ({*names} if port == HTTP else set())
    if public is not None:
        given = normalized(public)
        if not given:
            raise ConfigurationError("FHIRLINE_CONSOLE_PUBLIC_HOST: no host, such as console.example.org or [::1]:8443")
        bare = re.sub(f":({HTTP}|{HTTPS})$", "", given)
        default = bare != given or re.search(r":\d+$", given) is None
        hosts |= {bare, f"{bare}:{HTTP}", f"{bare}:{HTTPS}"} if default else {given}
    return frozenset(hosts)


def normalized(host: str) -> str:
    """Write a host in one way: lower case, an IPv6 address as short as it can be. Empty for what is no host.

    >>> [normalized(host) for host in ("LocalHost:8088", "[0:0::0001]:80", "[::1", "::1", "a:b@localhost", "[::g]")]
    ['localhost:8088', '[::1]:80', '', '', '', '']
    """
    found = _HOST.fullmatch(host)
    if found is None:
        return ""
    name = found["name"].lower()
    if name.startswith("["):
        try:
            name = f"[{IPv6Address(name[1:-1])}]"
        except AddressValueError:
            return ""
    return name if found["port"] is None else f"{name}:{int(found['port'])}"
