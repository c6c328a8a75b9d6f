"""Connections to others: no cookies, no proxy of the environment, no link-local address."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ssl import SSLContext
from typing import Any

import httpx


class LinkLocalError(httpx.ConnectError):
    """A name led to an address where clouds tell their machines' secrets."""


def connections() -> httpx.AsyncClient:
    """A pool of connections that several servers may share.

    It keeps no cookies, since a session of one token must not go with another; it uses no proxy of
    the environment, since nothing may leave for another host; SSL_CERT_FILE is honoured.
    LinkLocalError for a name that leads there.
    """
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    return httpx.AsyncClient(
        trust_env=False,
        verify=tls(),
        cookies=no_cookies,
        event_hooks={"request": [watch]},
    )


def tls() -> SSLContext:
    """Whom to trust, read once: reading it takes long enough to be noticed by other callers."""
    return _tls(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _tls(_file: str | None, _directory: str | None) -> SSLContext:
    return httpx.create_ssl_context()


async def watch(request: httpx.Request) -> None:
    """Have a look at where the request's connection leads, before anything is sent."""
    request.extensions = {**request.extensions, "trace": _refuse_link_local}


async def _refuse_link_local(event: str, info: Mapping[str, Any]) -> None:
    if event != "connection.connect_tcp.complete":
        return
    connection = info["return_value"]
    address = connection.get_extra_info("server_addr")
    if address and is_link_local(address[0]):
        await connection.aclose()
        raise LinkLocalError("link-local")


def is_link_local(address: str) -> bool:
    """Whether an IP address is one (169.254.0.0/16, fe80::/10)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return (getattr(ip, "ipv4_mapped", None) or ip).is_link_local
