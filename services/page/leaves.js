// A tree of JSON as its leaves: [path, value], the path dotted as errors of the service name it. Pure.

export function leaves(value, path = "") {
  if (value !== null && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length) {
    return Object.entries(value).flatMap(([name, part]) => leaves(part, path ? `${path}.${name}` : name));
  }
  return [[path, value]];
}

/** A leaf as a person writes it. */
export function written(value) {
  if (value === undefined) return "–";
  if (value === null) return "none";
  if (typeof value === "string") return value;
  return JSON.stringify(value);
}

/** [path, [value of each tree]] of the leaves that are not the same in all trees. */
export function differing(trees) {
  const maps = trees.map((tree) => new Map(leaves(tree)));
  const paths = [...new Set(maps.flatMap((map) => [...map.keys()]))];
  return paths
    .map((path) => [path, maps.map((map) => map.get(path))])
    .filter(([, values]) => new Set(values.map((value) => JSON.stringify(value))).size > 1);
}
