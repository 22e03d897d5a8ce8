"""``fhirline demo`` and ``fhirline dev``: the whole system as real processes on this machine, with synthetic events."""
