"""The bodies of the benchmarks' events, one module per vendor. All values are synthetic."""
