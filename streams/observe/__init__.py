"""Logs, the audit log, metrics and traces of every process, and the tuning of its memory and signals."""
