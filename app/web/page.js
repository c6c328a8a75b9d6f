// The page: what is given is read, asked of the service, and shown.

import { ANALYTES, Source, assessmentsOf, goTo, headline, subjectKey } from "./answer.js";
import { address, asked, fileOf, plotted, withParameters } from "./ask.js";
import { Problem, byId, el, readable, some } from "./dom.js";
import { number, parse } from "./json.js";
import { picture } from "./picture.js";
import { fhirOf, textOf } from "./read.js";
import { columnsOf, observationsOf, rowsOf } from "./sheet.js";
import { sheetOf, writtenSheet } from "./sheet-view.js";
import { othersOf, reveal, shown, sourceOf } from "./show.js";

const MOST_COMPARED = 10;
// A field of more takes the browser longer to lay out than all else together.
const MOST_IN_FIELD = 200_000;
const SHOWN_LINES = 8;
const SHOWN_SIGNS = 160;
const form = byId("ask");
const input = byId("input");
/** What is on the page now: `given` (FHIR), `sheet`, `changes` of what if, what is too `large` for the field, and what was there before. */
const state = { given: null, sheet: null, changes: [], before: new Map(), large: null, kept: null, running: null };

const say = text => { byId("status").textContent = text; };
const question = () => form.elements.question.value;
/** Whether a field belongs to the question. */
const isAsked = field => [undefined, question()].includes(field.closest("[data-question]")?.dataset.question);

function problem(error, act) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Problem)) console.error(error);
  const text = error instanceof Problem ? error.message : "The page failed on this; what you typed is still here.";
  const places = (error.places ?? []).map(place => act && act.place(place)).filter(Boolean);
  byId("problems").replaceChildren(el("p", { class: "problem" }, readable(text), places.length > 0 && [" ", places]));
  say("");
}

// What is given

/** What was given, whether it stands in the field or is too large for it. */
const givenNow = () => state.large ?? { name: "", text: input.value };

/** Puts a text where it can be seen and changed; what stood there can be brought back. */
export function put(text, name = "What was given") {
  const before = givenNow();
  if (before.text.trim() && before.text !== text) {
    state.kept = before;
    byId("back").hidden = false;
  }
  stand(text.length > MOST_IN_FIELD ? { name, text } : null, text);
  return take();
}

/** The field with a text; or in its place the name, size and first lines of what is too large. */
function stand(large, text) {
  const place = byId("large");
  state.large = large;
  input.hidden = Boolean(large);
  place.hidden = !large;
  document.querySelector(".skip").hash = large ? "large" : "input";
  input.value = large ? "" : text;
  place.replaceChildren(...large ? told(large) : []);
}

function told({ name, text }) {
  const first = text.slice(0, SHOWN_LINES * SHOWN_SIGNS).split(/\r?\n/).slice(0, SHOWN_LINES).map(line => line.slice(0, SHOWN_SIGNS));
  return [
    el("p", {}, el("strong", {}, name), `, ${Math.round(text.length / 1000)} kB. It begins:`),
    el("pre", { tabindex: "0", role: "region", "aria-label": `The first lines of ${name}` }, `${first.join("\n")}\n…`),
    el("p", { class: "row" },
      el("button", { type: "button", onclick: () => { stand(null, text); input.focus(); } }, "Show all, to change it"),
      el("button", { type: "button", onclick: () => { put(""); byId("problems").replaceChildren(); input.focus(); } }, "Take it away")),
  ];
}

/** Reads what stands in the field: FHIR is judged at once, a sheet is shown first. */
async function take() {
  byId("problems").replaceChildren();
  state.changes = [];
  state.given = null;
  try {
    const { text } = givenNow();
    const fhir = fhirOf(text);
    byId("sheet").hidden = Boolean(fhir);
    if (fhir) {
      state.sheet = null;
      state.given = fhir;
      return await judge();
    }
    const rows = rowsOf(text);
    state.sheet = { rows, ...columnsOf(rows), said: {} };
    clear();
    showSheet();
  } catch (error) {
    clear();
    state.sheet = null;
    byId("sheet").hidden = true;
    problem(error);
  }
  return undefined;
}

function clear() {
  state.running?.abort();
  byId("answer").hidden = byId("source").hidden = true;
}

function showSheet() {
  const { sheet } = state;
  const found = observationsOf(sheet.rows, sheet, sheet.said);
  sheet.found = found;
  byId("sheet").hidden = false;
  sheetOf(byId("sheet-body"), sheet, () => { showSheet(); });
  found.open = found.asks.filter(one => !one.answered);
  const open = found.open.length + found.problems.length;
  say(open ? `${some(open, "question")} about the sheet, above.` : `${some(found.entries.length, "count")} of ${some(Math.max(1, found.patients.size), "patient")}: see whether they are read rightly, then judge.`);
}

function sheetAsGiven() {
  const { found } = state.sheet;
  if (found.problems.length || found.open.length) {
    goTo("h-sheet");
    throw new Problem(`Before it can be judged: ${[...found.problems, ...found.open.map(one => one.words)].join(" ")}`);
  }
  if (!found.entries.length) throw new Problem("The sheet has no counts in the columns that are known.");
  const bundle = { resourceType: "Bundle", type: "collection", entry: found.entries.map(({ resource }) => ({ resource })) };
  return { text: JSON.stringify(bundle), bundle, parameters: [] };
}

// What is asked

function parametersOf(definitions) {
  const fields = form.elements;
  const chosen = [
    ...definitions.map(id => ({ name: "criteria", valueCode: id })),
    fields.asOf.value && { name: "asOf", valueDate: fields.asOf.value },
    fields.window.value.trim() && fields.window.value.trim() !== "30" && { name: "window", valuePositiveInt: windowOf(fields.window.value.trim()) },
    ...[...form.querySelectorAll("#how select")].filter(one => isAsked(one) && !one.selectedOptions[0].defaultSelected).map(one => ({ name: one.name, valueCode: one.value })),
    isAsked(fields.sustained) && fields.sustained.value.trim() && { name: "sustained", valueString: fields.sustained.value.trim() },
    isAsked(fields.treatmentStart) && fields.treatmentStart.value && { name: "treatmentStart", valueDate: fields.treatmentStart.value },
  ].filter(Boolean);
  // What came in Parameters stands where the page was not told otherwise.
  const told = new Set(chosen.map(one => one.name));
  return [...chosen, ...state.given.parameters.filter(one => !told.has(one.name))];
}

function windowOf(text) {
  if (!/^\d{1,5}$/.test(text)) throw new Problem("The days within which counts are combined are a whole number, such as 30.");
  return Number(text);
}

const checked = () => [...form.querySelectorAll(`input[name=${question()}]:checked`)].map(one => one.value);
const unchecked = () => [...form.querySelectorAll(`input[name=${question()}]:not(:checked)`)].map(one => one.value);

/** The data with what is tried out: as they were sent, where nothing is. */
function dataOf() {
  if (!state.changes.length) return { text: state.given.text, bundle: state.given.bundle };
  const bundle = parse(state.given.text);
  for (const change of state.changes) change.apply(bundle);
  return { text: JSON.stringify(bundle), bundle };
}

async function judge() {
  byId("problems").replaceChildren();
  state.running?.abort();
  state.running = new AbortController();
  const { signal } = state.running;
  try {
    if (state.sheet) state.given = sheetAsGiven();
    if (!state.given) return await take();
    const definitions = checked();
    if (!definitions.length) throw new Problem("Choose a definition under 'How to judge'.");
    say("Judging.");
    const operation = question() === "response" ? "fhir/$assess-response" : "fhir/$assess-eligibility";
    const data = dataOf();
    const body = withParameters(data.text, parametersOf(definitions));
    const answer = await asked(operation, body, signal);
    show(answer, data);
    // The reader goes on meanwhile, and stays where he went.
    beside(operation, data, definitions, signal).catch(problem);
  } catch (error) {
    problem(error, state.given && { place: placeButton(new Source(state.given.bundle)) });
  }
  return undefined;
}

/** What is shown beside the verdict, and may come after it: the other definitions, the pictures. */
async function beside(operation, data, definitions, signal) {
  const { view } = state;
  await Promise.all([cohort(data, definitions, signal), ...view.found.slice(0, MOST_COMPARED).map(one => drawn(one, data, signal)), compared(operation, data, signal)]);
}

/** All treated patients in one picture. */
async function cohort(data, definitions, signal) {
  const place = byId("cohort");
  const svg = place && await plotted("measure", widthOf(place), withParameters(data.text, parametersOf(definitions.slice(0, 1))), signal);
  if (svg) place.replaceChildren(picture(svg, () => {}));
}

async function compared(operation, data, signal) {
  const { view } = state;
  if (view.patients > MOST_COMPARED || !unchecked().length) return;
  const answer = await asked(operation, withParameters(data.text, parametersOf(unchecked())), signal);
  view.others = assessmentsOf(answer).found;
  for (const place of document.querySelectorAll(".others")) place.replaceChildren(...[othersOf(place.dataset.patient, view)].flat());
}

/** As wide as it is seen, so that its letters are as large as the page's. */
const widthOf = place => Math.round(Math.min(1100, Math.max(320, place.parentElement.clientWidth)));

async function drawn(one, data, signal) {
  const { view } = state;
  if (!one.subject?.reference) return;
  const parameters = [...parametersOf([one.definition]).filter(each => each.name !== "subject"), { name: "subject", valueString: one.subject.reference }];
  const place = [...document.querySelectorAll(".picture")].find(each => each.dataset.patient === one.patient && each.dataset.definition === one.definition);
  const svg = place && await plotted(question(), widthOf(place), withParameters(data.text, parameters), signal);
  if (svg && place) place.replaceChildren(picture(svg, where => actions(view.source, view.doubted).reveal(view.source.at(where))));
}

// What is shown

function show(answer, data) {
  const { found, issues } = assessmentsOf(answer);
  const source = new Source(data.bundle);
  if (!state.changes.length) {
    state.before = new Map(found.map(one => [`${one.patient} ${one.definition}`, { verdict: one.verdict, criteria: new Map(one.criteria.map(each => [each.code, each.truth])) }]));
  }
  const patients = new Set(found.map(one => one.patient)).size;
  const doubted = new Set([...issues, ...found.flatMap(one => one.issues)].flatMap(issue => (issue.expression ?? []).map(place => source.at(place)[1])));
  const view = { found, doubted, cohort: question() === "response" && patients > 1, issues, source, patients, others: [], before: state.before, changes: state.changes, names: state.sheet?.found.patients ?? new Map(), answerOf: patient => ofPatient(answer, patient) };
  state.view = view;
  byId("answer-body").replaceChildren(...shown(view, actions(source, doubted)));
  byId("source-body").replaceChildren(...state.sheet ? [writtenSheet(state.sheet, source, doubted)] : sourceOf(source, doubted));
  byId("answer").hidden = byId("source").hidden = false;
  const [first] = found;
  say(found.length === 1 ? `Judged: ${first.title}, ${byId("answer-body").querySelector(".verdict h4").textContent}` : `Judged: ${some(patients, "patient")}, ${some(found.length, "assessment")}.`);
}

/** The part of an answer that is of one patient. */
function ofPatient(answer, patient) {
  const own = answer.entry.filter(({ resource }) => subjectKey(resource.subject ?? resource.individual) === patient);
  const told = new Set(own.flatMap(({ resource }) => resource.evaluationMessage ?? []).map(one => one.reference));
  return { ...answer, entry: answer.entry.filter(one => own.includes(one) || told.has(one.fullUrl)) };
}

const placeButton = source => place => {
  const path = source.at(place);
  const entry = path[0] === "entry" && source.entries[path[1]];
  return entry ? el("span", {}, headline(entry)) : el("code", {}, place);
};

function actions(source, doubted) {
  return {
    goTo,
    explain: id => el("a", { href: address(`explain/${encodeURIComponent(id)}`) }, "What the definition says"),
    reveal: path => {
      if (!state.sheet || !revealCell(path[1])) reveal(source, path, doubted);
    },
    tryOut: (patient, code) => {
      const box = [...document.querySelectorAll(".if")].find(one => one.dataset.patient === patient);
      box.open = true;
      const which = box.querySelector("select");
      which.value = `add ${code}`;
      which.dispatchEvent(new Event("change"));
      box.querySelector("input").focus();
    },
    change: (patient, subject, which, value, day) => tried({ patient, subject, which, value: value.trim().replace(",", "."), day, source }),
    undo: patient => {
      state.changes = state.changes.filter(one => one.patient !== patient);
      again(patient);
    },
  };
}

function revealCell(index) {
  const cell = state.sheet.found.entries[index]?.cell;
  const target = cell && document.getElementById(`cell-${cell.join("-")}`);
  if (!target) return false;
  document.querySelectorAll(".revealed").forEach(one => one.classList.remove("revealed"));
  target.classList.add("revealed");
  goTo(target.id);
  return true;
}

/** Adds a change to what is tried out, and judges with it; the words of what is wrong, if it is. */
function tried({ patient, subject, which, value, day, source }) {
  if (!/^\d+(\.\d+)?$/.test(value)) return "Write the count as a number, such as 0.9.";
  const [kind, name] = which.split(/ (.*)/);
  const digits = value.replace(/^0+(?=\d)/, "");
  if (kind === "change") {
    const { index, resource } = source.named(name);
    const unit = resource.valueQuantity.unit ?? resource.valueQuantity.code ?? "";
    keep({ patient, of: name, said: `${headline({ resource: { code: resource.code } }) || name} ${value} ${readable(unit)}`, apply: bundle => {
      const quantity = bundle.entry[index].resource.valueQuantity;
      quantity.value = number(digits);
      delete quantity.comparator;
    } });
  } else {
    if (!day) return "Write the day of the count.";
    const { code, display, unit, name: title } = ANALYTES.find(one => one.code === name);
    keep({ patient, of: `${code} ${day}`, said: `${title} ${value} ${readable(unit)} on ${day}`, apply: bundle => {
      (bundle.entry ??= []).push({ resource: {
        resourceType: "Observation", id: `what-if-${code}-${day}`, status: "final",
        code: { coding: [{ system: "http://loinc.org", code, display }] }, subject, effectiveDateTime: day,
        valueQuantity: { value: number(digits), unit, system: "http://unitsofmeasure.org", code: unit },
      } });
    } });
  }
  again(patient);
  return null;
}

function keep(change) {
  state.changes = [...state.changes.filter(one => one.of !== change.of || one.patient !== change.patient), change];
}

async function again(patient) {
  await judge();
  const place = [...document.querySelectorAll(".if")].find(one => one.dataset.patient === patient);
  if (!place) return;
  place.open = state.changes.length > 0;
  goTo(place.closest(".patient").id);
}

// What the visitor does

async function takeFile(file) {
  try {
    say(`Reading ${file.name}.`);
    const text = await textOf(file);
    await put(text, file.name);
  } catch (error) {
    problem(error);
  }
}

async function takeStory(name, asks, label) {
  try {
    form.elements.question.value = asks;
    setQuestion();
    await put(await fileOf(`stories/${name}.json`), label);
    if (!byId("answer").hidden) goTo("h-answer");
  } catch (error) {
    problem(error);
  }
}

/** Shows what belongs to the question, and how it will be judged in a line. */
function setQuestion() {
  for (const one of form.querySelectorAll("[data-question]")) one.hidden = one.dataset.question !== question();
  const names = [...form.querySelectorAll(`input[name=${question()}]:checked`)].map(one => one.nextElementSibling.textContent);
  const { asOf, window: days, when, sustained } = form.elements;
  byId("how-said").textContent = [
    names.join("; ") || "no definition chosen",
    asOf.value && `as known on ${asOf.value}`,
    days.value.trim() !== "30" && `within ${days.value} days`,
    isAsked(when) && !when.selectedOptions[0].defaultSelected && when.selectedOptions[0].textContent,
    isAsked(sustained) && sustained.value.trim() && `met for at least ${sustained.value.trim()}`,
  ].filter(Boolean).join(", ");
}

form.addEventListener("submit", async event => {
  event.preventDefault();
  await judge();
  if (!byId("answer").hidden && !byId("problems").childElementCount) goTo("h-answer");
});
input.addEventListener("paste", event => {
  const text = event.clipboardData?.getData("text/plain") ?? "";
  const isAll = input.selectionStart === 0 && input.selectionEnd === input.value.length;
  if (text.length <= MOST_IN_FIELD || !isAll) return;
  event.preventDefault();
  put(text, "What was pasted");
  byId("large").focus();
});
let waiting;
input.addEventListener("input", event => {
  // The field no longer says what was judged.
  clear();
  state.given = state.sheet = null;
  byId("sheet").hidden = true;
  clearTimeout(waiting);
  if (!input.value.trim()) return say("");
  if (event.inputType === "insertFromPaste" || event.inputType === "insertFromDrop") return void take();
  waiting = setTimeout(() => { if (!/^\s*[[{<]/.test(input.value) && /\n./.test(input.value)) take(); }, 600);
  return undefined;
});
byId("how").addEventListener("change", () => {
  setQuestion();
  if (state.given && !byId("answer").hidden) judge();
});
byId("file").addEventListener("change", event => {
  const [file] = event.target.files;
  if (file) takeFile(file);
  event.target.value = "";
});
byId("back").addEventListener("click", () => {
  const { text, name } = state.kept;
  state.kept = null;
  byId("back").hidden = true;
  put(text, name);
});
for (const button of document.querySelectorAll("[data-story]")) {
  button.addEventListener("click", () => takeStory(button.dataset.story, button.dataset.asks, button.textContent));
}
// Anywhere on the page: a file that misses the field would otherwise replace the page.
for (const kind of ["dragover", "dragenter"]) {
  document.addEventListener(kind, event => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    byId("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", event => { if (!event.relatedTarget) byId("drop").classList.remove("over"); });
document.addEventListener("drop", event => {
  byId("drop").classList.remove("over");
  const { items, files } = event.dataTransfer ?? {};
  if (!files?.length) return;
  event.preventDefault();
  if ([...items].some(item => item.webkitGetAsEntry?.()?.isDirectory)) problem(new Problem("This is a folder. Drop one file of it; a whole export is for the command 'maa-assess screen'."));
  else if (files.length > 1) problem(new Problem(`These are ${files.length} files: drop them one by one.`));
  else takeFile(files[0]);
});
// On paper nothing can be opened.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll(".notes:not([open]), .others details:not([open])")];
  for (const one of closed) one.open = true;
});
addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
setQuestion();
