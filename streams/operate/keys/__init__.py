"""Operations on the data keys of patients, and on what is encrypted with them (docs/encryption.md)."""
