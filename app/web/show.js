// An answer as it is seen: for each patient the verdict, why, what is missing, what was set aside.

import { ANALYTES, SHORT, SIGNS, WORDS, headline, look, nameOf, sent } from "./answer.js";
import { el, readable, some } from "./dom.js";
import { lines, scalar, within } from "./json.js";

const MOST_PATIENTS = 20;
const MOST_ENTRIES = 200;
const MOST_PLACES = 6;
const MOST_PERIODS = 50;

const mark = (how, text) => el("span", { class: `answer ${how}` }, el("span", { "aria-hidden": "true", class: "sign" }, SIGNS[how]), " ", text);

/**
 * The whole answer. `view` has `found`, `issues`, `source` (a Source), `answers` (FHIR, for each
 * patient), `names` of patients, `others`, `before` and `changes` of what if; `act` what buttons do.
 */
export function shown(view, act) {
  const patients = [...Map.groupBy(view.found, one => one.patient)];
  const parts = [];
  if (view.issues.length) parts.push(el("section", { class: "aside" }, el("h3", {}, "Of all the data"), issuesOf(view.issues, view, act)));
  if (view.cohort) parts.push(el("div", { class: "picture", id: "cohort" }));
  if (patients.length > 1) parts.push(overview(patients, view, act));
  const rest = patients.slice(MOST_PATIENTS);
  const list = el("div", {}, patients.slice(0, MOST_PATIENTS).map((one, index) => patientOf(one, index, view, act)));
  parts.push(list);
  if (rest.length) {
    const more = el("button", { type: "button", onclick: () => {
      list.append(...rest.splice(0, MOST_PATIENTS).map((one, index) => patientOf(one, list.childElementCount + index, view, act)));
      more.hidden = !rest.length;
    } }, `Show ${Math.min(MOST_PATIENTS, rest.length)} more patients`);
    parts.push(more);
  }
  return parts;
}

export const titled = (patient, view) => {
  const known = view.names.get(patient);
  const entry = view.source.named(patient);
  return known || (entry && nameOf(entry.resource)) || patient.replace(/^Patient\//, "") || "The patient";
};

function overview(patients, view, act) {
  const rows = patients.slice(0, 500).map(([patient, found], index) => el("tr", {},
    el("th", { scope: "row" }, index < MOST_PATIENTS
      ? el("button", { type: "button", class: "link", onclick: () => act.goTo(`patient-${index}`) }, titled(patient, view))
      : titled(patient, view)),
    el("td", {}, found.map(one => el("div", {}, mark(look(one.verdict), SHORT[one.verdict] ?? one.verdict), found.length > 1 && ` · ${one.title}`))),
    el("td", {}, found.map(one => one.missing.map(readable).join(" ")).filter(Boolean).join(" "))));
  const tally = [...Map.groupBy(patients.flatMap(([, found]) => found), one => one.verdict)].map(([verdict, all]) => `${all.length} ${SHORT[verdict] ?? verdict}`);
  return el("section", { class: "overview" }, el("h3", {}, `${some(patients.length, "patient")}: ${tally.join(", ")}`),
    wide("Patients and their verdicts", ["Patient", "Verdict", "What is missing"], rows));
}

/** A table that scrolls for itself where the screen is narrow, reachable by keyboard. */
function wide(name, head, rows) {
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": name },
    el("table", {}, el("thead", {}, el("tr", {}, head.map(one => el("th", { scope: "col" }, one)))), el("tbody", {}, rows)));
}

function patientOf([patient, found], index, view, act) {
  const name = titled(patient, view);
  return el("article", { class: "patient", id: `patient-${index}`, "aria-labelledby": `patient-${index}-name` },
    el("h3", { id: `patient-${index}-name` }, name, el("span", { class: "id" }, patient.endsWith(name) ? "" : ` ${patient}`)),
    movedOf(patient, found, view, act),
    found.map((one, position) => assessmentOf(one, `${index}-${position}`, view, act)),
    el("div", { class: "others", "data-patient": patient }, othersOf(patient, view)),
    whatIf(patient, found, index, view, act),
    answerOf(patient, name, view));
}

function assessmentOf(one, id, view, act) {
  const how = look(one.verdict);
  const severe = one.criteria.some(({ code, truth }) => code === "not-severe" && truth === "not-met");
  const words = one.said || `${one.life.length && one.verdict === "eligible" ? "The counts met this definition" : WORDS[one.verdict] ?? one.verdict}${severe ? ": they are severe by counts" : ""}.`;
  return el("section", { class: "assessment", "aria-labelledby": `verdict-${id}` },
    el("div", { class: `verdict ${how}` },
      el("span", { class: "sign", "aria-hidden": "true" }, SIGNS[how]),
      el("div", {}, el("h4", { id: `verdict-${id}` }, readable(words)),
        el("p", {}, one.title, one.day && `, ${one.life.length && one.verdict === "eligible" ? "first" : "judged"} on ${one.day.slice(0, 10)}`, ". ", newestOf(one), act.explain(one.definition)))),
    one.missing.length > 0 && el("p", { class: "missing" }, el("strong", {}, readable(one.missing.join(" "))), " ",
      one.needs.map(need => ANALYTES.find(each => each.code === need.code)).filter(Boolean).map(analyte =>
        el("button", { type: "button", class: "link screen", onclick: () => act.tryOut(one.patient, analyte.code) }, `What if the ${analyte.name} were known?`))),
    el("div", { class: "picture", "data-definition": one.definition, "data-patient": one.patient }),
    lifeOf(one, view, act),
    criteriaOf(one, view, act),
    one.issues.length > 0 && el("section", { class: "aside" }, el("h5", {}, "Set aside, repaired or doubted"), issuesOf(one.issues, view, act)),
    one.notes.length > 0 && el("details", { class: "notes" }, el("summary", {}, "What counts cannot tell, and the source"),
      el("ul", {}, one.notes.map(note => el("li", {}, readable(note)))), el("p", {}, one.citation)));
}

/** What holds now, where the answer tells of an earlier day. */
function newestOf({ periods }) {
  const last = periods.at(-1);
  return last && `By the newest counts: ${SHORT[last.verdict] ?? last.verdict} (${last.end}). `;
}

const courseOf = (course, dates = new Map()) => el("dl", { class: "course" }, course.map(each => el("div", {}, el("dt", {}, each.title),
  el("dd", {}, each.answer, dates.has(`${each.code}-date`) && ` (${dates.get(`${each.code}-date`).slice(0, 10)})`))));

/** When the definition was met, and each change of the answer with what decided it. */
function lifeOf(one, view, act) {
  const rows = list => list.map(each => el("tr", {}, el("th", { scope: "row" }, each.start), cell("To", el("span", { class: "day" }, each.end)), cell("Days judged", each.days),
    cell("Answer", mark(look(each.verdict), SHORT[each.verdict] ?? each.verdict)), cell("Decided by", each.deciding.join(", ")),
    cell("As sent", each.refs.slice(0, MOST_PLACES).map(reference => placeOf(reference, view, act)))));
  const body = el("tbody", {}, rows(one.periods.slice(0, MOST_PERIODS)));
  const rest = one.periods.slice(MOST_PERIODS);
  const more = rest.length > 0 && el("button", { type: "button", class: "screen", onclick: () => { body.append(...rows(rest)); more.remove(); } }, `Show ${some(rest.length, "further period")}`);
  return [
    one.life.length > 0 && courseOf(one.life),
    one.periods.length > 0 && el("table", { class: "side periods" }, el("caption", {}, "When the answer changed"),
      el("thead", {}, el("tr", {}, ["From", "To", "Days judged", "Answer", "Decided by", "As sent"].map(text => el("th", { scope: "col" }, text)))), body),
    more,
  ];
}

function criteriaOf(one, view, act) {
  const rows = one.criteria.filter(each => each.truth).flatMap(each => criterionRows(each, view, act));
  const course = one.criteria.filter(each => !each.truth && !each.code.endsWith("-date"));
  const dates = new Map(one.criteria.filter(each => each.code.endsWith("-date")).map(each => [each.code, each.answer]));
  return [
    el("table", { class: "criteria" }, el("caption", {}, "Criteria"),
      el("thead", {}, el("tr", {}, ["Criterion", "Answer", "Limit", "As sent", "As read", "Date"].map(text => el("th", { scope: "col" }, text)))),
      el("tbody", {}, rows)),
    course.length > 0 && courseOf(course, dates),
  ];
}

const cell = (name, ...children) => el("td", { "data-name": name }, el("div", {}, children));

function criterionRows(each, view, act) {
  const span = Math.max(1, each.counts.length);
  const head = [
    el("th", { scope: "row", rowspan: span }, each.title, each.why && el("small", {}, readable(each.why))),
    el("td", { rowspan: span, "data-name": "Answer" }, el("div", {}, mark(each.look, each.answer))),
    el("td", { rowspan: span, "data-name": "Limit" }, each.limit && el("div", {}, each.limit)),
  ];
  if (!each.counts.length) {
    const known = each.refs.map(reference => placeOf(reference, view, act));
    const none = each.composed ? null : "not measured";
    return [el("tr", {}, head, el("td", { colspan: "3", "data-name": "Counts" }, known.length ? el("div", {}, known) : none && el("div", {}, none)))];
  }
  return each.counts.map((count, index) => el("tr", { class: index ? "more" : "first" }, index ? [] : head,
    cell("As sent", count.refs.map(reference => placeOf(reference, view, act))),
    cell("As read", el("span", { class: "what" }, count.name, " "), el("b", {}, count.read)),
    cell("Date", count.day)));
}

/** A result as it was sent, as a way to its place in the input. */
function placeOf(reference, view, act) {
  const entry = view.source.named(reference);
  if (!entry) return el("div", {}, reference.replace(/^urn:uuid:.*/, "in the data"));
  const text = sent(entry.resource) || headline(entry);
  return el("div", {}, el("button", { type: "button", class: "link", onclick: () => act.reveal(["entry", entry.index, "resource"]) }, text,
    el("span", { class: "hidden" }, `, show ${entry.resource.resourceType} ${entry.index + 1} in the input`)));
}

function issuesOf(issues, view, act) {
  return el("ul", { class: "issues" }, issues.map(issue => el("li", { class: issue.severity === "information" ? "said" : "warned" },
    el("span", { class: "level" }, issue.severity === "information" ? "note" : issue.severity), " ", readable(issue.diagnostics ?? issue.details?.text ?? ""), " ",
    el("span", { class: "places" }, (issue.expression ?? []).slice(0, MOST_PLACES).map(expression => {
      const path = view.source.at(expression);
      const entry = path[0] === "entry" && view.source.entries[path[1]];
      return entry ? el("button", { type: "button", class: "link", onclick: () => act.reveal(path) }, headline(entry)) : el("code", {}, expression);
    }).flatMap((made, index) => index ? [", ", made] : [made]),
    issue.expression?.length > MOST_PLACES && ` and ${issue.expression.length - MOST_PLACES} more, remarked below`))));
}

/** The other definitions of the same patient, side by side. */
export function othersOf(patient, view) {
  const found = view.others.filter(one => one.patient === patient);
  if (!found.length) return [];
  return el("details", { open: matchMedia("(min-width: 42rem)").matches }, el("summary", {}, "By other definitions"),
    el("table", { class: "side" }, el("thead", {}, el("tr", {}, ["Definition", "Verdict", "Criteria"].map(text => el("th", { scope: "col" }, text)))),
      el("tbody", {}, found.map(one => el("tr", {}, el("th", { scope: "row" }, one.title), cell("Verdict", mark(look(one.verdict), SHORT[one.verdict] ?? one.verdict), one.life.length > 0 && one.verdict === "eligible" && ` first on ${one.day.slice(0, 10)}`),
        cell("Criteria", one.criteria.filter(each => each.truth && each.truth !== "not-applicable").map(each => el("span", { class: "each" }, mark(each.look, each.title), el("span", { class: "hidden" }, `: ${each.answer}. `)))))))));
}

/** What a change that was tried out has moved. */
function movedOf(patient, found, view, act) {
  const tried = view.changes.filter(one => one.patient === patient);
  if (!tried.length) return null;
  const moved = found.map(one => {
    const was = view.before.get(`${patient} ${one.definition}`);
    const turned = one.criteria.filter(each => each.truth && was?.criteria.get(each.code) !== each.truth).map(each => `${each.title}: ${(was?.criteria.get(each.code) ?? "unknown").replace("-", " ")}, now ${each.answer}`);
    const verdict = !was || was.verdict === one.verdict ? `still ${SHORT[one.verdict]}` : `was ${SHORT[was.verdict]}, now ${SHORT[one.verdict]}`;
    return el("li", {}, el("strong", {}, verdict), ` by ${one.title}`, turned.length ? `. ${turned.join("; ")}` : "");
  });
  return el("div", { class: "moved" }, el("p", {}, el("strong", {}, "What if: "), tried.map(one => one.said).join("; "), ". These are not the patient's counts."),
    el("ul", {}, moved), el("button", { type: "button", onclick: () => act.undo(patient) }, "Back to the counts as sent"));
}

function whatIf(patient, found, index, view, act) {
  const counts = [...new Map(found.flatMap(one => one.counts).filter(one => one.refs.length === 1 && view.source.named(one.refs[0])?.resource.valueQuantity).map(one => [one.refs[0], one])).values()];
  const which = el("select", { id: `if-${index}-which`, name: "which" },
    counts.length > 0 && el("optgroup", { label: "Change" }, counts.map(one => el("option", { value: `change ${one.refs[0]}` }, `${one.name} ${one.read} of ${one.day}`))),
    el("optgroup", { label: "Add" }, ANALYTES.map(one => el("option", { value: `add ${one.code}` }, `${one.name}, in ${readable(one.unit)}`))));
  const value = el("input", { id: `if-${index}-value`, name: "value", inputmode: "decimal", size: "7", autocomplete: "off", "aria-describedby": `if-${index}-unit` });
  const unit = el("span", { id: `if-${index}-unit`, class: "unit" });
  const day = el("input", { id: `if-${index}-day`, name: "day", type: "date", value: found[0].day.slice(0, 10) });
  const dayField = el("p", {}, el("label", { for: day.id }, "of"), " ", day);
  const told = el("p", { class: "problem", role: "alert" });
  const settle = () => {
    const [kind, name] = which.value.split(/ (.*)/);
    dayField.hidden = kind === "change";
    const quantity = kind === "change" && view.source.named(name).resource.valueQuantity;
    unit.textContent = readable(quantity ? scalar(quantity.unit ?? quantity.code ?? "") : ANALYTES.find(one => one.code === name).unit);
  };
  which.addEventListener("change", settle);
  settle();
  return el("details", { class: "if screen", "data-patient": patient }, el("summary", {}, "What if a count were different, or known?"),
    el("form", { class: "fields", novalidate: true, onsubmit: event => {
      event.preventDefault();
      told.textContent = act.change(patient, found[0].subject, which.value, value.value, day.value) ?? "";
    } }, el("p", {}, el("label", { for: which.id }, "Count"), " ", which), el("p", {}, el("label", { for: value.id }, "is"), " ", value, " ", unit), dayField,
    el("p", {}, el("button", { type: "submit" }, "See what moves")), told));
}

function answerOf(patient, name, view) {
  const pre = el("pre", { tabindex: "0", role: "region", "aria-label": `FHIR answer of ${name}` });
  const said = el("span", { role: "status" });
  const text = () => JSON.stringify(view.answerOf(patient), null, 2);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text());
      said.textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(pre);
      said.textContent = "Selected: copy it with your keyboard.";
    }
  };
  return el("details", { class: "fhir screen", ontoggle: event => { if (event.target.open && !pre.textContent) pre.textContent = text(); } },
    el("summary", {}, "The answer as FHIR"), el("p", { class: "row" }, el("button", { type: "button", onclick: copy }, "Copy"), " ", said), pre);
}

// What was read

/** The entries that were sent; `doubted` by index what is said of them. */
export function sourceOf(source, doubted) {
  const more = source.entries.length - MOST_ENTRIES;
  return [el("div", { id: "entries" }, source.entries.slice(0, MOST_ENTRIES).map(entry => entryOf(entry, doubted))),
    ...more > 0 ? [el("p", {}, `And ${more} more; a place named above opens here all the same.`)] : []];
}

function entryOf(entry, doubted) {
  const pre = el("pre", { tabindex: "0", role: "region", "aria-label": `Entry ${entry.index + 1} as sent` });
  return el("details", { id: `entry-${entry.index}`, class: doubted.has(entry.index) ? "doubted" : null, ontoggle: event => { if (event.target.open && !pre.childNodes.length) written(pre, entry, null); } },
    el("summary", {}, el("span", { class: "number" }, entry.index + 1), " ", headline(entry), doubted.has(entry.index) && el("em", {}, " remarked")), pre);
}

function written(pre, entry, place) {
  pre.replaceChildren(...lines(entry.resource).flatMap(({ path, text }) => {
    const here = place && within(path, place);
    return [here ? el("mark", {}, text) : text, "\n"];
  }));
}

/** Opens the entry that a path leads to, and marks the place in it. */
export function reveal(source, path, doubted) {
  const entry = source.entries[path[1]];
  if (!entry) return;
  let box = document.getElementById(`entry-${entry.index}`);
  if (!box) {
    box = entryOf(entry, doubted);
    document.getElementById("entries").append(box);
  }
  written(box.querySelector("pre"), entry, path.slice(3));
  box.open = true;
  document.querySelectorAll(".revealed").forEach(one => one.classList.remove("revealed"));
  box.classList.add("revealed");
  box.querySelector("summary").focus({ preventScroll: true });
  (box.querySelector("mark") ?? box).scrollIntoView({ block: "center" });
}
