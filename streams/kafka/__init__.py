"""Kafka for all stages: clients and the first connection, records and headers, readers, and delivery reports.

``reader`` and ``log_scanner`` read topics outside any consumer group, ``group_reader`` reads in one. ``encryption``
seals and opens records. Oddities of the demo's broker are in ``embedded_quirks``.
"""
