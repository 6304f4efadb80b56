// One task as people see it: progress, preview, result, what it said.
import { bar, button, duration, line } from "./parts.js";

const COMPLETED = 10;

export function showTask(place, task, actions) {
  const parts = [line("strong", `${task.app ?? ""} ${task.status_text}`)];
  const isOver = task.status >= COMPLETED;
  if (!isOver) parts.push(bar(task.progress), line("div", words(task), "quiet"));
  if (task.preview && !isOver) parts.push(picture(task.preview));
  if (task.error) parts.push(line("div", task.error, "problem"));
  if (task.status === COMPLETED) parts.push(...results(task.output));
  const said = (task.logs ?? []).map((log) => log.content).join("\n");
  if (said) parts.push(line("div", said, "log"));
  parts.push(isOver ? button("Run again", actions.retry) : button("Cancel", actions.cancel));
  place.replaceChildren(...parts);
}

export function historyLine(task, open) {
  const item = document.createElement("li");
  const when = new Date(task.created_at).toLocaleString();
  item.append(button("Show", open), line("span", `${task.app} ${task.status_text}`));
  item.append(line("div", when, "quiet"));
  return item;
}

export function gridLine(grid, open) {
  const item = document.createElement("li");
  const when = new Date(grid.created_at).toLocaleString();
  const names = Object.keys(grid.grid).join(" x ");
  item.append(button("Show", open));
  item.append(line("span", `${grid.app} ${grid.status_text}`));
  item.append(line("div", `${grid.items.length} combinations of ${names}, ${when}`, "quiet"));
  return item;
}

function words(task) {
  const said = [];
  if (task.queue_position) said.push(`number ${task.queue_position} in the queue`);
  if (task.stage) said.push(task.stage);
  said.push(`${Math.round(task.progress ?? 0)} %`);
  if (task.eta_seconds) said.push(`about ${duration(task.eta_seconds)} left`);
  return said.join(", ");
}

function results(output) {
  return Object.entries(output ?? {})
    .filter(([name]) => name !== "output_meta")
    .flatMap(([name, value]) => {
      const uri = value?.uri ?? value;
      if (typeof uri !== "string" || !/^https?:/.test(uri)) return [line("div", `${name}: ${uri}`)];
      const video = document.createElement("video");
      video.src = uri;
      video.controls = video.loop = true;
      const link = line("a", `${name}: download`);
      link.href = uri;
      link.download = "";
      return [video, link];
    });
}

function picture(uri) {
  const element = document.createElement("img");
  element.src = uri;
  element.alt = "preview";
  return element;
}
