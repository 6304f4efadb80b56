"""Runs API-format prompts on the stand-in: order, cache, progress, cancel, errors."""

import contextvars
import inspect
import json
import sys
import traceback

import torch

from .validation import is_link, resolve, validate

_current_node = contextvars.ContextVar("current_node", default=None)


def load_nodes(pack=None):
    """{node id: class} of the stand-in's core nodes and of the pack, loaded as a host does.

    Args:
        pack: a module with `comfy_entrypoint`; `wan_local` as the tests imported it when None.
    """
    from comfy_extras import nodes_images, nodes_video

    core = [*nodes_images.NODES, *nodes_video.NODES]
    found = {cls.GET_SCHEMA().node_id: cls for cls in core}
    entrypoint = (pack or sys.modules["wan_local"]).comfy_entrypoint

    async def ask():
        extension = entrypoint()
        if inspect.isawaitable(extension):
            extension = await extension
        await extension.on_load()
        return await extension.get_node_list()

    classes = resolve(ask())
    if not isinstance(classes, list):
        raise TypeError("get_node_list must return a list; the host skips the pack otherwise")
    for cls in classes:
        schema = cls.GET_SCHEMA()
        if schema.enable_expand:
            raise NotImplementedError(f"{schema.node_id}: the stand-in has no expansion")
        cls.RELATIVE_PYTHON_MODULE = "custom_nodes.ComfyUI-WanLocal"
        found.setdefault(schema.node_id, cls)  # a core node's id stays the core node's
    return found


def calls(cls, values):
    """Arguments of each call of a node: one for every value of the longest list.

    Shorter lists give their last value again; a node with `is_input_list` is called once with all.
    """
    if cls.FINALIZE_SCHEMA().is_input_list:
        return [values]
    count = max(map(len, values.values()), default=1)
    return [{n: v[min(i, len(v) - 1)] for n, v in values.items()} for i in range(count)]


class GraphRunner:
    """Executes prompts one at a time; outputs stay cached while the next prompt uses them.

    Args:
        nodes: {node id: class}.
        emit: called with each event, {"type": ..., "data": {...}} in the host's wire shape.
    """

    def __init__(self, nodes, emit):
        self.nodes = nodes
        self.emit = emit
        self.cache = {}

    def validate(self, prompt):
        """(output nodes that can run, 400 body or None)."""
        return validate(self.nodes, prompt)

    def execute(self, prompt, targets, prompt_id, extra_data=None):
        """Run to the end; the last event is execution_success, _error or _interrupted."""
        import comfy.model_management as management
        import comfy.utils as utils

        management.interrupt_current_processing(False)
        run = _Run(self, prompt, prompt_id, extra_data or {})
        utils.set_progress_bar_global_hook(run.on_progress)
        try:
            with torch.inference_mode():
                run.go(targets)
        finally:
            utils.set_progress_bar_global_hook(None)
            keys = set(run.keys.values())
            self.cache = {key: kept for key, kept in self.cache.items() if key in keys}


class _Run:
    """One execution of one prompt."""

    def __init__(self, runner, prompt, prompt_id, extra_data):
        self.runner = runner
        self.nodes = runner.nodes
        self.prompt = prompt
        self.prompt_id = prompt_id
        self.extra_data = extra_data
        self.keys = {}
        self.node_id = None
        self.finished = set()

    def send(self, type, **data):
        self.runner.emit({"type": type, "data": {**data, "prompt_id": self.prompt_id}})

    def go(self, targets):
        from comfy.model_management import InterruptProcessingException

        self.send("execution_start")
        for target in targets:
            self.key(target)
        self.send("execution_cached", nodes=[n for n, k in self.keys.items() if k in self.cached])
        try:
            for target in targets:
                self.output(target)
        except InterruptProcessingException:
            self.send("execution_interrupted", node_id=self.node_id, node_type=self.type_now())
        except Exception as error:
            self.fail(error)
        else:
            self.send("execution_success")

    @property
    def cached(self):
        return self.runner.cache

    def cls(self, node_id):
        return self.nodes[self.prompt[node_id]["class_type"]]

    def type_now(self):
        return self.prompt[self.node_id]["class_type"]

    def inputs(self, node_id):
        """The inputs the schema knows; the host ignores others."""
        types = self.cls(node_id).INPUT_TYPES(include_hidden=False)
        known = {**types["required"], **types.get("optional", {})}
        return {k: v for k, v in self.prompt[node_id]["inputs"].items() if k in known}

    def key(self, node_id):
        """What the outputs depend on: class, fingerprint, constants and the linked nodes' keys."""
        if node_id not in self.keys:
            cls, parts = self.cls(node_id), [self.prompt[node_id]["class_type"]]
            schema, inputs = cls.FINALIZE_SCHEMA(), self.inputs(node_id)
            hidden = {member.name for member in schema.hidden or []}
            if schema.not_idempotent or "unique_id" in hidden:
                parts.append(node_id)
            parts.append(self.fingerprint(cls, inputs))
            for name, value in sorted(inputs.items()):
                if is_link(value):
                    parts.append((name, self.key(value[0]), value[1]))
                else:
                    parts.append((name, json.dumps(value, sort_keys=True, default=repr)))
            self.keys[node_id] = tuple(parts)
        return self.keys[node_id]

    @staticmethod
    def fingerprint(cls, inputs):
        if not cls.overrides("fingerprint_inputs"):
            return None
        constants = {name: None if is_link(value) else value for name, value in inputs.items()}
        try:
            found = resolve(cls.fingerprint_inputs(**constants))
        except Exception:
            return object()  # equal to nothing: a fingerprint that fails means "always run"
        return repr(found) if found == found else object()  # NaN means the same

    def output(self, node_id):
        """(values, ui) of a node, from the cache or by running it."""
        key = self.key(node_id)
        if key not in self.cached:
            self.cached[key] = self.run_node(node_id)
        result = self.cached[key]
        if result[1] is not None and node_id not in self.finished:
            self.send("executed", node=node_id, output=result[1])
        self.finished.add(node_id)
        return result

    def run_node(self, node_id):
        import comfy.model_management as management

        cls = self.cls(node_id)
        values = self.gather(node_id, cls)
        self.node_id = node_id
        self.send("executing", node=node_id)
        management.throw_exception_if_processing_interrupted()
        token = _current_node.set(node_id)
        try:
            locked = cls.PREPARE_CLASS_CLONE(self.hidden(node_id, cls))
            results = [self.unpack(resolve(locked.execute(**one))) for one in calls(cls, values)]
        finally:
            _current_node.reset(token)
        return self.merge(cls.FINALIZE_SCHEMA(), results)

    @staticmethod
    def merge(schema, results):
        """(one list per output, ui) of all calls; an output that is a list adds all it holds."""
        rows = [args for args, _ in results]
        merged = []
        for slot, output in enumerate(schema.outputs or []):
            column = [args[slot] for args in rows if slot < len(args)]
            whole = output.is_output_list
            merged.append([v for value in column for v in (value if whole else [value])])
        shown = [ui for _, ui in results if ui is not None]
        together = {
            key: [v for ui in shown for v in ui[key]] for key in (shown[0] if shown else ())
        }
        return merged, together if shown else None

    def gather(self, node_id, cls):
        """A list of values per input; a lazy input's node runs only when the node asks for it."""
        inputs, schema = self.inputs(node_id), cls.FINALIZE_SCHEMA()
        lazy = {item.id for item in schema.inputs or [] if item.lazy}
        values = {}
        for name, value in inputs.items():
            if not is_link(value):
                values[name] = [value]
            else:
                values[name] = [None] if name in lazy else self.linked(value)
        waiting = {name for name in lazy if is_link(inputs.get(name))}
        while waiting:
            # Without an answer of its own the node needs all of its inputs.
            now = {name: value[0] for name, value in values.items()}
            asked = set(resolve(cls.check_lazy_status(**now)) or ()) & waiting
            if not asked:
                break
            for name in asked:
                values[name] = self.linked(inputs[name])
            waiting -= asked
        return values

    def linked(self, link):
        return self.output(link[0])[0][link[1]]

    def hidden(self, node_id, cls):
        from comfy_api.latest import io

        wanted = cls.FINALIZE_SCHEMA().hidden or []
        values = {
            io.Hidden.unique_id: node_id,
            io.Hidden.prompt: self.prompt,
            io.Hidden.extra_pnginfo: self.extra_data.get("extra_pnginfo"),
            io.Hidden.dynprompt: self.prompt,
        }
        return {member: values.get(member) for member in wanted}

    @staticmethod
    def unpack(result):
        from comfy_api.latest import io

        if result is None or isinstance(result, tuple):
            result = io.NodeOutput(*(result or ()))
        if not isinstance(result, io.NodeOutput):
            raise TypeError(f"a node returned {type(result).__name__}, not a NodeOutput")
        if result.expand is not None or result.block_execution is not None:
            raise NotImplementedError("the stand-in has no expansion and no blocking")
        ui = result.ui.as_dict() if hasattr(result.ui, "as_dict") else result.ui
        # Over the wire tuples become lists.
        return result.args, None if ui is None else json.loads(json.dumps(ui))

    def fail(self, error):
        import comfy.model_management as management

        text = str(error)
        if isinstance(error, management.OOM_EXCEPTION):
            text += "\nThe host adds advice about memory here."
            management.unload_all_models()
        kind = type(error)
        name = kind.__qualname__
        self.send(
            "execution_error",
            node_id=self.node_id,
            node_type=self.type_now(),
            exception_message=text,
            exception_type=name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}",
            traceback=traceback.format_tb(error.__traceback__),
        )

    def on_progress(self, value, total, preview, node_id=None):
        """Hook of `comfy.utils.ProgressBar`: a point to stop at, then a report."""
        import comfy.model_management as management

        management.throw_exception_if_processing_interrupted()
        # A thread without context falls back to the node that was started last.
        node = node_id or _current_node.get() or self.node_id
        state = {"value": value, "max": total, "state": "running", "node_id": node}
        self.send("progress_state", nodes={node: state})
        if preview is not None:
            form, image, longest = preview
            self.send("preview", node=node, format=form, size=image.size, max_size=longest)
        self.send("progress", value=value, max=total, node=node)
