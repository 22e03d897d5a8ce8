"""Encryption of what is kept forever: raw records, dead letters and state, with keys per patient.

Described in docs/encryption.md.

`secrets` reads the deployment's secrets, `data_key` seals a record and opens it again, `key_ring` reads the data keys
from ``normalizer.keys``, and `opener` turns what was read from a topic into the record that was meant. Nothing outside
this package handles ciphertext.
"""
