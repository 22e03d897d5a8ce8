"""FHIR definitions of what our outputs contain: extensions, code systems, value sets, concept maps, identifier systems.

They are made of the declarations that the mapping itself uses (`mappers.declarations`, the registry's `VendorMapping`,
the tables of ``config/``), under the BASE and for the tenants of a deployment. Pure, and the same input gives the same
bytes.
"""
