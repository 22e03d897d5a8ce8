"""``fhirline demo`` and ``fhirline dev``: the whole system as processes on this machine, with synthetic events."""
