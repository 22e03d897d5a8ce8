"""The operator's configuration: settings, vendors and tenants, code tables. Imports no other package of fhirline."""
