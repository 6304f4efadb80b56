// The results of a grid side by side. Players stay where they are while the rest goes on.
import { bar, button, duration, line } from "./parts.js";

const COMPLETED = 10;

export class GridView {
  #cells = new Map();
  #head = document.createElement("div");
  #table = document.createElement("div");
  #foot = document.createElement("div");
  #sheet = document.createElement("div");

  constructor(place, grid) {
    this.#table.className = "grid";
    this.#foot.className = "row";
    const lists = Object.values(grid.grid);
    const columns = lists.at(-1).length;
    if (lists.length > 1 && columns <= 4) {
      this.#table.style.setProperty("--columns", columns);
      this.#table.style.setProperty("--least", "4rem");
    }
    for (const item of grid.items) {
      const cell = makeCell(item);
      this.#cells.set(item.task_id, cell);
      this.#table.append(cell.element);
    }
    place.replaceChildren(this.#head, this.#table, this.#foot, this.#sheet);
  }

  show(grid, actions) {
    const { counts } = grid;
    const ended = counts.completed + counts.failed + counts.cancelled;
    const isOver = !(counts.waiting || counts.running);
    const title = line("strong", `${grid.app} ${grid.status_text}`);
    const said = line("div", `${ended} of ${grid.items.length} ended`, "quiet");
    this.#head.replaceChildren(title, ...(isOver ? [] : [bar(grid.progress)]), said);
    for (const item of grid.items) this.#cells.get(item.task_id).show(item);
    const buttons = isOver ? [] : [button("Cancel", actions.cancel)];
    if (counts.completed > 1) buttons.push(button("Play together", () => this.#play()));
    if (isOver && counts.completed) buttons.push(button("As one video", actions.sheet));
    this.#foot.replaceChildren(...buttons);
  }

  showSheet(uri) {
    const link = line("a", "download");
    link.href = uri;
    link.download = "";
    this.#sheet.replaceChildren(player(uri), link);
  }

  #play() {
    for (const video of this.#table.querySelectorAll("video")) {
      video.currentTime = 0;
      video.play();
    }
  }
}

function makeCell(item) {
  const element = document.createElement("figure");
  const body = document.createElement("div");
  const caption = document.createElement("figcaption");
  for (const [name, value] of Object.entries(item.values)) {
    caption.append(line("span", `${name} `, "quiet"), line("b", short(value)), " ");
  }
  element.append(body, caption);
  let shown = "";
  return {
    element,
    show(now) {
      const uri = now.status === COMPLETED ? result(now.output) : "";
      if (uri) {
        if (shown !== uri) body.replaceChildren(player(uri));
      } else if (now.error) {
        body.replaceChildren(line("div", now.error, "problem"));
      } else {
        const isRunning = now.status > 2 && now.status < COMPLETED;
        const said = [now.stage || now.status_text];
        if (now.eta_seconds) said.push(`about ${duration(now.eta_seconds)} left`);
        body.replaceChildren(
          ...(isRunning ? [bar(now.progress)] : []),
          line("div", said.join(", "), "quiet"),
        );
      }
      shown = uri;
    },
  };
}

function short(value) {
  const text = /^https?:/.test(value) ? decodeURIComponent(value.split("/").at(-1)) : String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function result(output) {
  const found = Object.entries(output ?? {}).find(([name]) => name !== "output_meta")?.[1];
  return found?.uri ?? found ?? "";
}

function player(uri) {
  const video = document.createElement("video");
  video.src = uri;
  video.controls = video.loop = video.muted = true;
  return video;
}
