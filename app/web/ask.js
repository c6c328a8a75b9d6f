// The public operations, called as anyone calls them: what is asked stands in the body, never in the
// address.

import { Problem } from "./dom.js";
import { parse } from "./json.js";

const BASE = new URL("../../", import.meta.url);
let token = null;

const HEADERS = { "Content-Type": "application/fhir+json", Accept: "application/fhir+json" };

/** From now on every call brings this token: where the service asks who calls. */
export const withToken = given => { token = given; };

/** The address of something of this service. */
export const address = path => new URL(path, BASE).href;

/** The data (text of a Bundle) with its parameters as the text of Parameters. */
export const withParameters = (data, parameters) =>
  `{"resourceType":"Parameters","parameter":[{"name":"data","resource":${data}}${parameters.map(one => `,${JSON.stringify(one)}`).join("")}]}`;

async function call(path, body, signal, accept = HEADERS.Accept) {
  let answer;
  try {
    const headers = { ...(body && HEADERS), Accept: accept, ...(token && { Authorization: `Bearer ${token}` }) };
    answer = await fetch(address(path), { method: body ? "POST" : "GET", body, signal, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The service does not answer. What you typed is still here: try again in a moment.");
  }
  return answer;
}

/** The JSON of an address, of an operation where there is a body; Problem has what the service says. */
export async function asked(path, body, signal) {
  const answer = await call(path, body, signal, body ? HEADERS.Accept : "application/json");
  const json = await answer.text().then(parse).catch(() => null);
  signal?.throwIfAborted(); // what nobody waits for any more is no problem
  if (answer.ok && json) return json;
  const problem = new Problem((json?.issue ?? []).map(one => one.diagnostics).filter(Boolean).join(" ") || `The service answers ${answer.status}.`);
  problem.places = (json?.issue ?? []).flatMap(one => one.expression ?? []);
  throw problem;
}

/** The picture of the counts as the text of an SVG; null where there is none. */
export async function plotted(question, width, body, signal) {
  const answer = await call(`fhir/$plot?operation=${question}&width=${width}`, body, signal, "image/svg+xml");
  return answer.ok ? answer.text() : null;
}

/** A file of the page. */
export async function fileOf(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Problem("The story cannot be had: the service does not answer.");
  return answer.text();
}
