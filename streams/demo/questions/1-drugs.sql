-- Which drugs are prescribed for which diagnosis, by month?
with diagnosed as (
  select distinct substr(c.recorded, 1, 7) as month, c.code, d.resource_id as encounter_id
  from fhir.encounter_diagnosis d
  join fhir.condition c on c.resource_id = d.condition_id
)
select d.month, d.code, m.medication_text as drug, count(distinct d.encounter_id) as consultations, n.of_all
from diagnosed d
join (
  select month, code, count(*) as of_all from diagnosed group by month, code
) n on n.month = d.month and n.code = d.code
join fhir.medication_request m on m.encounter_id = d.encounter_id
where m.status = 'active' and m.medication_absent is null
group by d.month, d.code, m.medication_text, n.of_all
order by d.month, d.code, consultations desc, drug
