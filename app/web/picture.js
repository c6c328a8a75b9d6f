// The picture as the service draws it, taken in as elements: whatever is not a drawing stays out.

import { Problem, el } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const ELEMENTS = new Set(["svg", "g", "defs", "title", "desc", "text", "tspan", "rect", "line", "path", "circle", "ellipse", "polygon", "polyline", "clipPath", "pattern", "marker"]);
const REFUSED = /^(on|style$|href$|xlink:)/i;

const HOW = "Point at a mark, or step through them with the arrow keys; Enter shows the result in the input.";

/** The picture with its read-out, by pointer and by keyboard; `reveal` is given a mark's place. */
export function picture(text, reveal) {
  const drawn = drawing(text);
  const marks = [...drawn.querySelectorAll(".mark")].filter(one => one.querySelector("title"));
  if (!marks.length) return drawn;
  const said = el("p", { class: "readout screen", "aria-live": "polite" }, HOW);
  let at = -1;
  const read = index => {
    marks[at]?.classList.remove("here");
    at = index;
    marks[at].classList.add("here");
    said.textContent = marks[at].querySelector("title").textContent;
  };
  const show = () => { if (marks[at]?.dataset.place) reveal(marks[at].dataset.place); };
  marks.forEach((one, index) => {
    one.addEventListener("pointerenter", () => read(index));
    one.addEventListener("click", () => { read(index); show(); });
  });
  return el("div", { class: "read-out", tabindex: "0", role: "group", "aria-label": `The picture, ${marks.length} marks. ${HOW}`, onkeydown: event => {
    const step = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: marks.length - 1 }[event.key];
    if (step === undefined && event.key !== "Enter") return;
    event.preventDefault();
    if (event.key === "Enter") show();
    else read(Math.min(marks.length - 1, Math.max(0, step)));
  } }, drawn, said);
}

/** The SVG of a text as an element of this page. */
function drawing(text) {
  const read = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  for (const one of [read, ...read.querySelectorAll("*")]) {
    const attributes = [...one.attributes].some(({ name, value }) => REFUSED.test(name) || /url\((?!["']?#)/i.test(value));
    if (one.namespaceURI !== SVG || !ELEMENTS.has(one.localName) || attributes) throw new Problem("The picture is not one that this page shows.");
  }
  return document.importNode(read, true);
}
