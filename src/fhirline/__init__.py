"""fhirline: telehealth vendors' webhooks in, validated HL7 FHIR R4 resources out.

The folders of this package are links to those at the top of the repository, so that the installed import names
(``fhirline.streams``, ``fhirline.mappers`` …) and the checkout's folders (``streams/``, ``mappers/`` …) are one.
"""
