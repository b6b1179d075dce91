// Checks what a .tflite file says of its model, as keras_lapkl/tflite/metadata_rules.py does.

// keras_lapkl/tflite/metadata.rules.json, which explains its words.
const RULES = {
  "description": [
    "What a .tflite file may say of its model. keras_lapkl/tflite/metadata_rules.py,",
    "mobile/localize.py and mobile/web/rules.js apply it. The words are those of JSON Schema, and",
    "five more: `count`, a list is as long as that key says; `below`, an index is below what that",
    "key says; `rising`, numbers rise (true) or do not fall (false); `equalLengths`, of the lists",
    "with these keys; `maxDepth`, levels of the whole."
  ],
  "type": "object",
  "maxLength": 1048576,
  "maxDepth": 32,
  "required": ["keras_lapkl", "mode", "image_size", "num_landmarks", "input"],
  "properties": {
    "schema": {"type": "integer", "minimum": 0, "maximum": 1000000},
    "keras_lapkl": {"$ref": "version"},
    "mode": {"$ref": "word"},
    "image_size": {"type": "integer", "minimum": 1, "maximum": 4096},
    "num_landmarks": {"type": "integer", "minimum": 1, "maximum": 10000},
    "input": {
      "type": "object",
      "required": ["channels", "range"],
      "properties": {
        "channels": {"enum": ["RGB"]},
        "dtype": {"enum": ["float32", "uint8", "int8"]},
        "range": {
          "type": "array",
          "items": {"type": "number", "minimum": -1000, "maximum": 1000},
          "minItems": 2,
          "maxItems": 2,
          "rising": true
        }
      }
    },
    "float_layers": {"type": "array", "items": {"$ref": "word"}, "maxItems": 10000},
    "flip_average": {"type": "boolean"},
    "refined": {"type": "boolean"},
    "mirror": {"type": "boolean"},
    "units": {"$ref": "text"},
    "beta": {"type": "number", "exclusiveMinimum": 0, "maximum": 1000000},
    "crop_scale": {"$ref": "crop_scale"},
    "crop": {"$ref": "text or null"},
    "scheme": {
      "type": ["object", "null"],
      "required": ["name", "names", "five_points"],
      "properties": {
        "name": {"$ref": "word"},
        "names": {"type": "array", "items": {"$ref": "word"}, "count": "num_landmarks"},
        "flip": {
          "type": ["array", "null"],
          "items": {"$ref": "landmark"},
          "count": "num_landmarks"
        },
        "eye_corners": {"$ref": "pair", "type": ["array", "null"]},
        "five_points": {
          "type": "array",
          "items": {
            "type": "array",
            "items": {"$ref": "landmark"},
            "minItems": 1,
            "maxItems": 10000
          },
          "maxItems": 1000
        },
        "edges": {"type": "array", "items": {"$ref": "pair"}, "maxItems": 100000},
        "crop_from": {"enum": ["points", "box", "image"]}
      }
    },
    "trained_on": {"$ref": "text or null"},
    "training_data": {"$ref": "training data"},
    "license": {"$ref": "text or null"},
    "licence": {"$ref": "text or null"},
    "calibration": {
      "type": ["object", "null"],
      "required": ["scales", "errors", "factors", "quantiles", "data", "faces"],
      "properties": {
        "scales": {"$ref": "knots", "rising": true},
        "errors": {"$ref": "knots", "rising": false},
        "factors": {"type": "array", "items": {"$ref": "size"}, "count": "num_landmarks"},
        "quantiles": {
          "type": "object",
          "propertyNames": {
            "type": "string",
            "maxLength": 20,
            "pattern": "^0\\.[0-9]{0,15}[1-9]$"
          },
          "additionalProperties": {
            "type": "array",
            "items": {"type": ["number", "null"], "minimum": 0, "maximum": 1000000},
            "count": "num_landmarks"
          }
        },
        "data": {"$ref": "text"},
        "faces": {"$ref": "number of faces"},
        "lost": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1000000},
        "typical": {"type": "number", "exclusiveMinimum": 0, "maximum": 1000000},
        "across": {"type": "number", "minimum": -1, "maximum": 1},
        "within": {"type": "number", "minimum": -1, "maximum": 1}
      },
      "equalLengths": ["scales", "errors"]
    },
    "measured": {
      "type": ["object", "null"],
      "required": ["nme", "spread", "faces", "data", "normalizer", "crop_scale"],
      "properties": {
        "nme": {"$ref": "size"},
        "spread": {"$ref": "size"},
        "faces": {"$ref": "number of faces"},
        "data": {"$ref": "text"},
        "normalizer": {"$ref": "word"},
        "crop_scale": {"$ref": "crop_scale"}
      }
    }
  },
  "$defs": {
    "word": {"$ref": "text", "maxLength": 200},
    "version": {"type": "string", "maxLength": 100, "pattern": "^[0-9A-Za-z.!+_-]+$"},
    "text": {
      "type": "string",
      "maxLength": 10000,
      "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029\\ud800-\\udfff]*$"
    },
    "text or null": {"$ref": "text", "type": ["string", "null"]},
    "size": {"type": "number", "minimum": 0, "maximum": 1000000},
    "crop_scale": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 100},
    "landmark": {"type": "integer", "minimum": 0, "below": "num_landmarks"},
    "pair": {"type": "array", "items": {"$ref": "landmark"}, "minItems": 2, "maxItems": 2},
    "knots": {"type": "array", "items": {"$ref": "size"}, "minItems": 1, "maxItems": 1000},
    "number of faces": {"type": "integer", "minimum": 0, "maximum": 1000000000},
    "training data": {
      "type": ["object", "null"],
      "required": ["sets"],
      "properties": {
        "sets": {
          "type": "array",
          "maxItems": 1000,
          "items": {
            "type": "object",
            "required": ["name"],
            "properties": {
              "name": {"$ref": "text"},
              "count": {"type": ["integer", "null"], "minimum": 0, "maximum": 1000000000},
              "total": {"type": ["integer", "null"], "minimum": 0, "maximum": 1000000000},
              "kind": {"$ref": "text"},
              "labeled": {"type": "boolean"},
              "license": {"$ref": "text or null"},
              "detail": {"$ref": "text"},
              "notes": {"type": "array", "items": {"$ref": "text"}, "maxItems": 1000}
            },
            "additionalProperties": false
          }
        },
        "teacher": {"$ref": "training data"},
        "initial_model": {"$ref": "training data"}
      }
    }
  }
};

/** The data in a text of JSON; an Error if it is none, too long, too deep, or breaks a rule. */
export function parseMetadata(text, rules = RULES) {
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
export function checkMetadata(data, rules = RULES) {
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
