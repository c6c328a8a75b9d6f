// A sheet of counts as Observations. What a cell holds is judged by the service: the page finds out
// which column, day, number and unit are meant, and asks where there are two readings.

import { number } from "./json.js";

const CELLS = ["10*9/L", "10*3/uL", "/uL", "/mm3"];
const UCUM = "http://unitsofmeasure.org";

/** What a column may be; the first whose words its name begins with. */
export const ROLES = [
  { id: "date", label: "date", words: /^(date|day|datum|fecha|data|drawn|collected|collection|sample date|specimen date|time)\b/i },
  { id: "patient", label: "patient", words: /^(patient|pat\.?|subject|name|mrn|id|case)\b/i },
  { id: "neutrophil-share", label: "neutrophils, % of leukocytes", words: /^(neut\w*|anc|polys)[^(]*%/i, code: "770-8", display: "Neutrophils/100 leukocytes in Blood by Automated count", units: ["%"] },
  { id: "reticulocyte-share", label: "reticulocytes, % of erythrocytes", words: /^(ret\w*)[^(]*%/i, code: "17849-1", display: "Reticulocytes/100 erythrocytes in Blood by Automated count", units: ["%"] },
  { id: "anc", label: "neutrophils (ANC)", words: /^(anc|abs\w*\.? neut\w*|absolute neut\w*|neut\w*)\b/i, code: "751-8", display: "Neutrophils [#/volume] in Blood by Automated count", units: CELLS },
  { id: "platelets", label: "platelets", words: /^(plt|platelets?|thrombo\w*|plaquet\w*|piastrine)\b/i, code: "777-3", display: "Platelets [#/volume] in Blood by Automated count", units: CELLS },
  { id: "hemoglobin", label: "hemoglobin", words: /^(hb|hgb|ha?emoglobin\w*|h[äæ]moglobin\w*)\b/i, code: "718-7", display: "Hemoglobin [Mass/volume] in Blood", units: ["g/dL", "g/L", "mmol/L"] },
  { id: "reticulocytes", label: "reticulocytes", words: /^(arc|abs\w*\.? ret\w*|absolute ret\w*|ret\w*)\b/i, code: "60474-4", display: "Reticulocytes [#/volume] in Blood by Automated count", units: CELLS },
  { id: "leukocytes", label: "leukocytes (WBC)", words: /^(wbc|leu[ck]o\w*|white\w*)\b/i, code: "6690-2", display: "Leukocytes [#/volume] in Blood by Automated count", units: CELLS },
  { id: "erythrocytes", label: "erythrocytes (RBC)", words: /^(rbc|erythro\w*|red (blood )?cells?)\b/i, code: "789-8", display: "Erythrocytes [#/volume] in Blood by Automated count", units: ["10*12/L", "10*6/uL"] },
  // Of a sheet that has a row for each result.
  { id: "test", label: "name of the test", words: /^(test\w*|analyte|parameter|component|lab(oratory)?( test)?|item|analysis|order)\b/i },
  { id: "value", label: "value of the test", words: /^(value|result|numeric result|wert|ergebnis|valeur|valor)\b/i },
  { id: "unit", label: "unit of the test", words: /^(units?|uom|einheit|unité|unidad)\b/i },
];
const MOLAR_HEMOGLOBIN = { code: "59260-0", display: "Hemoglobin [Moles/volume] in Blood" };
const role = id => ROLES.find(one => one.id === id);
const LONG = ["test", "value", "unit"];
const EMPTY = /^(-+|–|—|\.|n\/?a|nd|nil)?$/i;
const PLAIN = /^([<>]=?|≤|≥)?\s*(\d+)(?:([.,])(\d+))?$/;
const GROUPED = /^([<>]=?|≤|≥)?\s*[1-9]\d{0,2}([.,])\d{3}$/;
// What may follow the name of a count in a row: else it is of something else (platelet distribution width).
const OF_A_COUNT = /^([\s,:;.#/-]|count|abs(olute)?|total|auto(mated)?|number|conc(entration)?|(in )?blood|\([^)]*\))*$/i;
const LIKE_A_DATE = /^\d{1,4}[-/.]\s?\d{1,2}[-/.]\s?\d{2,4}\b/;
const TIME = /[T ]\d{1,2}:\d{2}.*$/;
const INSTANT = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$/;
const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/** The rows of cells of a text; columns stand apart by tab, semicolon, comma, bar or wide space. */
export function rowsOf(text) {
  const first = text.split(/\r?\n/).find(row => row.trim());
  const apart = ["\t", ";", ",", "|"].find(one => first.includes(one));
  const rows = apart ? separated(text, apart) : text.split(/\r?\n/).map(row => row.trim().split(/\s{2,}/));
  const filled = rows.map(row => row.map(cell => cell.trim())).filter(row => row.some(cell => cell));
  const width = Math.max(...filled.map(row => row.length));
  return across(filled.map(row => [...row, ...Array(width - row.length).fill("")]));
}

function separated(text, apart) {
  const rows = [[""]];
  let quoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const sign = text[at];
    const row = rows.at(-1);
    if (quoted) {
      if (sign !== '"') row[row.length - 1] += sign;
      else if (text[at + 1] === '"') row[row.length - 1] += text[at += 1];
      else quoted = false;
    } else if (sign === '"' && !row.at(-1).trim()) { quoted = true; row[row.length - 1] = ""; }
    else if (sign === apart) row.push("");
    else if (sign === "\n") rows.push([""]);
    else if (sign !== "\r") row[row.length - 1] += sign;
  }
  return rows;
}

/** Rows of days, where the sheet has its days side by side. */
function across(rows) {
  const named = cells => cells.filter(cell => guessed(cell)?.code).length;
  const down = rows.map(row => row[0]);
  const isLong = ["test", "value"].every(id => rows[0].some(cell => guessed(cell)?.id === id));
  return named(down) > 1 && named(rows[0]) < 1 && !isLong ? rows[0].map((_, index) => rows.map(row => row[index])) : rows;
}

const guessed = name => ROLES.find(one => one.words.test(name.trim()));

/** The columns of a sheet as the page takes them, until its reader says otherwise. */
export function columnsOf(rows) {
  const named = rows[0].some(cell => guessed(cell));
  const units = named && rows[1] && !rows[1].some(cell => /^\d/.test(cell) && !/[/%]/.test(cell)) && rows[1].some(cell => /[/%]/.test(cell));
  const names = named ? rows[0] : rows[0].map((_, index) => `column ${index + 1}`);
  const taken = new Set();
  const columns = names.map((name, index) => {
    let found = guessed(name);
    const unit = (units && rows[1][index]) || unitIn(name, found);
    if (unit === "%" && found?.id === "anc") found = role("neutrophil-share");
    if (unit === "%" && found?.id === "reticulocytes") found = role("reticulocyte-share");
    const id = found && !taken.has(found.id) ? found.id : "";
    taken.add(id);
    return { name, role: id, unit: found?.code ? unit : "", said: unit };
  });
  const first = named ? (units ? 2 : 1) : 0;
  const unnamed = columns.findIndex((one, index) => !one.role && rows.slice(first).some(cells => cells[index]) && rows.slice(first).every(cells => !cells[index] || LIKE_A_DATE.test(cells[index])));
  if (unnamed >= 0 && !taken.has("date")) columns[unnamed].role = "date";
  return { columns, first };
}

/** The unit that a column's name carries: in brackets, after a comma, or after the word. */
function unitIn(name, found) {
  if (!found?.code) return "";
  if (found.id.endsWith("-share")) return "%";
  const bracketed = name.match(/[([]([^)\]]+)[)\]]\s*$/)?.[1] ?? name.replace(found.words, "").replace(/^[\s,:;/-]*(count|abs\w*|total|in)?[\s,:;]*/i, "");
  return /[/%]|g%|10\W?9/.test(bracketed) ? bracketed.trim() : "";
}

/** How dates as 03/04/2024 are to be read: what the column itself tells, else the question. */
function orderOf(cells) {
  const found = cells.map(cell => cell.match(/^(\d{1,2})[/-](\d{1,2})[/-]\d{4}\b/)).filter(Boolean);
  if (!found.length) return { order: "" };
  const day = found.find(([, a]) => Number(a) > 12);
  const month = found.find(([, , b]) => Number(b) > 12);
  if (day && month) return { order: "", clash: [day[0], month[0]] };
  if (day) return { order: "dmy", because: day[0] };
  if (month) return { order: "mdy", because: month[0] };
  return { order: "", ask: found[0][0] };
}

/** A cell as an ISO day, or with its time where the zone is with it, or the words why it is none. */
function dayOf(cell, order) {
  if (INSTANT.test(cell) && !Number.isNaN(Date.parse(cell))) return { day: cell };
  const text = cell.replace(TIME, "").trim();
  return { ...dayIn(text, order), untimed: text !== cell.trim() };
}

function dayIn(text, order) {
  const parts = text.match(/^(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})$/)?.slice(1)
    ?? text.match(/^(\d{4})(\d{2})(\d{2})$/)?.slice(1)
    ?? reversed(text.match(/^(\d{1,2})\.\s?(\d{1,2})\.\s?(\d{4})$/))
    ?? worded(text)
    ?? ordered(text.match(/^(\d{1,2})[/-](\d{1,2})[/-](\d{4})$/), order);
  if (parts) {
    const [year, month, day] = parts.map(Number);
    const made = new Date(Date.UTC(year, month - 1, day));
    if (made.getUTCMonth() === month - 1 && made.getUTCDate() === day) return { day: made.toISOString().slice(0, 10) };
    return { why: "there is no such day" };
  }
  if (/^\d{5}(\.\d+)?$/.test(text)) return { why: "this is how a spreadsheet stores a day: give the column the format of a date" };
  if (/[/.-]\d{2}$/.test(text)) return { why: "write the year in four digits" };
  return { why: "write it as 2024-03-05" };
}

const reversed = found => found ? [found[3], found[2], found[1]] : undefined;
const ordered = (found, order) => !found || !order ? undefined
  : order === "dmy" ? [found[3], found[2], found[1]] : [found[3], found[1], found[2]];

function worded(text) {
  const found = text.match(/^(\d{1,2})[\s.-]+([a-z]{3})[a-z]*\.?[\s,-]+(\d{4})$/i) ?? swapped(text.match(/^([a-z]{3})[a-z]*\.?\s+(\d{1,2}),?\s+(\d{4})$/i));
  const month = found && MONTHS.indexOf(found[2].toLowerCase()) + 1;
  return month ? [found[3], month, found[1]] : undefined;
}

const swapped = found => found ? [found[0], found[2], found[1], found[3]] : undefined;

/** The sign before the decimals, where the cells tell it; else the cell that could be either. */
function decimalOf(cells) {
  const marks = new Set();
  for (const cell of cells) {
    const [, , , mark] = cell.match(PLAIN) ?? [];
    if (mark && !GROUPED.test(cell)) marks.add(mark);
  }
  if (marks.size) return { marks };
  const open = cells.find(cell => GROUPED.test(cell));
  return open ? { marks, ask: open } : { marks };
}

/** The value of a cell: a number by its digits, or text for the service to read. */
function valueOf(cell, unit, marks) {
  const [, comparator, whole, mark, decimals] = cell.match(PLAIN) ?? [];
  if (whole === undefined) return { valueString: /[a-z%/]/i.test(cell) || !unit ? cell : `${cell} ${unit}` };
  const grouped = GROUPED.test(cell) && !marks.has(mark);
  const integer = (grouped ? whole + decimals : whole).replace(/^0+(?=\d)/, "");
  const quantity = { value: number(mark && !grouped ? `${integer}.${decimals}` : integer) };
  if (comparator) quantity.comparator = comparator.replace("≤", "<=").replace("≥", ">=");
  if (unit) quantity.unit = unit;
  if (ROLES.some(one => one.units?.includes(unit))) Object.assign(quantity, { system: UCUM, code: unit });
  return { valueQuantity: quantity };
}

/**
 * A sheet as Observations. `said` is what its reader has answered: `order` of dates (dmy, mdy),
 * `mark` before decimals. Gives the entries, each with its cell; `reads`, what is read otherwise
 * than written, by cell; `asks`, what has two readings; `problems` in words; `patients`.
 */
export function observationsOf(rows, { columns, first }, said) {
  const at = id => columns.findIndex(column => column.role === id);
  const counts = columns.map((column, index) => ({ ...column, index, of: role(column.role) })).filter(one => one.of?.code);
  const body = rows.slice(first).map((cells, index) => ({ cells, row: first + index }));
  const found = { entries: [], reads: new Map(), asks: [], notes: [], problems: [], patients: new Map() };
  const column = index => body.map(({ cells }) => cells[index]).filter(cell => !EMPTY.test(cell));
  const isLong = at("test") >= 0 && at("value") >= 0;
  if (!counts.length && !isLong) found.problems.push("No column is known as a count: say below what each column holds.");
  if (!body.length) found.problems.push("The sheet has names, and no row below them.");
  if (at("date") < 0) found.problems.push("No column is known as the date: say below which it is. Counts without a day cannot be judged.");
  const nameless = columns.findIndex(one => !one.name && !one.role);
  if (nameless >= 0 && column(nameless).length) {
    found.problems.push("A row has more cells than there are names. A decimal comma between commas does that: write 0.9, put it into quotation marks, or part the columns by semicolons.");
  }
  const dates = orderOf(at("date") < 0 ? [] : column(at("date")));
  if (dates.ask) found.asks.push({ kind: "order", example: dates.ask, answered: Boolean(said.order) });
  if (dates.clash) found.problems.push(`The dates ${dates.clash.join(" and ")} cannot have the same order of day and month.`);
  if (dates.because) found.notes.push(`Dates are read as ${dates.order === "dmy" ? "day/month/year" : "month/day/year"}, since ${dates.because} occurs.`);
  const decimals = decimalOf([...counts.map(({ index }) => index), ...isLong ? [at("value")] : []].flatMap(column));
  if (decimals.ask) found.asks.push({ kind: "mark", example: decimals.ask, answered: Boolean(said.mark) });
  const marks = said.mark && decimals.ask ? new Set([said.mark]) : decimals.marks;
  for (const { name, unit, index, of } of counts) {
    const bare = column(index).some(cell => !/[a-z%]/i.test(cell));
    if (!unit && bare) found.asks.push({ kind: "unit", index, name: name || of.label });
  }
  const ids = patientsOf(at("patient") < 0 ? [] : column(at("patient")), found);
  const order = said.order || dates.order;
  const takes = { counts, marks, order, date: at("date"), patient: at("patient"), ids, open: Boolean(dates.ask && !said.order), long: isLong && { test: at("test"), value: at("value"), unit: at("unit") }, others: new Map(), untimed: 0 };
  for (const row of body) rowOf(row, takes, found);
  for (const [name, rows] of takes.others) found.notes.push(`'${name}' is not used (${rows === 1 ? "1 row" : `${rows} rows`}).`);
  if (takes.untimed) found.notes.push(`The times of day are not used, the days are: without its zone a time is none in FHIR. Write 2024-03-05T08:30:00+01:00 where the hour matters.`);
  for (const left of columns.filter(one => one.name && (!one.role || (!isLong && LONG.includes(one.role))))) found.notes.push(`The column '${left.name}' is not used.`);
  return found;
}

function patientsOf(cells, found) {
  const names = [...new Set(cells)];
  const ids = new Map(names.map((name, index) => [name, names.every(one => /^[A-Za-z0-9.-]{1,64}$/.test(one)) ? name : `p${index + 1}`]));
  if (names.length > 1) found.notes.push(`The sheet holds ${names.length} patients: each is judged alone.`);
  for (const [name, id] of ids) found.patients.set(`Patient/${id}`, name);
  return ids;
}

/** The counts of a row: a column each, and the one that the row itself names. */
function countsIn(cells, { counts, long, others }) {
  const filled = counts.filter(({ index }) => !EMPTY.test(cells[index]));
  if (!long || EMPTY.test(cells[long.value])) return filled;
  const name = cells[long.test];
  const said = (long.unit < 0 ? "" : cells[long.unit]) || "";
  let of = OF_A_COUNT.test(name.replace(guessed(name)?.words, "")) ? guessed(name) : undefined;
  if (said === "%" && of?.id === "anc") of = role("neutrophil-share");
  if (said === "%" && of?.id === "reticulocytes") of = role("reticulocyte-share");
  if (of?.code) return [...filled, { index: long.value, of, unit: said || unitIn(name, of) }];
  others.set(name, (others.get(name) ?? 0) + 1);
  return filled;
}

function rowOf({ cells, row }, takes, found) {
  const { marks, order, date, patient, ids, open } = takes;
  const written = date < 0 ? "" : cells[date];
  const filled = countsIn(cells, takes);
  const { day, why, untimed } = written ? dayOf(written, order) : {};
  if (untimed && filled.length) takes.untimed += 1;
  if (day && day !== written) found.reads.set(`${row} ${date}`, day);
  if (why && filled.length && !(open && /^\d{1,2}[/-]\d{1,2}[/-]\d{4}/.test(written))) {
    found.problems.push(`Row ${row + 1}: '${written.slice(0, 40)}' is not read as a date: ${why}.`);
  }
  if (!written && filled.length && date >= 0) found.notes.push(`Row ${row + 1} has no date: its counts cannot be judged.`);
  const who = patient < 0 ? "" : cells[patient];
  if (patient >= 0 && !who && filled.length) found.problems.push(`Row ${row + 1} names no patient.`);
  for (const { index, of, unit } of filled) {
    const value = valueOf(cells[index], unit, marks);
    const read = value.valueQuantity ? JSON.stringify(value.valueQuantity.value) : null;
    if (read && !cells[index].endsWith(read)) found.reads.set(`${row} ${index}`, `${value.valueQuantity.comparator ?? ""}${read}`);
    const { code, display } = of.id === "hemoglobin" && /mol/i.test(unit) ? MOLAR_HEMOGLOBIN : of;
    found.entries.push({
      cell: [row, index],
      resource: {
        resourceType: "Observation",
        id: `row-${row + 1}-${of.id}`,
        status: "final",
        code: { coding: [{ system: "http://loinc.org", code, display }] },
        subject: { reference: `Patient/${who ? ids.get(who) : "sheet"}` },
        ...(day && { effectiveDateTime: day }),
        ...value,
      },
    });
  }
}
