// A form from a JSON schema: text, numbers with their range, choices, switches, files to drop.
const isFile = (schema) => schema.format === "file";

export class Form {
  onChange = () => {};
  #schema;
  #fields = new Map();

  constructor(schema, firstPlace, restPlace) {
    this.#schema = schema;
    const required = new Set(schema.required ?? []);
    firstPlace.replaceChildren();
    restPlace.replaceChildren();
    for (const [name, part] of Object.entries(schema.properties)) {
      const field = makeField(name, part, required.has(name), () => this.onChange());
      this.#fields.set(name, field);
      (required.has(name) || isFile(part) ? firstPlace : restPlace).append(field.box);
    }
  }

  // What is filled in and differs from the default; files are uploaded by `upload`.
  async values(upload) {
    const values = {};
    for (const [name, field] of this.#fields) {
      const value = field.read();
      if (value instanceof File) values[name] = await upload(value);
      else if (value !== undefined) values[name] = value;
    }
    return values;
  }

  // Lists of the fields for which several values are given.
  grid() {
    const lists = {};
    for (const [name, field] of this.#fields) {
      const list = field.list();
      if (list?.length) lists[name] = list;
    }
    return lists;
  }

  // The same for snippets: files by their names.
  described() {
    const values = {};
    for (const [name, field] of this.#fields) {
      const value = field.read();
      if (value !== undefined) values[name] = value instanceof File ? value.name : value;
    }
    return values;
  }

  clearProblems() {
    for (const field of this.#fields.values()) field.showProblem("");
  }

  showProblems(problems) {
    for (const { field, message } of problems) this.#fields.get(field)?.showProblem(message);
  }
}

function makeField(name, schema, isRequired, changed) {
  const box = document.createElement("div");
  box.className = "field";
  const label = document.createElement("label");
  label.textContent = name + (isRequired ? " *" : "");
  label.htmlFor = `field-${name}`;
  const help = document.createElement("small");
  help.textContent = schema.description ?? "";
  const problem = document.createElement("div");
  problem.className = "problem";
  const control = isFile(schema) ? fileControl(changed) : plainControl(schema);
  control.input.id = label.htmlFor;
  control.input.name = name;
  control.input.addEventListener("input", changed);
  const several = isFile(schema) ? null : severalControl(name, schema, changed);
  const head = document.createElement("div");
  head.className = "head";
  head.append(label);
  if (several) {
    head.append(several.toggle);
    several.toggle.addEventListener("click", () => {
      control.element.hidden = several.isOn();
      changed();
    });
  }
  box.append(head, control.element, ...(several ? [several.element] : []), help, problem);
  return {
    box,
    read: () => (several?.isOn() ? undefined : control.read()),
    list: () => (several?.isOn() ? several.read() : undefined),
    showProblem(text) {
      problem.textContent = text;
      box.classList.toggle("wrong", Boolean(text));
    },
  };
}

function plainControl(schema) {
  if (schema.type === "boolean") {
    const input = document.createElement("input");
    input.type = "checkbox";
    input.checked = Boolean(schema.default);
    const read = () => (input.checked === Boolean(schema.default) ? undefined : input.checked);
    return { element: input, input, read };
  }
  const input = choices(schema) ?? document.createElement(isLong(schema) ? "textarea" : "input");
  const isNumber = schema.type === "integer" || schema.type === "number";
  if (isNumber && input.tagName === "INPUT") {
    input.type = "number";
    input.step = schema.type === "integer" ? 1 : "any";
    if (schema.minimum !== undefined) input.min = schema.minimum;
    if (schema.maximum !== undefined) input.max = schema.maximum;
  }
  const start = schema.default ?? "";
  input.value = String(start);
  const read = () => {
    if (input.value === String(start) && start !== "") return undefined;
    if (input.value === "") return undefined;
    return isNumber ? Number(input.value) : input.value;
  };
  return { element: input, input, read };
}

// Several values in place of one: typed with commas, texts one a line, choices picked.
function severalControl(name, schema, changed) {
  const toggle = document.createElement("button");
  toggle.type = "button";
  toggle.className = "several";
  toggle.textContent = "compare values";
  toggle.setAttribute("aria-pressed", "false");
  const options = schema.type === "boolean" ? ["true", "false"] : schema.enum;
  const element = document.createElement(options ? "select" : isLong(schema) ? "textarea" : "input");
  if (options) {
    element.multiple = true;
    element.size = Math.min(options.length, 6);
    for (const value of options) element.add(new Option(value === "" ? "(none)" : value, value));
  } else {
    element.placeholder = isLong(schema) ? "one a line" : "separated by commas, such as 3, 5, 8";
  }
  element.hidden = true;
  element.dataset.several = name;
  element.setAttribute("aria-label", `several values of ${name}`);
  element.addEventListener("input", changed);
  const isOn = () => toggle.getAttribute("aria-pressed") === "true";
  toggle.addEventListener("click", () => {
    toggle.setAttribute("aria-pressed", String(!isOn()));
    element.hidden = !isOn();
  });
  const texts = () => {
    if (options) return [...element.selectedOptions].map((option) => option.value);
    return element.value.split(isLong(schema) ? "\n" : ",").map((text) => text.trim()).filter(Boolean);
  };
  return { toggle, element, isOn, read: () => texts().map((text) => typed(text, schema)) };
}

// What is no number stays a text: the service says what is wrong with it.
function typed(text, schema) {
  if (schema.type === "boolean") return text === "true";
  const isNumber = schema.type === "integer" || schema.type === "number";
  return isNumber && Number.isFinite(Number(text)) ? Number(text) : text;
}

const isLong = (schema) => schema.type === "string" && /prompt|text/i.test(schema.description ?? "");

function choices(schema) {
  if (!schema.enum) return null;
  const select = document.createElement("select");
  for (const value of schema.enum) select.add(new Option(value === "" ? "(none)" : value, value));
  return select;
}

function fileControl(changed) {
  const element = document.createElement("div");
  element.className = "drop";
  const input = document.createElement("input");
  input.type = "file";
  const shown = document.createElement("div");
  element.append(input, shown);
  const show = () => shown.replaceChildren(...preview(input.files[0]));
  input.addEventListener("input", show);
  for (const kind of ["dragover", "dragleave", "drop"]) {
    element.addEventListener(kind, (event) => {
      event.preventDefault();
      element.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) {
        input.files = event.dataTransfer.files;
        show();
        changed();
      }
    });
  }
  return { element, input, read: () => input.files[0] };
}

function preview(file) {
  if (!file) return [];
  const kind = file.type.startsWith("video/") ? "video" : "img";
  const element = document.createElement(kind);
  element.src = URL.createObjectURL(file);
  if (kind === "video") element.muted = element.controls = true;
  return [element];
}
