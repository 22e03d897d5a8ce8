"""What an operator configures: settings, vendors and tenants, code tables. Imports no other package of fhirline."""
