// Checks what a .tflite file says of its model, by the table of rules that the server gives, as
// keras_lapkl/tflite/rules.py does; metadata.rules.json explains its words.

/** The data in a text of JSON; an Error if it is none, too long, too deep, or breaks a rule. */
export function parseMetadata(text, rules) {
  // Python counts characters, and JavaScript the halves of those beyond the first 65,536.
  if (text.length > 2 * rules.maxLength) {
    throw new Error(`expected at most ${rules.maxLength} characters. Received: ${text.length}`);
  }
  const data = JSON.parse(text);
  let layer = [data];
  for (let depth = 0; layer.length; depth++) {
    if (depth > rules.maxDepth) throw new Error(`expected at most ${rules.maxDepth} levels`);
    layer = layer.flatMap((each) => (isObject(each) || Array.isArray(each) ? Object.values(each) : []));
  }
  return data;
}

/** An Error with the place if plain data breaks a rule. */
export function checkMetadata(data, rules) {
  const problem = findProblem(data, rules, rules, data, "it");
  if (problem) throw new Error(problem);
}

/** The first thing in plain data that breaks a rule, as a line; null if nothing does. */
function findProblem(value, rule, rules, whole, place) {
  while ("$ref" in rule) {
    const { $ref, ...rest } = rule;
    rule = { ...rules.$defs[$ref], ...rest };
  }
  const unless = (right, expected) => {
    if (right) return null;
    const shown = JSON.stringify(value);
    const short = shown.length <= 60 ? shown : `${shown.slice(0, 57)}...`;
    return `${place}: expected ${expected}. Received: ${short}`;
  };
  // A key that is not there, or no number, allows nothing.
  const bound = (word) => (Number.isInteger(whole?.[rule[word]]) ? whole[rule[word]] : 0);
  if ("enum" in rule) return unless(rule.enum.includes(value), `one of ${rule.enum.join(", ")}`);
  const kinds = [rule.type].flat();
  const kind = kindOf(value);
  if (!kinds.includes(kind) && !(kind === "integer" && kinds.includes("number"))) {
    return unless(false, kinds.join(" or "));
  }
  const check = { integer: number, number, string, array, object }[kind];
  return check ? check() : null;

  function number() {
    const { minimum = -Infinity, exclusiveMinimum: above = -Infinity } = rule;
    const high = "below" in rule ? bound("below") - 1 : rule.maximum ?? Infinity;
    const right = Number.isFinite(value) && minimum <= value && value <= high && value > above;
    const least = Number.isFinite(above) ? `above ${above}` : `from ${minimum}`;
    return unless(right, `a number ${least} to ${high}`);
  }

  function string() {
    if ([...value].length > rule.maxLength) {
      return unless(false, `at most ${rule.maxLength} characters`);
    }
    return unless(new RegExp(rule.pattern, "u").test(value), `characters as in ${rule.pattern}`);
  }

  function array() {
    const { minItems = 0, maxItems = Infinity } = rule;
    if ("count" in rule && value.length !== bound("count")) {
      return unless(false, `${bound("count")} entries`);
    }
    if (value.length < minItems || value.length > maxItems) {
      return unless(false, `${minItems} to ${maxItems} entries`);
    }
    for (let i = 0; i < value.length; i++) {
      const problem = findProblem(value[i], rule.items, rules, whole, `${place}[${i}]`);
      if (problem) return problem;
    }
    if (!("rising" in rule)) return null;
    const right = value.slice(1).every((b, i) => (rule.rising ? value[i] < b : value[i] <= b));
    return unless(right, rule.rising ? "numbers that rise" : "none that falls");
  }

  function object() {
    const missing = (rule.required ?? []).filter((name) => !Object.hasOwn(value, name));
    if (missing.length) return `${place} lacks a key: ${missing.join(", ")}`;
    const { properties = {}, additionalProperties: others = true } = rule;
    for (const [name, item] of Object.entries(value)) {
      const below = Object.hasOwn(properties, name) ? properties[name] : others;
      const at = value === whole ? name : `${place}.${name}`;
      if (below === false) return `${place}: unknown key ${JSON.stringify(name).slice(0, 60)}`;
      const problem =
        (rule.propertyNames &&
          findProblem(name, rule.propertyNames, rules, whole, `key of ${place}`)) ||
        (below !== true && findProblem(item, below, rules, whole, at));
      if (problem) return problem;
    }
    const lengths = new Set((rule.equalLengths ?? []).map((name) => value[name].length));
    return unless(lengths.size <= 1, `${rule.equalLengths?.join(" and ")} of one length`);
  }
}

function kindOf(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return Number.isInteger(value) ? "integer" : typeof value;
}

function isObject(value) {
  return typeof value === "object" && value !== null;
}
