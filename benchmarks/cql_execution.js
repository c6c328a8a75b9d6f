// Judges Bundles (one a line of standard input) by rule.elm.json with cql-execution, and writes
// for each round the median of its milliseconds, then every verdict: node cql_execution.js ROUNDS
const fs = require("fs");
const path = require("path");
const cql = require("cql-execution");
const fhir = require("cql-exec-fhir");

const rounds = Number(process.argv[2]);
const elm = JSON.parse(fs.readFileSync(path.join(__dirname, "rule.elm.json"), "utf8"));
const library = new cql.Library(elm);
const bodies = fs.readFileSync(0, "utf8").trim().split("\n");

async function judge(body) {
  const source = fhir.PatientSource.FHIRv401();
  source.loadBundles([JSON.parse(body)]);
  const results = await new cql.Executor(library).exec(source);
  return Object.values(results.patientResults)[0].Eligible;
}

(async () => {
  const medians = [];
  let verdicts = [];
  for (let round = 0; round < rounds; round += 1) {
    const times = [];
    verdicts = [];
    for (const body of bodies) {
      const start = process.hrtime.bigint();
      verdicts.push(await judge(body));
      times.push(Number(process.hrtime.bigint() - start) / 1e6);
    }
    times.sort((a, b) => a - b);
    medians.push(times[Math.floor(times.length / 2)]);
  }
  console.log(JSON.stringify({ medians, verdicts }));
})();
