"""Encryption of the records that are kept forever (raw records, dead letters, state), with keys per patient.

Described in docs/encryption.md.

`secrets` reads the deployment's secrets, `data_key` seals a record and opens it again, `key_ring` reads the data keys
from ``normalizer.keys``, and `opener` opens the records of a topic that are sealed. Nothing outside this package
handles ciphertext.
"""
