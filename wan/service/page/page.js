// The page of the service: one form per app, made from the app's own schema.
import { Api } from "./api.js";
import { Form } from "./form.js";
import { curlSnippet, pythonSnippet } from "./snippets.js";
import { showTask, historyLine } from "./task.js";

const find = (id) => document.getElementById(id);
const api = new Api(new URL(".", location.href).href.replace(/\/$/, ""));
const state = { apps: [], app: null, form: null, following: null };

function say(text) { find("message").textContent = text; }

async function connect() {
  api.key = find("key").value.trim();
  localStorage.setItem("wan_local_key", api.key);
  if (!api.key) return;
  say("");
  try {
    state.apps = (await api.post("/apps/list", {})).items;
  } catch (error) {
    say(error.message);
    return;
  }
  const buttons = state.apps.map((app) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = app.name;
    button.addEventListener("click", () => open(app));
    return button;
  });
  find("apps").replaceChildren(...buttons);
  if (state.apps.length) await open(state.apps[0]);
  await showHistory();
}

async function open(app) {
  // The list may leave out the schema; the app itself has it.
  state.app = await api.get(`/apps/${app.namespace}/${app.name}`);
  find("app-name").textContent = `${state.app.namespace}/${state.app.name}`;
  find("summary").textContent = state.app.description ?? "";
  for (const button of find("apps").children) {
    button.setAttribute("aria-current", String(button.textContent === app.name));
  }
  state.form = new Form(state.app.version.input_schema, find("fields"), find("more-fields"));
  find("more").hidden = !find("more-fields").children.length;
  state.form.onChange = showSnippets;
  find("run").disabled = false;
  showSnippets();
}

function showSnippets() {
  const name = `${state.app.namespace}/${state.app.name}`;
  const input = state.form.described();
  find("curl").textContent = curlSnippet(api.base, name, input);
  find("python").textContent = pythonSnippet(api.base, name, input);
}

async function submit(event) {
  event.preventDefault();
  say("");
  state.form.clearProblems();
  find("run").disabled = true;
  try {
    const input = await state.form.values((file) => api.upload(file));
    const app = `${state.app.namespace}/${state.app.name}`;
    const task = await api.post("/apps/run", { app, input });
    follow(task.id);
    await showHistory();
  } catch (error) {
    state.form.showProblems(error.fields ?? []);
    say(error.message);
  } finally {
    find("run").disabled = false;
  }
}

async function follow(id) {
  state.following?.abort();
  const stop = (state.following = new AbortController());
  const actions = {
    cancel: () => api.post(`/tasks/${id}/cancel`, {}).catch((error) => say(error.message)),
    retry: async () => follow((await api.post(`/tasks/${id}/retry`, {})).id),
  };
  try {
    for await (const update of api.follow(id, stop.signal)) {
      showTask(find("task"), update, actions);
    }
    await showHistory();
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
  }
}

async function showHistory() {
  const { items } = await api.post("/tasks/list", { limit: 20 });
  find("history").replaceChildren(...items.map((task) => historyLine(task, () => follow(task.id))));
}

find("form").addEventListener("submit", submit);
find("key").addEventListener("change", connect);
find("key").value = localStorage.getItem("wan_local_key") ?? "";
connect();
