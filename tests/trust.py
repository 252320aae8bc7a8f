"""Servers over TLS whose certificates a project's own authority has signed."""

from __future__ import annotations

import ssl

import trustme

from tests.faultapi import FaultAPI
from tests.project import Project


class Trust:
    """An authority, servers it vouches for, and its files in a project."""

    def __init__(self, project: Project) -> None:
        self.authority = trustme.CA()
        self.project = project
        self.servers: list[FaultAPI] = []
        self.authority.cert_pem.write_to_path(str(project.folder / "ca.pem"))

    def server(self, *, ask: bool = False, newest: bool = True) -> FaultAPI:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        if ask:
            context.verify_mode = ssl.CERT_REQUIRED
            self.authority.configure_trust(context)
        if not newest:
            # Under TLS 1.2 a missing client certificate ends the handshake, before a request can leave.
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.servers.append(FaultAPI(context))
        return self.servers[-1]
