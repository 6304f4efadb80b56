// The form's request as commands, ready to be copied.
const shellQuoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const isEmpty = (grid) => !Object.keys(grid).length;
const bodyOf = (app, input, grid) => (isEmpty(grid) ? { app, input } : { app, input, grid });

export function curlSnippet(base, app, input, grid) {
  const body = JSON.stringify(bodyOf(app, input, grid), null, 2);
  return [
    `curl ${base}${isEmpty(grid) ? "/apps/run" : "/grids"} \\`,
    `  -H "Authorization: Bearer $INFERENCE_API_KEY" \\`,
    `  -H "Content-Type: application/json" \\`,
    `  -d ${shellQuoted(body)}`,
  ].join("\n");
}

export function pythonSnippet(base, app, input, grid) {
  const body = pythonValue(bodyOf(app, input, grid));
  return [
    `from ${isEmpty(grid) ? "inferencesh" : "wan.client"} import inference`,
    "",
    `client = inference(base_url=${pythonValue(base)})`,
    `result = client.${isEmpty(grid) ? "run" : "grid"}(${body})`,
    `print(result["${isEmpty(grid) ? "output" : "items"}"])`,
  ].join("\n");
}

function pythonValue(value, indent = "") {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map((part) => pythonValue(part)).join(", ")}]`;
  const inner = indent + "    ";
  const lines = Object.entries(value).map(
    ([name, part]) => `${inner}${JSON.stringify(name)}: ${pythonValue(part, inner)},`,
  );
  return lines.length ? `{\n${lines.join("\n")}\n${indent}}` : "{}";
}
