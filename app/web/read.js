// What is dropped, pasted or chosen, as FHIR: or the words that say why it cannot be.

import { Problem, some } from "./dom.js";
import { parse } from "./json.js";

const MOST_BYTES = 16 * 1024 * 1024;
const MEGABYTE = 1024 * 1024;
const CSV = "In the spreadsheet choose File, Save as, CSV (UTF-8); or copy the cells and paste them here.";
// First bytes of what people drop.
const KINDS = [
  ["25504446", "This is a PDF: a picture of numbers, not the numbers. Copy the table out of it and paste it here, or type it."],
  ["504b0304", `This is an Excel workbook, or another zipped file: its cells cannot be read here. ${CSV}`],
  ["d0cf11e0", `This is an old Excel or Word file: its cells cannot be read here. ${CSV}`],
  ["1f8b", "This file is compressed (gzip). Unpack it first."],
  ["89504e47", "This is a picture. Type the counts, or paste them as text."],
  ["ffd8ff", "This is a picture. Type the counts, or paste them as text."],
];

/** The text of a file; Problem says what it is instead. */
export async function textOf(file) {
  if (file.size > MOST_BYTES) {
    const size = Math.round(file.size / MEGABYTE);
    throw new Problem(`This file has ${size} MB; the page takes up to ${MOST_BYTES / MEGABYTE}. Send one patient's part of it; for a whole export there is the command 'maa-assess screen'.`);
  }
  let buffer;
  try {
    buffer = await file.arrayBuffer();
  } catch {
    throw new Problem("This cannot be read: it may be a folder, or a file that has moved. Drop a single file.");
  }
  if (!buffer.byteLength) throw new Problem("This file is empty.");
  const head = [...new Uint8Array(buffer, 0, Math.min(4, buffer.byteLength))].map(byte => byte.toString(16).padStart(2, "0")).join("");
  const known = KINDS.find(([bytes]) => head.startsWith(bytes));
  if (known) throw new Problem(known[1]);
  return decoded(buffer, head);
}

function decoded(buffer, head) {
  if (head.startsWith("fffe")) return new TextDecoder("utf-16le").decode(buffer);
  if (head.startsWith("feff")) return new TextDecoder("utf-16be").decode(buffer);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(buffer);
  } catch {
    // What older spreadsheets write: µ and ³ are in it.
    const text = new TextDecoder("windows-1252").decode(buffer);
    if (text.includes("\0")) throw new Problem("This file is not text. The page reads CSV, FHIR JSON and NDJSON.");
    return text;
  }
}

/** FHIR that was given as text, or null where the text is a sheet. */
export function fhirOf(given) {
  const text = given.replace(/^\ufeff/, "").trim();
  if (!text) throw new Problem("Nothing is here yet: paste counts, choose a file, or try a story.");
  if (text.startsWith("<")) throw new Problem("This is XML or HTML. FHIR is read as JSON: ask your system for application/fhir+json.");
  if (/^(MSH|FHS|BHS)\|/.test(text)) throw new Problem("This is an HL7 v2 message. The page reads FHIR as JSON, and sheets.");
  if (!/^[[{]/.test(text)) return null;
  const whole = attempt(text);
  if (whole.value) return of(whole.value, text);
  const rows = text.split(/\r?\n/).filter(row => row.trim());
  if (rows.length > 1 && attempt(rows[0]).value) return ofRows(rows);
  throw new Problem(`This looks like JSON, and is not whole: ${whole.reason}. Was all of it copied?`);
}

function attempt(text) {
  try {
    return { value: parse(text) };
  } catch (error) {
    return { reason: error.message.replace(/^JSON\.parse: /, "").replace(/"[^"]*"\.\.\. is/, "it is") };
  }
}

function ofRows(rows) {
  const bad = rows.findIndex(row => attempt(row).value?.resourceType === undefined);
  if (bad >= 0) throw new Problem(`Line ${bad + 1} of ${rows.length} is no FHIR resource. In NDJSON each line is one.`);
  return bundled(rows);
}

function of(value, text) {
  if (Array.isArray(value)) {
    if (!value.every(one => one?.resourceType)) throw new Problem("This is a list of something that is not FHIR: each needs a resourceType.");
    return bundled(value.map(one => JSON.stringify(one)));
  }
  if (value.resourceType === "Bundle") return given(text, value, []);
  if (value.resourceType === "Parameters") return parameters(value);
  if (value.resourceType) return bundled([text]);
  throw new Problem("This is JSON, and not FHIR: it has no resourceType.");
}

function parameters(value) {
  const list = Array.isArray(value.parameter) ? value.parameter : [];
  const data = list.filter(one => one?.name === "data" || one?.name === "additionalData");
  if (data.length !== 1 || data[0].resource?.resourceType !== "Bundle") {
    throw new Problem("These Parameters hold no Bundle as 'data'.");
  }
  return given(JSON.stringify(data[0].resource), data[0].resource, list.filter(one => one !== data[0]));
}

const bundled = resources => {
  const text = `{"resourceType":"Bundle","type":"collection","entry":[${resources.map(one => `{"resource":${one}}`).join(",")}]}`;
  return given(text, parse(text), []);
};

/** The Bundle as it is sent, as it is read, and the parameters that came with it. */
const given = (text, bundle, parameters) => ({ text, bundle, parameters, said: some((Array.isArray(bundle.entry) ? bundle.entry : []).length, "entry").replace("entrys", "entries") });
