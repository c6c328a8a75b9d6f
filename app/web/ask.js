// The public operations, called as anyone calls them: what is asked stands in the body, never in the
// address.

import { Problem } from "./dom.js";
import { parse } from "./json.js";

const BASE = new URL("../../", import.meta.url);
const HEADERS = { "Content-Type": "application/fhir+json", Accept: "application/fhir+json" };

/** The address of something of this service. */
export const address = path => new URL(path, BASE).href;

/** The data (text of a Bundle) with its parameters as the text of Parameters. */
export const withParameters = (data, parameters) =>
  `{"resourceType":"Parameters","parameter":[{"name":"data","resource":${data}}${parameters.map(one => `,${JSON.stringify(one)}`).join("")}]}`;

async function post(path, body, signal, accept = HEADERS.Accept) {
  let answer;
  try {
    answer = await fetch(address(path), { method: "POST", body, signal, headers: { ...HEADERS, Accept: accept }, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The service does not answer. What you typed is still here: try again in a moment.");
  }
  return answer;
}

/** The answer of an operation; Problem has what the service says of the input. */
export async function asked(operation, body, signal) {
  const answer = await post(`fhir/${operation}`, body, signal);
  const json = await answer.text().then(parse).catch(() => null);
  if (answer.ok && json) return json;
  const problem = new Problem((json?.issue ?? []).map(one => one.diagnostics).filter(Boolean).join(" ") || `The service answers ${answer.status}.`);
  problem.places = (json?.issue ?? []).flatMap(one => one.expression ?? []);
  throw problem;
}

/** The picture of the counts as the text of an SVG; null where there is none. */
export async function plotted(question, width, body, signal) {
  const answer = await post(`fhir/$plot?operation=${question}&width=${width}`, body, signal, "image/svg+xml");
  return answer.ok ? answer.text() : null;
}

/** A file of the page. */
export async function fileOf(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Problem("The story cannot be had: the service does not answer.");
  return answer.text();
}
