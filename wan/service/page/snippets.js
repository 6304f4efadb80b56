// The form's request as commands, ready to be copied.
const shellQuoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function curlSnippet(base, app, input) {
  const body = JSON.stringify({ app, input }, null, 2);
  return [
    `curl ${base}/apps/run \\`,
    `  -H "Authorization: Bearer $INFERENCE_API_KEY" \\`,
    `  -H "Content-Type: application/json" \\`,
    `  -d ${shellQuoted(body)}`,
  ].join("\n");
}

export function pythonSnippet(base, app, input) {
  return [
    "from inferencesh import inference",
    "",
    `client = inference(base_url=${pythonValue(base)})`,
    `result = client.run(${pythonValue({ app, input })})`,
    'print(result["output"])',
  ].join("\n");
}

function pythonValue(value, indent = "") {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = indent + "    ";
  const lines = Object.entries(value).map(
    ([name, part]) => `${inner}${JSON.stringify(name)}: ${pythonValue(part, inner)},`,
  );
  return lines.length ? `{\n${lines.join("\n")}\n${indent}}` : "{}";
}
