-- Which events made this row?
select l.event_type, cast(e.occurred_at at time zone 'UTC' as timestamp) as occurred_utc, e.raw, e.mapping_version
from fhir.encounter c
join fhir.lineage l on l.target_type = 'Encounter' and l.target_id = c.resource_id
join fhir.event e on e.vendor = l.vendor and e.tenant = l.tenant and e.event_key = l.event_key
where c.vendor = 'altibbi' and c.identifier = '9002'
order by e.occurred_at, l.event_key
