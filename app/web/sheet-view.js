// A sheet as it is read, before it is judged: its columns, its questions, its cells.

import { el, readable } from "./dom.js";
import { ROLES } from "./sheet.js";

const MOST_ROWS = 200;

/** The sheet with its questions, written into `place`; `changed` after each answer. */
export function sheetOf(place, sheet, changed) {
  const focus = document.activeElement?.id;
  const { found } = sheet;
  const told = found.problems.map(text => el("p", { class: "problem" }, text));
  const asks = found.asks.filter(one => one.kind !== "unit").map(one => asking(one, sheet, changed));
  for (const one of found.asks.filter(each => each.kind === "unit")) {
    one.words = `The column '${one.name}' has no unit: choose it.`;
    told.push(el("p", { class: "problem" }, one.words));
  }
  place.replaceChildren(...told, ...asks, ...found.notes.map(text => el("p", { class: "note" }, text)), table(sheet, changed));
  if (focus) document.getElementById(focus)?.focus();
}

function asking(one, sheet, changed) {
  const [a, b, year] = one.example.split(/[/-]/);
  const choices = one.kind === "order"
    ? [["dmy", `day first: ${year}-${b.padStart(2, "0")}-${a.padStart(2, "0")}`], ["mdy", `month first: ${year}-${a.padStart(2, "0")}-${b.padStart(2, "0")}`]]
    : [[one.example.match(/[.,]/)[0], one.example.replace(",", ".")], ["none", one.example.replace(/[.,]/, "")]];
  one.words = one.kind === "order" ? `Which day is ${one.example}?` : `Which number is ${one.example}?`;
  return el("fieldset", { class: "asks" }, el("legend", {}, one.words), choices.map(([value, label]) =>
    el("label", {}, el("input", { type: "radio", name: one.kind, id: `ask-${one.kind}-${value}`, value, checked: sheet.said[one.kind] === value, onchange: () => {
      sheet.said[one.kind] = value;
      changed();
    } }), ` ${label}`)));
}

function table(sheet, changed) {
  const { rows, columns, first, found } = sheet;
  const head = columns.map((column, index) => el("th", { scope: "col" }, el("span", {}, column.name || `column ${index + 1}`),
    picker(`role-${index}`, `What column ${index + 1}, ${column.name}, holds`, [["", "not used"], ...ROLES.map(one => [one.id, one.label])], column.role, value => {
      column.role = value;
      column.unit = ROLES.find(one => one.id === value)?.code ? column.said : "";
      changed();
    }),
    unitPicker(column, index, found.asks.some(one => one.index === index), changed)));
  const body = rows.slice(first, first + MOST_ROWS).map((cells, index) => el("tr", {}, cells.map((cell, at) => {
    const read = found.reads.get(`${first + index} ${at}`);
    return el("td", { class: columns[at].role ? null : "unused" }, cell, read !== undefined && el("span", { class: "read" }, ` read as ${read}`));
  })));
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "The sheet as it is read" },
    el("table", { class: "sheet" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, body)),
    rows.length > first + MOST_ROWS && el("p", {}, `And ${rows.length - first - MOST_ROWS} more rows.`));
}

function unitPicker(column, index, asked, changed) {
  const role = ROLES.find(one => one.id === column.role);
  if (!role?.code) return null;
  const units = [...new Set([column.said, ...role.units].filter(Boolean))];
  return picker(`unit-${index}`, `Unit of column ${index + 1}, ${column.name}`, [["", asked ? "choose the unit" : "in the cells"], ...units.map(one => [one, readable(one)])], column.unit, value => {
    column.unit = value;
    changed();
  });
}

function picker(id, label, options, chosen, changed) {
  return el("select", { id, "aria-label": label, value: chosen, onchange: event => changed(event.target.value) },
    options.map(([value, text]) => el("option", { value, selected: value === chosen }, text)));
}

/** The sheet as it was written, each cell a place that can be gone to. */
export function writtenSheet(sheet, source, doubted) {
  const { rows, columns, first, found } = sheet;
  const doubtedCells = new Set([...doubted].map(index => found.entries[index]?.cell.join("-")));
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "The sheet as sent" }, el("table", { class: "sheet" },
    el("thead", {}, el("tr", {}, columns.map((column, index) => el("th", { scope: "col" }, column.name || `column ${index + 1}`, column.unit && el("small", {}, ` ${readable(column.unit)}`))))),
    el("tbody", {}, rows.slice(first).map((cells, index) => el("tr", {}, cells.map((cell, at) => {
      const id = `${first + index}-${at}`;
      return el("td", { id: `cell-${id}`, class: doubtedCells.has(id) ? "doubted" : null }, cell, doubtedCells.has(id) && el("em", {}, " remarked"));
    }))))));
}
