// One task as people see it: progress, preview, result, what it said.
const COMPLETED = 10;

export function showTask(place, task, actions) {
  const parts = [line("strong", `${task.app ?? ""} ${task.status_text}`)];
  const isOver = task.status >= COMPLETED;
  if (!isOver) parts.push(bar(task), line("div", words(task), "quiet"));
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

function words(task) {
  const said = [];
  if (task.queue_position) said.push(`number ${task.queue_position} in the queue`);
  if (task.stage) said.push(task.stage);
  said.push(`${Math.round(task.progress ?? 0)} %`);
  if (task.eta_seconds) said.push(`about ${duration(task.eta_seconds)} left`);
  return said.join(", ");
}

function duration(seconds) {
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
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

function bar(task) {
  const element = document.createElement("progress");
  element.max = 100;
  element.value = task.progress ?? 0;
  return element;
}

function picture(uri) {
  const element = document.createElement("img");
  element.src = uri;
  element.alt = "preview";
  return element;
}

function line(tag, text, kind = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = kind;
  return element;
}

function button(text, action) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = text;
  element.addEventListener("click", action);
  return element;
}
