"""Redaction of secrets in bodies (mapping.md §7). `redact` is where it begins.

``values`` walks a body, ``members`` and ``labels`` tell from a key or a neighbour that a value is a secret, ``texts``
looks into each text: for formats that are in it (``embedded_formats``, ``markup``, ``blocks``, ``encodings``) and for
values that look like credentials (``credentials``, ``credential_forms``; ``search`` limits the work). ``keys`` compares
names with config/secrets.yaml. ``large_bodies`` and ``plain_parts`` pass over whole parts of a body without secrets.
"""
