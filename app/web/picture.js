// The picture as the service draws it, taken in as elements: whatever is not a drawing stays out.

import { Problem } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const ELEMENTS = new Set(["svg", "g", "defs", "title", "desc", "text", "tspan", "rect", "line", "path", "circle", "ellipse", "polygon", "polyline", "clipPath", "pattern", "marker"]);
const REFUSED = /^(on|style$|href$|xlink:)/i;

/** The SVG of a text as an element of this page. */
export function picture(text) {
  const read = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  for (const one of [read, ...read.querySelectorAll("*")]) {
    const attributes = [...one.attributes].some(({ name, value }) => REFUSED.test(name) || /url\((?!["']?#)/i.test(value));
    if (one.namespaceURI !== SVG || !ELEMENTS.has(one.localName) || attributes) throw new Problem("The picture is not one that this page shows.");
  }
  return document.importNode(read, true);
}
