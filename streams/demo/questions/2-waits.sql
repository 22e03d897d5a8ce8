-- How long do patients wait from new to in progress?
with started as (
  select resource_id, min(cast(period_start as timestamptz)) as began
  from fhir.encounter_status_history
  where status = 'planned' and vendor_status is null
  group by resource_id
), waits as (
  select e.resource_id, e.period_start,
    cast(extract(epoch from cast(e.period_start as timestamptz) - s.began) as double precision) / 60 as minutes
  from fhir.encounter e
  left join started s on s.resource_id = e.resource_id
  where e.vendor = 'altibbi' and e.resource_id not in (
    select resource_id from fhir.encounter_status_history where vendor_status = 'scheduled'
  )
)
select count(*) as consultations, count(period_start) as in_progress, count(minutes) as measured,
  cast(percentile_cont(0.5) within group (order by minutes) as numeric(9, 1)) as median_minutes,
  cast(percentile_cont(0.9) within group (order by minutes) as numeric(9, 1)) as p90_minutes
from waits
