// The page of the service: one form per app, made from the app's own schema.
import { Api } from "./api.js";
import { Form } from "./form.js";
import { curlSnippet, pythonSnippet } from "./snippets.js";
import { GridView } from "./grid.js";
import { gridLine, historyLine, showTask } from "./task.js";
import { watchWorkers } from "./workers.js";

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
  await lookAtWorkers();
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
  state.form.onChange = showChange;
  find("run").disabled = false;
  showChange();
}

function showChange() {
  const lists = Object.values(state.form.grid());
  const count = lists.reduce((product, list) => product * list.length, 1);
  find("run").textContent = lists.length ? `Run ${count} combination${count === 1 ? "" : "s"}` : "Run";
  showSnippets();
}

function showSnippets() {
  const name = `${state.app.namespace}/${state.app.name}`;
  const [input, grid] = [state.form.described(), state.form.grid()];
  find("curl").textContent = curlSnippet(api.base, name, input, grid);
  find("python").textContent = pythonSnippet(api.base, name, input, grid);
}

async function submit(event) {
  event.preventDefault();
  say("");
  state.form.clearProblems();
  find("run").disabled = true;
  try {
    const input = await state.form.values((file) => api.upload(file));
    const app = `${state.app.namespace}/${state.app.name}`;
    const grid = state.form.grid();
    if (Object.keys(grid).length) followGrid((await api.post("/grids", { app, input, grid })).id);
    else follow((await api.post("/apps/run", { app, input })).id);
    await showHistory();
  } catch (error) {
    state.form.showProblems(error.fields ?? []);
    say(error.message);
  } finally {
    find("run").disabled = false;
  }
}

async function follow(id) {
  const actions = {
    cancel: () => api.post(`/tasks/${id}/cancel`, {}).catch((error) => say(error.message)),
    retry: async () => follow((await api.post(`/tasks/${id}/retry`, {})).id),
  };
  await watch(`/tasks/${id}`, (update) => showTask(find("task"), update, actions));
}

async function followGrid(id) {
  let view;
  const actions = {
    cancel: () => api.post(`/grids/${id}/cancel`, {}).catch((error) => say(error.message)),
    sheet: async () => {
      try {
        view.showSheet((await api.get(`/grids/${id}/sheet`)).uri);
      } catch (error) {
        say(error.message);
      }
    },
  };
  await watch(`/grids/${id}`, (update) => {
    view ??= new GridView(find("task"), update);
    view.show(update, actions);
  });
}

async function watch(path, show) {
  state.following?.abort();
  const stop = (state.following = new AbortController());
  try {
    for await (const update of api.follow(path, stop.signal)) show(update);
    await Promise.all([showHistory(), lookAtWorkers()]);
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
  }
}

async function showHistory() {
  const tasks = (await api.post("/tasks/list", { limit: 40 })).items;
  const grids = (await api.get("/grids?limit=10")).items;
  // The tasks of a grid are shown with it.
  const inside = new Set(grids.flatMap((grid) => grid.items.map((item) => item.task_id)));
  const entries = [
    ...tasks
      .filter((task) => !inside.has(task.id))
      .map((task) => [task.created_at, historyLine(task, () => follow(task.id))]),
    ...grids.map((grid) => [grid.created_at, gridLine(grid, () => followGrid(grid.id))]),
  ];
  entries.sort(([one], [other]) => other.localeCompare(one));
  find("history").replaceChildren(...entries.slice(0, 20).map(([, element]) => element));
}

const lookAtWorkers = watchWorkers(find("workers"), api);
find("form").addEventListener("submit", submit);
find("key").addEventListener("change", connect);
find("key").value = localStorage.getItem("wan_local_key") ?? "";
connect();
