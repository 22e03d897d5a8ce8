// npm's fhir: R4's bindings, also of concepts. FHIR resources in, a line each; findings out, a line each.
"use strict";

const { Fhir } = require("fhir");
const { judge } = require("./lines.cjs");

const fhir = new Fhir();

const RULES = [
  [/^Missing property$/, "missing"],
  [/not found in value set$/, "code-not-found"],
  [/^Unexpected property$/, "unexpected"],
];

// Its findings in a Bundle's entries start at the entry's resource, whose id they carry.
judge((resource) =>
  fhir
    .validate(resource, { errorOnUnexpected: true })
    .messages.filter(({ severity }) => severity !== "info") // it lacks a value set
    .map(({ severity, message, location, resourceId }) => ({
      severity,
      rule: RULES.find(([says]) => says.test(message))?.[1] ?? "invalid",
      path: location,
      message,
      id: resourceId,
    })),
);
