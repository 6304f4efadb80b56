// Requests to the service: the envelope is unwrapped, refusals become errors.
const RETRY_MS = 1000;

export class Api {
  constructor(base) {
    this.base = base;
    this.key = "";
  }

  get(path) { return this.#send("GET", path); }

  post(path, body) { return this.#send("POST", path, body); }

  async upload(file) {
    const record = { uri: "", filename: file.name, content_type: file.type, size: file.size };
    const [made] = await this.post("/files", { files: [record] });
    const answer = await fetch(made.upload_url, { method: "PUT", body: file });
    if (!answer.ok) throw await refusal(answer);
    return made.uri;
  }

  // States of what has a stream until it ends; a lost connection is taken up again.
  async *follow(path, signal) {
    for (;;) {
      try {
        for await (const update of this.#lines(`${path}/stream`, signal)) {
          yield update;
          if (isOver(update)) return;
        }
      } catch (error) {
        if (error.name === "AbortError" || error.status) throw error;
      }
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }

  async *#lines(path, signal) {
    const headers = { ...this.#headers(), Accept: "application/x-ndjson" };
    const answer = await fetch(this.base + path, { headers, signal });
    if (!answer.ok) throw await refusal(answer);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const update = line.trim() ? JSON.parse(line) : {};
        if ("status" in update) yield update;
      }
    }
  }

  #headers() { return { Authorization: `Bearer ${this.key}` }; }

  async #send(method, path, body) {
    const headers = this.#headers();
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const answer = await fetch(this.base + path, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (!answer.ok) throw await refusal(answer);
    return (await answer.json()).data;
  }
}

// A grid is over when all of its tasks are.
function isOver(update) {
  const { counts } = update;
  return counts ? !(counts.waiting || counts.running) : update.status >= 10;
}

async function refusal(answer) {
  const problem = await answer.json().catch(() => ({}));
  const error = new Error(problem.detail ?? `${answer.status} ${answer.statusText}`);
  error.status = answer.status;
  error.fields = (problem.errors ?? []).filter((wrong) => wrong.field);
  return error;
}
