// JSON with its numbers as they were written, and places in it.

/** A value whose numbers keep their digits (0.90, 1.20) where the browser can. */
export const parse = text => JSON.parse(text, (_, value, context) =>
  typeof value === "number" && context?.source && JSON.rawJSON ? JSON.rawJSON(context.source) : value);

/** A number as JSON, by the digits that were typed. */
export const number = digits => JSON.rawJSON ? JSON.rawJSON(digits) : Number(digits);

const isNumber = value => typeof value === "number" || (JSON.isRawJSON?.(value) ?? false);

/** A scalar as it stands in the text; "" for none. */
export const scalar = value => value === undefined || value === null ? ""
  : typeof value === "string" ? value : JSON.stringify(value);

/** The steps of a FHIRPath such as `Bundle.entry[3].resource.value`, as far as `root` has them. */
export function resolve(root, expression) {
  const path = [];
  let at = root;
  for (const [, name, index] of expression.replace(/^[A-Z]\w*\.?/, "").matchAll(/(\w+)(?:\[(\d+)\])?(?:\.where\([^)]*\))?/g)) {
    const key = at?.[name] !== undefined ? name : choice(at, name);
    if (key === undefined) break;
    path.push(key);
    at = at[key];
    if (index !== undefined && Array.isArray(at)) {
      if (at[index] === undefined) break;
      path.push(Number(index));
      at = at[index];
    }
  }
  return path;
}

const choice = (at, name) => at && typeof at === "object"
  ? Object.keys(at).find(key => key.startsWith(name) && /^[A-Z]/.test(key.slice(name.length))) : undefined;

/** The value as lines, each with the path of what stands on it. */
export function lines(value, path = [], before = "", after = "", indent = "") {
  if (value === null || typeof value !== "object" || isNumber(value) || !Object.keys(value).length) {
    return [{ path, text: indent + before + JSON.stringify(value) + after }];
  }
  const [open, close] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  const keys = Object.keys(value);
  const inner = keys.flatMap((key, position) => {
    const step = Array.isArray(value) ? Number(key) : key;
    const named = Array.isArray(value) ? "" : `${JSON.stringify(key)}: `;
    return lines(value[key], [...path, step], named, position < keys.length - 1 ? "," : "", `${indent}  `);
  });
  return [{ path, text: indent + before + open }, ...inner, { path, text: indent + close + after }];
}

/** Whether what stands at `path` is `place`, or within it. */
export const within = (path, place) => place.every((step, index) => path[index] === step);
