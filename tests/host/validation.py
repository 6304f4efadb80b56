"""What a host checks before it accepts a prompt, with the errors it answers (HTTP 400 body)."""

import asyncio
import inspect
import traceback

CONVERTED = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


def is_link(value):
    """Links and broken links alike: the host takes every list for one."""
    return isinstance(value, list)


def problem(type, message, details, **extra_info):
    return {"type": type, "message": message, "details": details, "extra_info": extra_info}


def crash(type, message, error):
    """A node's own code, or a link to nowhere, raised while the prompt was looked at."""
    lines, name = traceback.format_tb(error.__traceback__), error.__class__.__name__
    return problem(type, message, str(error), exception_type=name, traceback=lines)


def resolve(value):
    """The result of a node's method, which may be a coroutine."""
    return asyncio.run(value) if inspect.iscoroutine(value) else value


def named_inputs(function):
    """(names, takes any) of a node method's signature."""
    parameters = inspect.signature(function).parameters.values()
    names = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
    return names, any(p.kind is p.VAR_KEYWORD for p in parameters)


def types_fit(received, wanted):
    """Sets of types joined by commas fit when one holds the other; `*` fits all."""
    if received == "*" or wanted == "*" or received == wanted:
        return True
    if not (isinstance(received, str) and isinstance(wanted, str)):
        return False
    left, right = set(received.split(",")), set(wanted.split(","))
    return left <= right or right <= left


class Validator:
    """Checks one prompt; `errors` is {node id: [problem]}. Converts constants in the prompt."""

    def __init__(self, nodes, prompt):
        self.nodes = nodes
        self.prompt = prompt
        self.errors = {}
        self._verdicts = {}

    def ok(self, node_id):
        """Whether a node and everything before it is valid."""
        if node_id not in self._verdicts:
            found, before = self._check(node_id)
            if found:
                self.errors[node_id] = found
            self._verdicts[node_id] = before and not found
        return self._verdicts[node_id]

    def _check(self, node_id):
        cls = self.nodes[self.prompt[node_id]["class_type"]]
        inputs = self.prompt[node_id]["inputs"]
        types = cls.INPUT_TYPES(include_hidden=False)
        checks, any_input = (set(), False)
        if cls.overrides("validate_inputs"):
            checks, any_input = named_inputs(cls.validate_inputs)
        found, before = [], True
        for group in ("required", "optional"):
            for name, (wanted, options) in types.get(group, {}).items():
                if name not in inputs:
                    if group == "required":
                        message = "Required input is missing"
                        error = problem("required_input_missing", message, name, input_name=name)
                        found.append(error)
                elif is_link(inputs[name]):
                    error, fine = self._check_link(name, inputs[name], (wanted, options))
                    found += error
                    before = before and fine
                else:
                    free = name in checks or any_input
                    found += check_constant(inputs, name, wanted, options, free)
        if not found and (checks or any_input):
            found += self._ask_node(cls, inputs, types, checks, any_input)
        return found, before

    def _check_link(self, name, link, config):
        wanted, about = config[0], {"input_name": name, "input_config": config}
        if len(link) != 2:
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            return [problem("bad_linked_input", message, name, **about, received_value=link)], True
        source, slot = link
        outputs = self.nodes[self.prompt[source]["class_type"]].FINALIZE_SCHEMA().outputs or []
        received = outputs[slot].io_type
        if not types_fit(received, wanted):
            error = problem(
                "return_type_mismatch",
                "Return type mismatch between linked nodes",
                f"{name}, received_type({received}) mismatch input_type({wanted})",
                **about,
                received_type=received,
                linked_node=link,
            )
            return [error], True
        try:
            return [], self.ok(source)
        except Exception as error:
            kind, message = (
                "exception_during_inner_validation",
                "Exception when validating inner node",
            )
            self.errors[source] = [crash(kind, message, error)]
            self._verdicts[source] = False
            return [], False

    def _ask_node(self, cls, inputs, types, checks, any_input):
        known = {**types["required"], **types.get("optional", {})}
        given = {
            name: None if is_link(value) else value  # linked values do not exist yet
            for name, value in inputs.items()
            if name in known and (any_input or name in checks)
        }
        answer = resolve(cls.PREPARE_CLASS_CLONE({}).validate_inputs(**given))
        if answer is True:
            return []
        message = "Custom validation failed for node"
        text = "" if answer is False else f" - {answer}"
        return [
            problem("custom_validation_failed", message, f"{name}{text}", input_name=name)
            for name in given
        ]


def check_constant(inputs, name, wanted, options, free):
    """Convert a widget value in place, then check limits and list unless the node is `free`."""
    value = inputs[name]
    about = {"input_name": name, "input_config": (wanted, options), "received_value": value}
    if wanted in CONVERTED:
        try:
            value = inputs[name] = about["received_value"] = CONVERTED[wanted](value)
        except (TypeError, ValueError) as error:
            message = f"Failed to convert an input value to a {wanted} value"
            details = f"{name}, {value}, {error}"
            about["exception_message"] = str(error)
            return [problem("invalid_input_type", message, details, **about)]
    if free:
        return []
    if "min" in options and value < options["min"]:
        message = f"Value {value} smaller than min of {options['min']}"
        return [problem("value_smaller_than_min", message, name, **about)]
    if "max" in options and value > options["max"]:
        message = f"Value {value} bigger than max of {options['max']}"
        return [problem("value_bigger_than_max", message, name, **about)]
    choices = wanted if isinstance(wanted, list) else options.get("options")
    if choices is not None and value not in choices:
        details = f"{name}: '{value}' not in {choices}"
        return [problem("value_not_in_list", "Value not in list", details, **about)]
    return []


def ancestors(prompt, node_id, found=None):
    """The node and every node its inputs come from."""
    found = set() if found is None else found
    if node_id in prompt and node_id not in found:
        found.add(node_id)
        for value in prompt[node_id]["inputs"].values():
            if is_link(value) and value:
                ancestors(prompt, value[0], found)
    return found


def find_targets(nodes, prompt):
    """(output node ids, None), or ([], 400 body) when the prompt cannot be looked at further."""
    targets = []
    for node_id, node in prompt.items():
        class_type = node.get("class_type")
        if class_type not in nodes:
            message = f"Node {class_type!r} does not exist."
            error = problem("missing_node_type", message, f"Node ID '#{node_id}'")
            return [], {"error": error, "node_errors": {}}
        if nodes[class_type].FINALIZE_SCHEMA().is_output_node:
            targets.append(node_id)
    if not targets:
        error = problem("prompt_no_outputs", "Prompt has no outputs", "")
        return [], {"error": error, "node_errors": {}}
    return targets, None


def validate(nodes, prompt):
    """(output nodes that can run, 400 body). The body is None when every output can run.

    As on the host, a prompt with one good output runs even when another output is refused.
    """
    targets, body = find_targets(nodes, prompt)
    if body is not None:
        return [], body
    validator = Validator(nodes, prompt)
    good, shown = [], {}
    for target in targets:
        try:
            fine = validator.ok(target)
        except Exception as error:
            fine = False
            kind, message = "exception_during_validation", "Exception when validating node"
            validator.errors[target] = [crash(kind, message, error)]
        if fine:
            good.append(target)
        for node_id, errors in validator.errors.items():
            class_type = prompt[node_id]["class_type"]
            entry = {"errors": errors, "dependent_outputs": [], "class_type": class_type}
            shown.setdefault(node_id, entry)
            if node_id in ancestors(prompt, target):
                shown[node_id]["dependent_outputs"].append(target)
    if not shown:
        return good, None
    error = problem(
        "prompt_outputs_failed_validation",
        "Prompt outputs failed validation",
        "\n".join(e["details"] for entry in shown.values() for e in entry["errors"]),
    )
    return good, {"error": error, "node_errors": shown}
