// Who works: one line for each worker, looked up again every few seconds while somebody looks.
import { line } from "./parts.js";

const EVERY_MS = 3000;

export function watchWorkers(place, api) {
  const look = async () => {
    if (document.hidden || !api.key) return;
    try {
      show(place, await api.get("/cluster"));
    } catch {
      place.replaceChildren(); // the page says elsewhere what is wrong
    }
  };
  setInterval(look, EVERY_MS);
  return look;
}

function show(place, cluster) {
  const lines = cluster.workers.map(workerLine);
  const waiting = cluster.queue.waiting;
  if (waiting) lines.push(line("li", waiting === 1 ? "1 task waits" : `${waiting} tasks wait`, "quiet"));
  if (cluster.links.dashboard) {
    const item = document.createElement("li");
    const link = line("a", "Dashboard");
    link.href = cluster.links.dashboard;
    item.append(link);
    lines.push(item);
  }
  place.replaceChildren(...lines);
}

function workerLine(worker) {
  const item = document.createElement("li");
  const said = [worker.node, ...worker.devices];
  if (worker.models.length) said.push(`holds ${worker.models.join(", ")}`);
  if (worker.seconds_per_step) said.push(`${worker.seconds_per_step.toPrecision(2)} s a step`);
  if (worker.task_id) said.push(`task ...${worker.task_id.slice(-6)}`);
  item.append(line("span", "", `dot ${worker.status}`));
  item.append(line("b", `${worker.id} ${worker.status}`), line("div", said.join(" · "), "quiet"));
  return item;
}
