// The service's answer and what was sent, brought together: whose, which count, from where.

import { byId, readable } from "./dom.js";
import { resolve, scalar } from "./json.js";

const OURS = "https://w3id.org/maa-assess";
export const WORDS = {
  eligible: "The counts meet this definition",
  "not-eligible": "The counts do not meet this definition",
  indeterminate: "Open: it is not known whether the counts meet this definition",
  "complete-response": "Complete response",
  response: "Response",
  "no-response": "No response",
  "not-evaluable": "The response cannot be judged",
};
export const SHORT = {
  eligible: "met", "not-eligible": "not met", indeterminate: "open", "complete-response": "complete response",
  response: "response", "no-response": "no response", "not-evaluable": "cannot be judged",
};
export const ANALYTES = [
  { code: "751-8", short: "ANC", name: "neutrophils (ANC)", display: "Neutrophils [#/volume] in Blood by Automated count", unit: "10*9/L" },
  { code: "777-3", short: "platelets", name: "platelets", display: "Platelets [#/volume] in Blood by Automated count", unit: "10*9/L" },
  { code: "718-7", short: "Hb", name: "hemoglobin", display: "Hemoglobin [Mass/volume] in Blood", unit: "g/dL" },
  { code: "60474-4", short: "ARC", name: "reticulocytes", display: "Reticulocytes [#/volume] in Blood by Automated count", unit: "10*9/L" },
];
const SHORT_NAMES = new Map(ANALYTES.map(one => [one.code, one.name]));
/** How a verdict or a truth looks: by sign and by word, never by colour alone. */
export const LOOK = {
  eligible: "yes", met: "yes", "complete-response": "yes", response: "yes",
  "not-eligible": "no", "not-met": "no", "no-response": "no", "not-applicable": "none",
};
export const SIGNS = { yes: "✓", no: "✗", open: "?", none: "–" };
export const look = code => LOOK[code] ?? "open";

const LIFE = ["first-met", "last-met", "episodes", "longest-time-met"];

const codingOf = (concept, system) => concept?.coding?.find(one => one.system === `${OURS}/CodeSystem/${system}`);
const refsOf = component => (component.extension ?? []).map(one => one.valueReference?.reference).filter(Boolean);
export const subjectKey = subject => subject?.reference ?? scalar(subject?.identifier?.value) ?? subject?.display ?? "";

/** The answer's assessments, one for each patient and definition, with what belongs to each. */
export function assessmentsOf(answer) {
  const byUrl = new Map(answer.entry.map(({ fullUrl, resource }) => [fullUrl, resource]));
  const guidances = answer.entry.map(one => one.resource).filter(one => one.resourceType === "GuidanceResponse");
  const told = new Set();
  const found = answer.entry.filter(({ resource }) => resource.resourceType === "Observation" && codingOf(resource.code, "assessment"))
    .map(({ fullUrl, resource }) => {
      const guidance = guidances.find(one => one.contained?.some(inner => inner.parameter?.some(parameter => parameter.valueReference?.reference === fullUrl)));
      const outcomes = (guidance?.evaluationMessage ?? []).map(({ reference }) => byUrl.get(reference)).filter(Boolean);
      outcomes.forEach(one => told.add(one));
      return assessment(resource, guidance, outcomes.flatMap(one => one.issue));
    });
  const others = answer.entry.map(one => one.resource).filter(one => one.resourceType === "OperationOutcome" && !told.has(one));
  // Of a life the further days are told of by its periods.
  return { found: [...Map.groupBy(found, one => `${one.patient} ${one.definition}`).values()].map(([first]) => first), issues: others.flatMap(one => one.issue) };
}

/** A time of one verdict, and what decided it. */
function periodOf({ extension = [] }, titles) {
  const of = url => extension.filter(one => one.url === url);
  const [{ valuePeriod: { start, end } }] = of("period");
  return {
    start, end,
    verdict: of("verdict")[0].valueCoding.code,
    days: scalar(of("assessments")[0].valueInteger),
    deciding: of("criterion").map(one => titles.get(one.valueCoding.code) ?? one.valueCoding.code),
    refs: of("source").map(one => one.valueReference.reference),
  };
}

function assessment(resource, guidance, issues) {
  const [canonical] = (resource.method?.coding ?? []).map(one => one.code);
  const components = resource.component ?? [];
  const counts = components.filter(one => one.valueQuantity && !codingOf(one.code, "criterion")).map(countOf);
  const verdict = codingOf(resource.valueCodeableConcept, "verdict");
  const criteria = components.filter(one => codingOf(one.code, "criterion")).map(one => criterion(one, counts));
  const titles = new Map(criteria.map(one => [one.code, one.title]));
  return {
    resource,
    subject: resource.subject,
    patient: subjectKey(resource.subject),
    definition: canonical?.split("/").at(-1).split("|")[0] ?? "",
    title: resource.code.text ?? verdict?.display ?? "",
    verdict: verdict?.code ?? "",
    said: resource.valueCodeableConcept?.text ?? "",
    day: resource.effectiveDateTime ?? "",
    counts,
    criteria: criteria.filter(one => !LIFE.includes(one.code)),
    /** First and last day met, how often, how long: where it was asked of all days. */
    life: criteria.filter(one => LIFE.includes(one.code)),
    periods: (resource.extension ?? []).filter(one => one.url === `${OURS}/StructureDefinition/eligibility-period`).map(one => periodOf(one, titles)),
    missing: (guidance?.note ?? []).map(one => one.text),
    needs: (guidance?.dataRequirement ?? []).flatMap(one => one.codeFilter ?? []).flatMap(one => one.code ?? []),
    issues,
    notes: (resource.note ?? []).map(one => one.text),
    citation: resource.method?.text ?? "",
  };
}

function countOf(component) {
  const quantity = component.valueQuantity;
  const coding = component.code.coding?.[0] ?? {};
  return {
    code: coding.code,
    name: (component.code.text ?? coding.display ?? "").replace(/,? *\d{4}-\d{2}.*$/, ""),
    day: component.code.text?.match(/\d{4}-\d{2}(-\d{2})?/)?.[0] ?? "",
    // Without the zeros that the unit's conversion left.
    read: readable(`${quantity.comparator ?? ""}${scalar(quantity.value).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "")} ${quantity.unit ?? ""}`),
    refs: refsOf(component),
  };
}

function criterion(component, counts) {
  const coding = codingOf(component.code, "criterion");
  const refs = refsOf(component);
  const value = component.valueCodeableConcept;
  const coded = codingOf(value, "truth") ?? codingOf(value, "verdict");
  return {
    code: coding.code,
    title: coding.display ?? coding.code,
    truth: codingOf(value, "truth")?.code,
    answer: coded ? (SHORT[coded.code] ?? coded.code.replaceAll("-", " ")) : answerOf(component),
    look: coded && look(coded.code),
    why: value?.text ?? "",
    limit: readable((component.referenceRange ?? []).map(one => one.text).join("; ")),
    counts: counts.filter(count => count.refs.length && count.refs.every(one => refs.includes(one))),
    refs,
    composed: coding.code.includes("response") || ["complete", "primary-end-point", "kept-two-years", "relapse"].includes(coding.code) || coding.code.startsWith("transfusion"),
  };
}

/** What a component of the course says: a day, a number with its unit, words. */
function answerOf({ valueDateTime, valueString, valueInteger, valueQuantity, valueCodeableConcept }) {
  return valueQuantity ? readable(`${scalar(valueQuantity.value)} ${valueQuantity.unit ?? ""}`)
    : scalar(valueDateTime ?? valueString ?? valueInteger ?? valueCodeableConcept?.text ?? valueCodeableConcept?.coding?.[0]?.display);
}

/** What was sent, found again by the references of the answer and the places it names. */
export class Source {
  constructor(bundle) {
    this.bundle = bundle;
    this.entries = (Array.isArray(bundle.entry) ? bundle.entry : []).map((entry, index) => ({ index, fullUrl: entry?.fullUrl, resource: entry?.resource ?? {} }));
    this.byName = new Map();
    for (const entry of this.entries) {
      const { resourceType, id } = entry.resource;
      for (const name of [entry.fullUrl, id && `${resourceType}/${id}`]) if (name && !this.byName.has(name)) this.byName.set(name, entry);
    }
  }

  /** The entry that a reference of the answer means. */
  named(reference) {
    return this.byName.get(reference) ?? this.byName.get(reference?.split("/_history")[0])
      ?? this.entries.find(one => one.fullUrl?.endsWith(`/${reference}`));
  }

  /** The path in the Bundle of a place that the answer names. */
  at(expression) {
    return resolve(this.bundle, expression.replace(/^Parameters\.parameter\[\d+\]\.resource/, "Bundle"));
  }
}

/** A result as it was sent. */
export function sent(resource) {
  const value = Object.keys(resource).find(key => /^value[A-Z]/.test(key));
  if (value === "valueQuantity") {
    const { comparator = "", value: figure, unit, code } = resource.valueQuantity ?? {};
    return `${comparator}${scalar(figure)} ${unit ?? code ?? "(no unit)"}`;
  }
  if (value) return typeof resource[value] === "object" && !JSON.isRawJSON?.(resource[value]) ? conceptText(resource[value]) : scalar(resource[value]);
  if (resource.dataAbsentReason) return `no value: ${conceptText(resource.dataAbsentReason)}`;
  const inner = Array.isArray(resource.component) ? resource.component : [];
  return inner.map(one => `${conceptText(one?.code)} ${sent(one ?? {})}`).join("; ");
}

const conceptText = concept => scalar(concept?.text ?? concept?.coding?.[0]?.display ?? SHORT_NAMES.get(concept?.coding?.[0]?.code) ?? concept?.coding?.[0]?.code ?? "");

/** What an entry is, in one line: kind, what of, day, value. */
export function headline({ resource }) {
  const what = conceptText(resource.code) || conceptText(resource.medicationCodeableConcept) || nameOf(resource);
  const period = resource.effectivePeriod ?? resource.performedPeriod;
  const day = resource.effectiveDateTime ?? resource.effectiveInstant ?? resource.performedDateTime ?? period?.start ?? resource.birthDate ?? "";
  const odd = resource.status && !["final", "completed"].includes(resource.status) ? resource.status : "";
  return [resource.resourceType, what, scalar(day).slice(0, 10), sent(resource), scalar(odd)].filter(Boolean).join(" · ");
}

/** A patient's name, where the data have one. */
export function nameOf(resource) {
  const name = Array.isArray(resource.name) ? resource.name[0] : undefined;
  return scalar(name?.text) || [...(Array.isArray(name?.given) ? name.given : []), name?.family].filter(Boolean).map(scalar).join(" ");
}

/** Scrolls to an element, and lets the keyboard go on from there. */
export function goTo(id) {
  const target = byId(id);
  if (!target) return;
  target.setAttribute("tabindex", "-1");
  target.focus({ preventScroll: true });
  target.scrollIntoView({ block: "start" });
}
