// SMART App Launch: a public client with PKCE. The chart is read here, in the browser, with the
// clinician's own rights; what is read is shown like anything that was pasted.

import { address, asked, withToken } from "./ask.js";
import { Problem, byId, el } from "./dom.js";

const told = JSON.parse(document.querySelector("meta[name=smart]").content);
const issuers = told.issuers;
const TYPES = { Observation: "results", Procedure: "transfusions", MedicationAdministration: "drugs and transfusions", Patient: "the patient's sex and age" };
const AGAIN = "Open the page from the chart again.";

const oauth2 = () => globalThis.FHIR.oauth2;
const say = text => { byId("status").textContent = text; };

function fail(error) {
  if (!(error instanceof Problem)) console.warn(error);
  const text = error instanceof Problem ? error.message : `The EHR did not let the page in: ${String(error?.message ?? error).slice(0, 300)} ${AGAIN}`;
  byId("problems").replaceChildren(el("p", { class: "problem" }, text));
  say("");
}

// Before: the EHR is asked

async function begin() {
  const query = new URLSearchParams(location.search);
  const iss = query.get("iss")?.replace(/\/+$/, "");
  const launch = query.get("launch");
  // The client takes more from an address than an EHR has to say.
  history.replaceState(null, "", location.pathname);
  if (!iss) return choose();
  if (!issuers.includes(iss)) throw new Problem(`${iss.slice(0, 200)} is not one of the EHRs that this service was told of (MAA_SMART_ISSUERS).`);
  return authorize(iss, launch);
}

function choose() {
  byId("issuers").replaceChildren(...issuers.map(iss => el("li", {}, el("button", { type: "button", onclick: () => authorize(iss).catch(fail) }, `Sign in at ${new URL(iss).host}`))));
}

async function authorize(iss, launch) {
  if (!isSecureContext) throw new Problem("A launch needs https: the EHR gives its answer to no other page.");
  say(`Asking ${new URL(iss).host}.`);
  await oauth2().authorize({
    iss, launch: launch ?? undefined, clientId: told.clientId, redirectUri: address("smart"), pkceMode: "required", completeInTarget: true,
    scope: `${launch ? "launch" : "launch/patient"} ${told.scope}`,
  });
}

// After: the chart is read

async function read() {
  say("Reading the chart.");
  const client = await oauth2().ready().finally(() => history.replaceState(null, "", location.pathname));
  const { serverUrl, tokenResponse } = client.state;
  // What the client keeps names the patient, and lets in whoever finds it.
  sessionStorage.clear();
  if (!issuers.includes(serverUrl.replace(/\/+$/, ""))) throw new Problem("This EHR is not one that this service was told of.");
  const id = client.patient.id;
  if (!id) throw new Problem(`The EHR named no patient. ${AGAIN}`);
  if (told.tokenHere) withToken(tokenResponse.access_token);
  const missing = new Set(Object.keys(TYPES).filter(type => !granted(tokenResponse.scope ?? told.scope, type)));
  if (missing.has("Observation")) throw new Problem("The EHR gave no right to read results (patient/Observation.rs): nothing can be judged.");
  const resources = await chart(client, id, missing);
  const entry = resources.map(resource => ({ fullUrl: `${serverUrl}/${resource.resourceType}/${resource.id}`, resource }));
  const { put } = await import("./page.js");
  await put(JSON.stringify({ resourceType: "Bundle", type: "collection", entry }, null, 1));
  const lost = [...missing].map(type => `${type} (${TYPES[type]})`);
  if (lost.length) byId("problems").append(el("p", { class: "problem" }, `Not read, since the EHR gave no right to it: ${lost.join(", ")}. What hangs on it stays unknown.`));
}

const granted = (scope, type) => scope.split(/\s+/).some(one => new RegExp(`^(patient|user)/(\\*|${type})\\.(\\*|read|c?ru?d?s)$`).test(one));

/** What the service itself asks a chart for, as its hooks tell it; `missing` grows by what is refused. */
async function chart(client, id, missing) {
  const { services } = await asked("cds-services");
  const templates = Object.values(services.find(one => one.id === "maa-response").prefetch);
  const found = await Promise.all(templates.map(template => one(client, template.replaceAll("{{context.patientId}}", encodeURIComponent(id)), missing)));
  return [...new Map(found.flat().map(resource => [`${resource.resourceType}/${resource.id}`, resource])).values()];
}

async function one(client, url, missing) {
  const [type] = url.split(/[/?]/);
  if (missing.has(type)) return [];
  try {
    const answer = await client.request(url, { pageLimit: 0, flat: true });
    return [answer].flat();
  } catch (error) {
    const status = error.statusCode ?? error.status;
    if (status === 401) throw new Problem(`The EHR has ended the session. ${AGAIN}`);
    if (status === 403 && type !== "Observation") {
      missing.add(type);
      return [];
    }
    if (status === 403) throw new Problem("The EHR refused to give the results (403): the page needs patient/Observation.rs.");
    throw new Problem(`The EHR does not give ${type}${status ? ` (${status})` : ""}. ${AGAIN}`);
  }
}

(byId("issuers") ? begin() : read()).catch(fail);
