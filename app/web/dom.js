// The few words the page is built with. Text only ever becomes text: nothing here reads HTML.

/** An element with its attributes (`on...` a listener, `null` and `false` none) and children. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "value") made.value = value;
    else if (value !== null && value !== undefined && value !== false) {
      made.setAttribute(key, value === true ? "" : value);
    }
  }
  made.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false));
  return made;
}

export const byId = id => document.getElementById(id);

/** Units and signs as a clinician writes them: UCUM has 10*9/L, a rule <=. */
export const readable = text => String(text)
  .replace(/(?:x ?)?10[*^]9\/L/g, "x10⁹/L").replace(/(?:x ?)?10[*^]12\/L/g, "x10¹²/L")
  .replaceAll("<=", "≤").replaceAll(">=", "≥");

/** A fault of the input, told in words: what is wrong, and what to do. */
export class Problem extends Error {}

/** One, or some of them: `1 patient`, `3 patients`. */
export const some = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
