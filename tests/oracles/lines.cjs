// What both oracles do with standard input and output.
"use strict";

const { createInterface } = require("node:readline");

exports.judge = (findings) => {
  const lines = createInterface({ input: process.stdin, crlfDelay: Infinity });
  lines.on("line", (line) => process.stdout.write(`${JSON.stringify(findings(JSON.parse(line)))}\n`));
};
