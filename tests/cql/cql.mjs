// node cql.mjs compile < {"Name": "CQL text", ...}                       > {"Name": ELM, ...}
// node cql.mjs run < {"libraries": [ELM, ...], "main": [ELM, ...], "charts": [{"id", "bundle",
//   "parameters"}, ...]}                > a line for each chart and main library: its results
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { SystemModelInfoProvider } from "@cqframework/cql/cql";
import * as compiler from "@cqframework/cql/cql-to-elm";
import ucum from "@lhncbc/ucum-lhc";
import fhir from "cql-exec-fhir";
import cql from "cql-execution";

const write = process.stdout.write.bind(process.stdout);
process.stdout.write = process.stderr.write.bind(process.stderr); // the compiler logs to it
const answer = (value) => write(JSON.stringify(value) + "\n");
const require = createRequire(import.meta.url);
const units = ucum.UcumLhcUtils.getInstance();

function compile(texts) {
  const model = readFileSync(
    require.resolve("cql-exec-fhir").replace(/index\.js$/, "modelInfos/fhir-modelinfo-4.0.1.xml"),
    "utf8",
  );
  const models = new compiler.ModelManager();
  models.modelInfoLoader.registerModelInfoProvider(new SystemModelInfoProvider());
  models.modelInfoLoader.registerModelInfoProvider(
    compiler.createModelInfoProvider((name) => (name === "FHIR" ? compiler.stringAsSource(model) : null)),
  );
  const unused = () => { throw new Error("The compiler only validates units."); };
  const checked = (unit) => (units.validateUnitString(unit).status === "valid" ? null : `No UCUM: ${unit}`);
  const manager = new compiler.LibraryManager(
    models, new compiler.CqlCompilerOptions(), undefined,
    compiler.createUcumService(unused, checked, unused, unused),
  );
  manager.librarySourceLoader.registerProvider(
    compiler.createLibrarySourceProvider((name) => (texts[name] ? compiler.stringAsSource(texts[name]) : null)),
  );
  const elm = {};
  for (const [name, text] of Object.entries(texts)) {
    const translator = compiler.CqlTranslator.fromText(text, manager);
    const said = Array.from(translator.exceptions.asJsReadonlyArrayView());
    if (said.length) {
      throw new Error(said.map((e) => `${name}:${e.locator?.startLine ?? ""}: ${e.message}`).join("\n"));
    }
    elm[name] = JSON.parse(translator.toJson(), (key, value) =>
      (key === "annotation" || key === "signature") && value.length === 0 ? undefined : value);
  }
  return elm;
}

// One chart. What a library defines is worked out once, whichever others include it: the engine
// itself starts what stands in one list at the same time, and each part works out all it needs.
class Chart extends cql.PatientContext {
  included = new Map();

  get(name) {
    const found = super.get(name);
    const once = found instanceof cql.Expression && this.library.expressions[name] === found;
    if (once) this.set(name, found.execute(this));
    return once ? this.context_values[name] : found;
  }

  getLibraryContext(name) {
    const library = this.get(name);
    if (!this.included.has(library.name)) {
      const context = new Chart(
        library, this.patient, this.codeService, this.parameters, this.executionDateTime);
      context.included = this.included;
      this.included.set(library.name, context);
    }
    return this.included.get(library.name);
  }
}

async function run({ libraries, main, charts }) {
  const repository = new cql.Repository(libraries);
  const terminology = new cql.CodeService({});
  const source = fhir.PatientSource.FHIRv401(); // it reads FHIR's model anew each time
  const asked = main.map((elm) => new cql.Library(elm, repository));
  for (const { id, bundle, parameters } of charts) {
    for (const name of ["As of", "Treatment start"]) {
      if (parameters[name]) parameters[name] = cql.DateTime.parse(parameters[name]);
    }
    source.reset();
    source.loadBundles([bundle]);
    const patient = source.currentPatient();
    const included = new Map();
    for (const library of asked) {
      const context = new Chart(library, patient, terminology, parameters);
      context.included = included;
      const results = {};
      for (const [name, expression] of Object.entries(library.expressions)) {
        if (name !== "Patient") results[name] = (await expression.execute(context)) ?? null;
      }
      answer({ id, library: library.name, results });
    }
  }
}

const input = JSON.parse(readFileSync(0, "utf8"));
if (process.argv[2] === "compile") answer(compile(input));
else await run(input);
