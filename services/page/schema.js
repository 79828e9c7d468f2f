// The JSON Schema of a job spec, as far as a form needs it: what a field is, and what is wrong
// with a value. Pure; the service checks everything again, and more.

/** A field's schema with references followed and `null` split off: {...schema, nullable}. */
export function resolved(schema, root) {
  let found = schema;
  let nullable = false;
  for (;;) {
    if (found.$ref) {
      const target = root.$defs[found.$ref.split("/").at(-1)];
      const { $ref: _, ...own } = found;
      found = { ...target, ...own, title: target.title };
    } else if (found.anyOf?.some((one) => one.type === "null")) {
      nullable = true;
      const others = found.anyOf.filter((one) => one.type !== "null");
      const { anyOf: _, ...own } = found;
      found = others.length === 1 ? { ...others[0], ...own } : { ...own, anyOf: others };
    } else {
      return { ...found, nullable };
    }
  }
}

/** The kinds of a union: [[name, schema]], or null when it is none. */
export function kinds(schema, root) {
  const options = schema.oneOf ?? schema.anyOf;
  if (!options || !options.every((one) => one.$ref)) return null;
  const found = options.map((one) => {
    const each = resolved(one, root);
    const name = each.properties?.kind?.const ?? each.properties?.kind?.default;
    return name === undefined ? null : [name, each];
  });
  return found.every(Boolean) ? found : null;
}

/** What is wrong with a value, [{field, message}]: a field that is absent keeps its default. */
export function check(schema, value, root, path = "") {
  const field = resolved(schema, root);
  const wrong = (message) => [{ field: path, message }];
  if (value === undefined) return [];
  if (value === null) return field.nullable ? [] : wrong("must not be empty");
  const union = kinds(field, root);
  if (union) {
    const chosen = union.find(([name]) => name === value.kind);
    return chosen ? check(chosen[1], value, root, path) : wrong(`kind must be one of ${union.map(([name]) => name).join(", ")}`);
  }
  if (field.enum && !field.enum.includes(value)) return wrong(`must be one of ${field.enum.join(", ")}`);
  if (field.properties) {
    if (typeof value !== "object" || Array.isArray(value)) return wrong("must be an object");
    const below = (name) => (path ? `${path}.${name}` : name);
    const unknown = Object.keys(value).filter((name) => !(name in field.properties) && field.additionalProperties === false);
    const missing = (field.required ?? []).filter((name) => value[name] === undefined)
      .flatMap((name) => needed(field.properties[name], root, below(name)));
    return [
      ...unknown.map((name) => ({ field: below(name), message: "there is no such field" })),
      ...missing.map((name) => ({ field: name, message: "is required" })),
      ...Object.entries(field.properties).flatMap(([name, part]) => check(part, value[name], root, below(name))),
    ];
  }
  switch (field.type) {
    case "integer":
    case "number":
      if (typeof value !== "number") return wrong("must be a number");
      if (field.type === "integer" && !Number.isInteger(value)) return wrong("must be a whole number");
      return bounds(field, value).flatMap(wrong);
    case "string":
      if (typeof value !== "string") return wrong("must be a text");
      if (field.minLength && value.length < field.minLength) return wrong("must not be empty");
      if (field.pattern && !new RegExp(field.pattern, "u").test(value)) return wrong(`must fit ${field.pattern}`);
      return [];
    case "boolean":
      return typeof value === "boolean" ? [] : wrong("must be true or false");
    default:
      return [];
  }
}

/** The fields that a required one stands for: those that it requires itself, else itself. */
function needed(schema, root, path) {
  const field = resolved(schema, root);
  if (!field.properties || !field.required?.length) return [path];
  return field.required.flatMap((name) => needed(field.properties[name], root, `${path}.${name}`));
}

function bounds(field, value) {
  const found = [];
  if (field.minimum !== undefined && value < field.minimum) found.push(`must be at least ${field.minimum}`);
  if (field.exclusiveMinimum !== undefined && value <= field.exclusiveMinimum) found.push(`must be more than ${field.exclusiveMinimum}`);
  if (field.maximum !== undefined && value > field.maximum) found.push(`must be at most ${field.maximum}`);
  if (field.exclusiveMaximum !== undefined && value >= field.exclusiveMaximum) found.push(`must be less than ${field.exclusiveMaximum}`);
  return found;
}

/** The value at a dotted path. */
export function at(tree, path) {
  return path.split(".").reduce((found, name) => found?.[name], tree);
}

/** The tree with another value at a dotted path; undefined takes it out, and what it leaves empty. */
export function placed(tree, path, value) {
  const [name, ...rest] = path.split(".");
  const next = { ...tree };
  const put = rest.length ? placed(next[name] ?? {}, rest.join("."), value) : value;
  if (put === undefined || (rest.length && Object.keys(put).length === 0)) delete next[name];
  else next[name] = put;
  return next;
}
